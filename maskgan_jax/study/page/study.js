// The study, as a jsPsych timeline: consent and id, then for each task instructions, practice and trials; goes on after a reload.

import { Answers, Refusal, request } from "./answers.js";
import { JudgePlugin } from "./judge.js";

const display = document.getElementById("study");
const progress = document.getElementById("progress");
const status = document.getElementById("status");

const PROMPTS = {
  expression: "Which expression do you see?",
  quality: "How good is the picture?",
  choice: "Which face looks more like a real photograph?",
  real: "Is this a real photograph?",
};
const LABELS = { left: "Left", right: "Right", yes: "Real", no: "Not real" };
const HINTS = { 1: "worst", 7: "best" };
const KEYS = { left: ["ArrowLeft", "←"], right: ["ArrowRight", "→"], yes: ["r"], no: ["n"] };
const TASKS = {
  rating: {
    title: "Expression and quality",
    text: "You see one face at a time. First choose its expression, as quickly as you can be sure. Then say how good the picture is, from 1 (worst) to 7 (best): is it a face as on a photograph, without faults?",
    practice: [["0.png"], ["1.png"]],
  },
  pair: {
    title: "Which of two",
    text: "You see two pictures of the same face side by side. Choose the one that looks more like a real photograph. If you cannot tell, choose the one that you would guess.",
    practice: [["0.png", "1.png"]],
  },
  real: {
    title: "Real or not",
    text: "You see one face at a time. Say whether it is a real photograph, or whether a part of it was drawn by a computer program.",
    practice: [["0.png"], ["1.png"]],
  },
};

/** Devices with a keyboard, as far as browsers tell; others show no keys. */
const KEYBOARD = matchMedia("(hover: hover) and (pointer: fine)");

/** Text as HTML: whatever comes from the server is text. */
function escaped(text) {
  return Object.assign(document.createElement("p"), { textContent: text }).innerHTML;
}

/** A page of text: a heading, paragraphs. */
function page(title, paragraphs) {
  return `<h1>${escaped(title)}</h1>${paragraphs.map((text) => `<p>${escaped(text)}</p>`).join("")}`;
}

function show(title, paragraphs) {
  display.innerHTML = page(title, paragraphs);
}

function questions(trial) {
  return Object.entries(trial.questions).map(([name, values]) => ({
    name,
    prompt: PROMPTS[name],
    choices: values.map((value, place) => {
      const [key, shown] = KEYS[value] ?? [String(place + 1)];
      const label = LABELS[value] ?? String(value);
      // Of a number, the key is the label.
      return { value, label: label[0].toUpperCase() + label.slice(1), key, shown: label === key ? "" : (shown ?? key.toUpperCase()), hint: HINTS[value] ?? "" };
    }),
  }));
}

/** Loads images, several at once, and keeps them: no connection is needed to show them. Tries again while there is none. */
async function load(paths, say) {
  const images = new Map();
  const left = [...paths];
  const loadOne = async () => {
    for (let path; (path = left.pop()); ) {
      const image = new Image();
      image.src = path;
      try {
        await image.decode();
        images.set(path, image);
      } catch {
        left.push(path);
        // The image alone does not tell what the server said.
        const why = await request(path).catch((error) => error instanceof Refusal && error.message);
        say(`A picture cannot be loaded${why ? `: ${why}` : ""}; trying again.`);
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
      display.querySelector("progress").value = images.size / paths.length;
    }
  };
  show("Loading the pictures", []);
  display.append(Object.assign(document.createElement("progress"), { value: 0, ariaLabel: "Loading" }));
  await Promise.all(Array.from({ length: 6 }, loadOne));
  say("");
  return images;
}

/** Consent and the rater's id, until the server has taken them. */
async function join(answers, study, consent) {
  let name = Array.from(crypto.getRandomValues(new Uint8Array(5)), (byte) => "bcdfghjkmnpqrstvwxz"[byte % 19]).join("");
  let session;
  let wrong = "";
  const jsPsych = initJsPsych({ display_element: display });
  const form = {
    type: jsPsychSurveyHtmlForm,
    html: () => `${page("Welcome", consent)}
      <p><label><input type="checkbox" required ${wrong && "checked"}> I have read this, I am of age, and I take part.</label></p>
      <p><label for="rater">Your id (keep it, or take one that you were given; not your name)</label>
      <input id="rater" name="rater" value="${name}" required pattern="[A-Za-z0-9_][A-Za-z0-9_\\-]{0,31}" maxlength="32"
        title="1 to 32 letters, digits, hyphens and underscores, no hyphen first" autocomplete="off" autocapitalize="none"
        spellcheck="false" aria-describedby="wrong"></p>
      <p id="wrong" role="alert">${escaped(wrong)}</p>`,
    autofocus: () => (wrong ? "rater" : ""),
    button_label: "Begin",
    data: { form: true },
  };
  const send = {
    type: jsPsychCallFunction,
    async: true,
    func: async (done) => {
      name = jsPsych.data.get().filter({ form: true }).last(1).values()[0].response.rater;
      try {
        session = await request("/session", { key: answers.key, rater: name, study });
      } catch (error) {
        const why = error instanceof Refusal ? error.message : "there is no connection; try again";
        wrong = `${why[0].toUpperCase()}${why.slice(1)}.`;
      }
      done();
    },
  };
  await jsPsych.run([{ timeline: [form, send], loop_function: () => !session }]);
  return session;
}

/** The instructions of a task, and its trials that have no answer yet. */
function task(name, trials, images, answers, seenBefore) {
  const { title, text, practice } = TASKS[name];
  const judge = (trial, shown) => ({ type: JudgePlugin, images: shown, questions: questions(trial) });
  const { begun } = answers;
  const button = (heading, paragraphs, label) => ({
    type: jsPsychHtmlButtonResponse,
    stimulus: page(heading, paragraphs),
    choices: [label],
    on_load: () => display.querySelector("button").focus(),
  });
  const keys = `Answer by tapping a button${KEYBOARD.matches ? ", or with the key that is written on it" : ""}.`;
  const begin = seenBefore
    ? [button(title, ["Welcome back. The study goes on where you stopped.", text, keys], "Go on")]
    : [
        button(title, [text, keys, "First some practice, which does not count."], "Practise"),
        ...practice.map((files) => judge(trials[0], files.map((file) => images.get(`/practice/${file}`).cloneNode()))),
        button("Ready", [`That was the practice. Now ${trials.length} trials follow.`], "Start"),
      ];
  return [
    ...begin,
    ...trials.map((trial) => ({
      ...judge(trial, trial.images.map((path) => images.get(path))),
      seen: trial.id === begun,
      on_start: () => answers.keep("begun", trial.id),
      on_finish: ({ given, milliseconds, scale }) => {
        answers.add({ trial: trial.id, given, milliseconds, scale });
        progress.value += 1;
      },
    })),
  ];
}

/** Resolves once no other tab has this study open; rejects if one stays. Browsers tell only on HTTPS and on localhost. */
function alone(study) {
  if (!navigator.locks) return;
  return new Promise((resolve, reject) => {
    // A page that is loaded again may have to wait for itself; the lock is held until the tab is closed.
    const options = { signal: AbortSignal.timeout(3000) };
    navigator.locks
      .request(`maskgan ${study}`, options, () => (resolve(), new Promise(() => {})))
      .catch(() => reject(new Refusal("The study is open in another tab: go on there, or close it")));
  });
}

async function main() {
  const { study, consent } = await request("/study");
  await alone(study);
  const answers = new Answers(study, (sentence) => (status.textContent = sentence));
  let session = await request("/session", { key: answers.key });
  if (!session.rater) session = await join(answers, study, consent);
  // An answer that still waits here, or was refused, counts as given: nobody is asked twice.
  const done = new Set([...session.answered, ...[...answers.waiting, ...answers.refused].map(({ trial }) => trial)]);
  const left = session.trials.filter(({ id }) => !done.has(id));
  answers.send();
  if (left.length) {
    const practice = ["/practice/0.png", "/practice/1.png"];
    const images = await load([...new Set([...practice, ...left.flatMap((trial) => trial.images)])], answers.show);
    Object.assign(progress, { max: session.trials.length, value: done.size, hidden: false });
    const names = [...new Set(left.map((trial) => trial.task))];
    display.replaceChildren();
    const jsPsych = initJsPsych({ display_element: display });
    await jsPsych.run(
      names.flatMap((name) => {
        const of = (trials) => trials.filter((trial) => trial.task === name);
        return task(name, of(left), images, answers, of(left).length < of(session.trials).length);
      }),
    );
  }
  show("One moment", ["The last answers are being stored. Please leave this page open."]);
  await answers.allStored();
  progress.hidden = true;
  const stored = answers.refused.length
    ? `The study refused ${answers.refused.length} of your answers: please tell who runs it. The others are stored.`
    : "All your answers are stored.";
  show("Thank you", [`${stored} Your id is ${session.rater}. You can close this page.`]);
}

main().catch((error) => {
  show("The study cannot go on", [
    error instanceof Refusal ? `${error.message}.` : "There is no connection to the study.",
    "No answer is lost. Please load this page again in a while.",
  ]);
  console.error(error);
});
