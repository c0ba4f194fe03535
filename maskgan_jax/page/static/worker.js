/** All computing, in a thread of its own, so that the page stays responsive. One message is answered at a time. */
import { composite } from "./compositing.js";
import { detectFaces } from "./detection.js";
import { loadSite } from "./download.js";
import { emptyImage } from "./images.js";
import { loadNetworks, stopwatch } from "./networks.js";
import { Unmasker } from "./unmasker.js";

/** Between the frames of a camera in which faces are looked for anew, they are followed by their landmarks. */
const DETECT_EVERY = 12;

let networks;
let unmasker;
let fast; // The unmasker of the camera, whose generator is loaded with its first frame.
let video;
let queue = Promise.resolve();

const answers = { load, unmask, frame };

self.onmessage = ({ data: { id, kind, ...message } }) => {
  queue = queue.then(async () => {
    try {
      const { transfer = [], ...answer } = await answers[kind](message);
      self.postMessage({ id, ...answer }, transfer);
    } catch (error) {
      self.postMessage({ id, error: sentence(error, kind) });
    }
  });
};

/** An error in words for the reader; those of the page's own are such already. */
function sentence({ name, message }, kind) {
  if (name === "RangeError" || /memory|alloc/i.test(message)) {
    if (kind === "load") return "There is not enough memory for the networks; close other pages, then reload this one.";
    return "There is not enough memory for this photo; make it smaller.";
  }
  if (/\bdevice\b.*\blost\b|\blost\b.*\bdevice\b/is.test(message)) return "The graphics processor stopped; reload this page.";
  if (/no available backend/i.test(message)) return "This browser cannot run the networks (WebAssembly with SIMD); take a newer one.";
  return message;
}

const report = (progress) => self.postMessage(progress);

async function load({ wanted }) {
  networks = await loadNetworks(await loadSite(), report, wanted);
  unmasker = new Unmasker(networks);
  const { backend, threads, difference } = networks;
  return { backend, threads, difference };
}

/** `pixels`: RGBA of a photo; `mask`: if given, what is to be redrawn. */
async function unmask({ width, height, pixels, mask }) {
  const start = performance.now();
  const startOfNetworks = stopwatch.milliseconds;
  const photo = withoutAlpha(pixels, width, height);
  const { result, faces, redrawn } = await unmasker.unmask(photo, mask && { width, height, channels: 1, data: mask });
  withAlpha(result, pixels);
  return {
    pixels,
    redrawn: redrawn.data,
    faces: faces.map(({ box, cover, leftOut, after, landmarks }) => ({ box, cover, leftOut, redrawn: Boolean(after), landmarks })),
    milliseconds: performance.now() - start,
    networkMilliseconds: stopwatch.milliseconds - startOfNetworks,
    transfer: [pixels.buffer, redrawn.data.buffer],
  };
}

/**
 * A frame of a camera, by the network for 128 px: upright faces alone, without grain, which would flicker, and without what lies
 * outside the squares. With the first frame of a camera, the faces of the last one are forgotten.
 */
async function frame({ width, height, pixels, isFirst }) {
  if (isFirst) video = { count: 0, faces: [] };
  fast ??= new Unmasker({ ...networks, generator: await networks.fast() });
  const { aligner, inpainter, detector } = fast;
  const photo = withoutAlpha(pixels, width, height);
  const isSearched = video.count++ % DETECT_EVERY === 0 || !video.faces.length;
  if (isSearched) video.faces = await fast.aligned(photo, await detectFaces(photo, detector));
  const drawn = [];
  for (const [i, found] of video.faces.entries()) {
    const followed = () => aligner.landmarks(photo, aligner.squareAround(found.landmarks), 1);
    const landmarks = isSearched ? found.landmarks : await followed();
    const face = await fast.withMask(photo, { ...found, landmarks });
    video.faces[i] = face;
    drawn.push(face.masked && !face.leftOut ? await inpainter.redraw(face) : face);
  }
  withAlpha(composite(photo, drawn).result, pixels);
  return { pixels, transfer: [pixels.buffer] };
}

function withoutAlpha(pixels, width, height) {
  const photo = emptyImage(width, height, 3);
  for (let i = 0, j = 0; j < photo.data.length; i += 4, j += 3) {
    photo.data[j] = pixels[i];
    photo.data[j + 1] = pixels[i + 1];
    photo.data[j + 2] = pixels[i + 2];
  }
  return photo;
}

function withAlpha({ data }, pixels) {
  for (let i = 0, j = 0; j < data.length; i += 4, j += 3) {
    pixels[i] = data[j];
    pixels[i + 1] = data[j + 1];
    pixels[i + 2] = data[j + 2];
  }
}
