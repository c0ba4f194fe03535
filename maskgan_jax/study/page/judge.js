// A jsPsych plugin: one image, or two side by side, and one question after the other, answered by key or tap.
//
// Times run from the frame in which the image (for later questions: the question) was painted to the key or tap, by the browser's
// own time stamps of both. A time is null if the rater was away: the page was loaded again during the trial, or it was hidden, or
// the answer took too long.

const { ParameterType } = jsPsychModule;

// Nobody answers as fast as this, in milliseconds: it is the second half of a double tap.
const FASTEST = 150;
// Who takes longer than this, in milliseconds, was away.
const SLOWEST = 600_000;

/** Resolves to the time at which what was changed just now has been painted. */
function painted() {
  return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}

/**
 * Lays an image out in whole pixels of the screen, if there is room for them; returns how many there are to one of the image's.
 * On a screen of more than one pixel to the CSS pixel, an image is about as large as on others.
 */
function layOut(image, columns) {
  const root = document.documentElement; // Its size, as that of the window changes while an image is too wide.
  const width = (root.clientWidth - 32 - 16 * (columns - 1)) / columns;
  const most = Math.min(width / image.naturalWidth, (0.55 * root.clientHeight) / image.naturalHeight) * devicePixelRatio;
  const scale = most < 1 ? most : Math.min(Math.floor(most), Math.max(1, Math.round(devicePixelRatio)));
  image.style.width = `${(scale * image.naturalWidth) / devicePixelRatio}px`;
  // Whole pixels stay sharp; a smaller image without smoothing would show faults that it has not.
  image.style.imageRendering = scale < 1 ? "auto" : "pixelated";
  return scale;
}

export class JudgePlugin {
  static info = {
    name: "judge",
    version: "1.0.0",
    parameters: {
      /** Loaded image elements, from left to right. */
      images: { type: ParameterType.COMPLEX, array: true, default: undefined },
      /** {name, prompt, choices: [{value, label, key, shown, hint}]} each; `key` as KeyboardEvent.key, whatever the case. */
      questions: { type: ParameterType.COMPLEX, array: true, default: undefined },
      /** Whether the images were shown before the page was loaded again. */
      seen: { type: ParameterType.BOOL, default: false },
    },
    data: {
      given: { type: ParameterType.OBJECT },
      milliseconds: { type: ParameterType.OBJECT },
      scale: { type: ParameterType.FLOAT },
    },
  };

  constructor(jsPsych) {
    this.jsPsych = jsPsych;
  }

  trial(display, { images, questions, seen }) {
    display.innerHTML = '<div class="faces"></div><h2 id="question" tabindex="-1"></h2><div class="choices" role="group" aria-labelledby="question"></div>';
    const [faces, heading, choices] = display.children;
    images.forEach((image, place) => {
      image.alt = images.length === 1 ? "The face" : ["The left face", "The right face"][place];
      faces.append(image);
    });
    let scale;
    const resize = () => (scale = Math.min(...images.map((image) => layOut(image, images.length))));
    resize();
    addEventListener("resize", resize);
    const given = {};
    const milliseconds = {};
    let away = false;
    const leave = () => (away = true);
    document.addEventListener("visibilitychange", leave);
    let answer = () => {};

    const ask = async ([question, ...rest]) => {
      away = seen;
      heading.textContent = question.prompt;
      choices.className = `choices of-${question.choices.length}`;
      choices.replaceChildren(
        ...question.choices.map((choice) => {
          const button = document.createElement("button");
          for (const [kind, text] of [["span", choice.label], ["kbd", choice.shown], ["small", choice.hint]]) {
            if (text) button.append(Object.assign(document.createElement(kind), { textContent: text }));
          }
          button.setAttribute("aria-keyshortcuts", choice.key);
          button.addEventListener("click", (event) => answer(choice, event.timeStamp));
          return button;
        }),
      );
      heading.focus({ preventScroll: true });
      const start = await painted();
      answer = (choice, time) => {
        if (time - start < FASTEST) return;
        answer = () => {};
        given[question.name] = choice.value;
        milliseconds[question.name] = away || time - start > SLOWEST ? null : Math.round(10 * (time - start)) / 10;
        if (rest.length) {
          ask(rest);
        } else {
          document.removeEventListener("keydown", press);
          document.removeEventListener("visibilitychange", leave);
          removeEventListener("resize", resize);
          this.jsPsych.finishTrial({ given, milliseconds, scale });
        }
      };
      asked = question;
      choices.dataset.painted = start;
    };
    let asked = questions[0];
    const press = (event) => {
      if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
      const choice = asked.choices.find((each) => each.key.toLowerCase() === event.key.toLowerCase());
      if (choice) {
        event.preventDefault();
        answer(choice, event.timeStamp);
      }
    };
    document.addEventListener("keydown", press);
    // Both images appear in one frame: they are decoded before.
    faces.style.visibility = "hidden";
    Promise.all(images.map((image) => image.decode())).finally(() => {
      faces.style.visibility = "visible";
      ask(questions);
    });
  }
}
