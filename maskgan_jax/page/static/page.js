/** The page: takes photos, shows what becomes of them, and lets masks be edited. All computing is in worker.js. */
import { Camera } from "./camera.js";
import { loadSite } from "./download.js";
import { MaskEditor } from "./mask_editor.js";
import { readPhoto, writePhoto } from "./photo_files.js";

/** Photos are shown with no more pixels than this on their longer side; what is downloaded has them all. */
const LARGEST_SHOWN = 2048;

const $ = (id) => document.getElementById(id);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const site = loadSite();

// ---- the worker ----

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
worker.onmessage = ({ data }) => {
  if (data.warning) return warn(data.warning);
  if (data.total) return showProgress(data);
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data);
};
worker.onerror = () => {
  const error = new Error("The page's scripts could not be started: check the connection and reload the page, or take a newer browser.");
  for (const { reject } of waiting.values()) reject(error);
  waiting.clear();
};

let requests = 0;
function ask(kind, message = {}, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++requests, { resolve, reject });
    worker.postMessage({ id: requests, kind, ...message }, transfer);
  });
}

// ---- what is said ----

/** Says what goes on, to screen readers too. */
function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function warn(text) {
  if ([...$("warnings").children].some((item) => item.textContent === text)) return;
  $("warnings").append(Object.assign(document.createElement("li"), { textContent: text }));
}

function fail(error) {
  say("That did not work.");
  warn(error.message);
}

function showProgress({ loaded, total }) {
  if (document.body.dataset.state === "failed") return; // Of files that are still loaded beside the one that could not be.
  $("progress").hidden = loaded >= total;
  $("progress").value = loaded / total;
  say(loaded < total ? "Loading the networks …" : "Trying out the networks …");
  $("sizes").textContent = loaded < total ? `${megabytes(loaded)} of ${megabytes(total)} MB` : "";
}

// ---- loading ----

const wanted = new URLSearchParams(location.search).get("backend") ?? undefined;
const ready = Promise.all([ask("load", { wanted }), site]).then(([{ backend, threads, difference }]) => {
  $("progress").hidden = true;
  const threadsText = threads === 1 ? "1 thread" : `${threads} threads`;
  $("backend").textContent = backend === "webgpu" ? "Runs on WebGPU." : `Runs on WebAssembly, ${threadsText}.`;
  Object.assign(document.body.dataset, { backend, threads, difference });
  if (!photo) say("Ready.");
  document.body.dataset.state = "ready";
});
ready.catch((error) => {
  $("progress").hidden = true;
  document.body.dataset.state = "failed";
  fail(error);
});

if ("serviceWorker" in navigator) navigator.serviceWorker.register("sw.js").catch(() => {});

// ---- a photo ----

let photo = null; // { width, height, pixels, type, name }, as it came.
let result = null; // { pixels, redrawn, faces }
const editor = new MaskEditor(
  $("mask"),
  $("brush"),
  () => ({ size: Number($("brush-size").value), erase: document.querySelector("[name=brush]:checked").value === "erase" }),
  () => {
    $("undo").disabled = !editor.canUndo;
    $("redo").disabled = !editor.canRedo;
    if (editor.canUndo) say("The mask has changed.");
  },
);

let opening = null; // Of several photos that are opened at once, the last one counts.

async function open(blob) {
  stopCamera();
  $("warnings").replaceChildren();
  opening = blob;
  try {
    const { notes, ...opened } = await readPhoto(blob);
    if (opening !== blob) return;
    notes.forEach(warn);
    await show(opened);
  } catch (error) {
    if (opening === blob) fail(error);
  }
}

async function show(opened) {
  photo = opened;
  result = null;
  const scale = Math.min(1, LARGEST_SHOWN / Math.max(photo.width, photo.height));
  for (const name of ["before", "after", "mask"]) {
    $(name).width = Math.max(1, Math.round(photo.width * scale));
    $(name).height = Math.max(1, Math.round(photo.height * scale));
  }
  draw($("before"), photo.pixels);
  $("stage").hidden = false;
  $("stage").focus({ preventScroll: true }); // What had the focus may be hidden now.
  $("drop").hidden = true;
  $("tools").hidden = true;
  $("caption").textContent = `${photo.name}, ${photo.width} × ${photo.height}`;
  edit(false);
  compare(100);
  await work();
}

/** Unmasks the photo; with `mask`, redraws that. */
async function work(mask) {
  const working = photo;
  busy(true);
  try {
    if (document.body.dataset.state !== "ready") say("The photo is next, when the networks are loaded.");
    await ready;
    if (working !== photo) return;
    say("Redrawing …");
    const pixels = working.pixels.slice();
    const message = { width: working.width, height: working.height, pixels, mask };
    const answer = await ask("unmask", message, [pixels.buffer]);
    if (working !== photo) return;
    result = answer;
    draw($("after"), result.pixels);
    if (!mask) editor.set({ width: photo.width, height: photo.height, data: result.redrawn });
    listFaces();
    $("tools").hidden = false;
    edit(false);
    compare(0);
    say(summary(result, mask));
    const [milliseconds, networks] = [result.milliseconds, result.networkMilliseconds].map(Math.round);
    Object.assign(document.body.dataset, { milliseconds, networks, photo: "done" });
  } catch (error) {
    if (working === photo) {
      document.body.dataset.photo = "failed";
      fail(error);
      $("drop").hidden = false;
    }
  } finally {
    if (working === photo) busy(false);
  }
}

function summary({ faces, milliseconds, networkMilliseconds }, mask) {
  const redrawn = faces.filter((face) => face.redrawn).length;
  const time = `${Math.round(milliseconds)} ms, ${Math.round(networkMilliseconds)} of them in the networks`;
  if (!faces.length) return `No face was found (${time}). A sharper picture, or more around the face, may help.`;
  if (faces.every((face) => face.leftOut)) return `No face is large enough to be redrawn (${time}).`;
  if (!redrawn && mask) return `The painted mask is on no face that can be redrawn (${time}): the photo is as it was.`;
  if (!redrawn) return `No mask was found (${time}): the photo is as it was. You can paint one.`;
  return `${redrawn} ${redrawn === 1 ? "face" : "faces"} redrawn in ${time}.`;
}

function listFaces() {
  $("faces").replaceChildren(
    ...result.faces.map(({ cover, redrawn, leftOut }) => {
      const fate = redrawn ? "redrawn" : leftOut ? `left alone, ${leftOut}` : "left alone";
      const text = `${fate}: ${Math.round(cover * 100)} % of the lower face hidden`;
      return Object.assign(document.createElement("li"), { textContent: text });
    }),
  );
  if (!result.faces.length) $("faces").replaceChildren("none");
}

function draw(canvas, pixels) {
  const whole = new OffscreenCanvas(photo.width, photo.height);
  whole.getContext("2d").putImageData(new ImageData(pixels, photo.width, photo.height), 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, 0, 0, canvas.width, canvas.height);
}

function busy(is) {
  $("spinner").hidden = !is;
  document.body.dataset.photo = is ? "working" : document.body.dataset.photo;
  $("redraw").disabled = is;
  $("download").disabled = is || !result?.faces.some((face) => face.redrawn);
}

// ---- comparing ----

/** Shows so much of the original, in percent from the left. */
function compare(percent) {
  $("slider").value = percent;
  $("after").style.clipPath = `inset(0 0 0 ${percent}%)`;
  $("divider").style.left = `${percent}%`;
  $("divider").hidden = percent <= 0 || percent >= 100;
}

$("slider").addEventListener("input", () => compare(Number($("slider").value)));
let compared = 0;
function hold(is) {
  if (is === ($("hold").getAttribute("aria-pressed") === "true")) return;
  if (is) compared = Number($("slider").value);
  compare(is ? 100 : compared);
  $("hold").setAttribute("aria-pressed", is);
}
$("hold").addEventListener("pointerdown", () => hold(true));
for (const kind of ["pointerup", "pointerleave", "pointercancel", "blur"]) $("hold").addEventListener(kind, () => hold(false));
$("hold").addEventListener("keydown", ({ key }) => [" ", "Enter"].includes(key) && hold(true));
$("hold").addEventListener("keyup", () => hold(false));

// ---- the mask ----

function edit(is) {
  $("edit").setAttribute("aria-pressed", is);
  $("mask").hidden = !is;
  $("editing").hidden = !is;
  $("slider").hidden = is;
  if (is) compare(100);
}

$("edit").addEventListener("click", () => {
  edit($("mask").hidden);
  if ($("mask").hidden) compare(0);
  else $("mask").focus({ preventScroll: true });
});
$("undo").addEventListener("click", () => editor.undo());
$("redo").addEventListener("click", () => editor.redo());
$("redraw").addEventListener("click", () => {
  const mask = editor.get(photo.width, photo.height);
  $("stage").focus({ preventScroll: true });
  if (mask.some(Boolean)) work(mask);
  else say("The mask is empty: paint what is to be redrawn.");
});
document.addEventListener("keydown", (event) => {
  if ($("mask").hidden || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
  event.preventDefault();
  if (event.shiftKey) editor.redo();
  else editor.undo();
});

// ---- photos in and out ----

$("file").addEventListener("change", () => {
  if ($("file").files.length) open($("file").files[0]);
  $("file").value = "";
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) open(file);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragged", kind === "dragover");
    if (kind !== "drop") return;
    const [file, ...others] = event.dataTransfer.files;
    if (file) open(file);
    else fail(new Error("Only files can be dropped here: save the photo first."));
    if (others.length) warn(`Only ${file.name} was opened: one photo at a time.`);
  });
}
/** Forgets the photo; what is still done with it, or another that is being opened, counts no more. */
function forget() {
  photo = result = opening = null;
  busy(false);
}

$("another").addEventListener("click", () => {
  forget();
  for (const [id, hidden] of [["stage", true], ["tools", true], ["drop", false]]) $(id).hidden = hidden;
  say("Ready.");
  $("file").focus();
});
$("download").addEventListener("click", async () => {
  try {
    const { name, blob } = await writePhoto({ ...photo, pixels: result.pixels }, (await site).label);
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(`${name} is among your downloads, labelled as synthetic.`);
  } catch {
    fail(new Error("The file cannot be made: there is not enough memory. The result is still here."));
  }
});

site.then(({ samples, version }) => {
  $("version").textContent = version;
  $("samples").append(
    ...samples.map(({ file, title }) => {
      const item = document.createElement("li");
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(Object.assign(document.createElement("img"), { src: file, alt: title }));
      button.addEventListener("click", async () => {
        try {
          const response = await fetch(file);
          if (!response.ok) throw new Error(response.statusText);
          open(new File([await response.blob()], file.split("/").pop(), { type: "image/png" }));
        } catch {
          fail(new Error("The sample could not be loaded; check the connection."));
        }
      });
      item.append(button);
      return item;
    }),
  );
}, () => {}); // `ready` says it.

// ---- the camera ----

const camera = new Camera($("video"));

$("camera").addEventListener("click", async () => {
  $("warnings").replaceChildren();
  $("camera").disabled = true; // While the browser asks whether it may be used.
  try {
    await camera.start();
  } catch (error) {
    return fail(error);
  } finally {
    $("camera").disabled = false;
  }
  if (!camera.stream) return;
  forget();
  for (const [id, hidden] of [["drop", true], ["stage", false], ["tools", true], ["camera-tools", false]]) $(id).hidden = hidden;
  edit(false);
  compare(0);
  $("slider").hidden = true;
  $("caption").textContent = "";
  $("stop").focus();
  await live(camera.stream);
});

/** Works on one frame of `stream` after another until the camera stops. */
async function live(stream) {
  let rate = 0;
  let isFirst = true;
  try {
    await ready;
    let last = performance.now();
    while (camera.stream === stream) {
      if (!stream.active) throw new Error("The camera gives no more pictures: it was unplugged, or another program took it.");
      const { width, height, pixels } = camera.frame();
      const answer = await ask("frame", { width, height, pixels, isFirst }, [pixels.buffer]);
      isFirst = false;
      if (camera.stream !== stream) return;
      for (const name of ["before", "after"]) {
        if ($(name).width !== width || $(name).height !== height) Object.assign($(name), { width, height });
      }
      $("after").getContext("2d").putImageData(new ImageData(answer.pixels, width, height), 0, 0);
      if (!rate) say("The camera is on; nothing is recorded.");
      const now = performance.now();
      rate = rate ? 0.8 * rate + 0.2 * (1000 / (now - last)) : 1000 / (now - last);
      last = now;
      $("rate").textContent = `${rate.toFixed(1)} frames per second`;
      document.body.dataset.rate = rate.toFixed(2);
      if (document.hidden) await new Promise((resolve) => setTimeout(resolve, 250));
    }
  } catch (error) {
    if (camera.stream !== stream) return;
    stopCamera();
    fail(error);
  }
}

function stopCamera() {
  if (!camera.stream) return;
  camera.stop();
  $("camera-tools").hidden = true;
  $("slider").hidden = false;
  $("stage").hidden = true;
  $("drop").hidden = false;
  $("camera").focus();
  say("The camera is off.");
}

$("stop").addEventListener("click", stopCamera);
$("snapshot").addEventListener("click", async () => {
  const frame = camera.frame(true);
  stopCamera();
  await show({ ...frame, type: "image/png", name: "camera.png" });
});
