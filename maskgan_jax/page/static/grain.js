/** Grain for what was drawn: fine texture like that of the visible skin, which a generator of fewer pixels cannot draw. */
import { combined, copyImage, crop, emptyImage, gaussianBlur, grey, histograms, quantile, resizeArea, rint } from "./images.js";
import { boundingRect, dilate, square as squareElement } from "./morphology.js";
import { fillHull } from "./points.js";

/** The visible skin reaches this much above the brows, as a fraction of the distance from the chin to the bridge of the nose. */
const FOREHEAD = 0.2;
/** Around brows and eyes, as a fraction of the width of the face, it does not count. */
const EYE_MARGIN = 0.04;
/** Skin differs from the median of the drawn skin by no more than this many levels. */
const TONE = 40;
/** Texture is measured in blocks of so many standard deviations of the blur that takes it away, if there are enough: their median. */
const BLOCK = 4;
const LEAST_BLOCKS = 12;
/** Beside the face it fades, by a blur with this standard deviation, as a fraction of the width of the face. */
const FADE = 0.02;
/** Coarser texture, by the standard deviation of that blur in pixels, is not grain. */
const COARSEST = 8;
/** Noise repeats after so many pixels of a photo. */
const NOISE_SIDE = 512;

/**
 * The texture that a redrawn face lacks, in levels, to be added to each colour: an image of the window.
 *
 * `mask`: of the window, what is redrawn here. `redrawn`: of the photo, what is redrawn anywhere: no skin that can be seen.
 */
export function faceGrain(photo, face, window, mask, redrawn) {
  const landmarks = face.landmarks.map(([x, y]) => [x - window.x, y - window.y]);
  const { area, skin } = faceAndSkin(landmarks, window);
  const inside = combined((a, b) => a & b, area, mask);
  const result = emptyImage(window.width, window.height, 1, Float32Array);
  if (!inside.data.some(Boolean)) return result;
  // Skin is looked at where it is, and drawn where it is hidden: each is about half of the window.
  const below = box(inside, rint(3 * FADE * widthOf(landmarks)));
  const place = { ...below, x: window.x + below.x, y: window.y + below.y };
  const drawn = face.square.putBack(face.after, place);
  const part = crop(inside, below);
  const tone = histograms(drawn, (i) => part.data[i]).map((counts) => quantile(counts, 0.5));
  const known = crop(photo, window);
  const visible = combined((isSkin, isHidden) => (isSkin && !isHidden ? 255 : 0), skin, crop(redrawn, window));
  const [red, green, blue] = tone;
  const differs = (level, from) => Math.abs(level - from) > TONE;
  for (let i = 0, at = 0; i < visible.data.length; i++, at += 3) {
    const isOther = differs(known.data[at], red) || differs(known.data[at + 1], green) || differs(known.data[at + 2], blue);
    if (isOther) visible.data[i] = 0;
  }
  const above = box(visible);
  if (!above.width) return result;
  const scale = face.square.side / face.square.size;
  const added = grain(crop(known, above), crop(visible, above), drawn, part, noiseAt(place), scale).data;
  // Nothing is added beside the face, where there may be a smooth background.
  const fade = gaussianBlur(crop(area, below), FADE * widthOf(landmarks)).data;
  for (let y = 0, i = 0; y < below.height; y++) {
    const start = (below.y + y) * window.width + below.x;
    for (let x = 0; x < below.width; x++, i++) result.data[start + x] = added[i] * (fade[i] / 255);
  }
  return result;
}

/** Normal numbers by Box and Muller's method, from what MurmurHash3 makes of 1, 2, 3 ... */
export function whiteNoise(count) {
  const uniform = (bits) => {
    for (const [shift, factor] of [[16, 0x85ebca6b], [13, 0xc2b2ae35], [16, 1]]) bits = Math.imul(bits ^ (bits >>> shift), factor);
    return ((bits >>> 0) + 0.5) / 2 ** 32;
  };
  const normal = (i) => Math.sqrt(-2 * Math.log(uniform(i + 1))) * Math.cos(2 * Math.PI * uniform(count + i + 1));
  return Float32Array.from({ length: count }, (_, i) => normal(i));
}

let tile;

/** Noise for a part of a photo: each pixel has its own, so that a window that begins or ends a pixel later gets no other. */
function noiseAt({ x, y, width, height }) {
  tile ??= whiteNoise(NOISE_SIDE ** 2);
  const result = emptyImage(width, height, 1, Float32Array);
  for (let v = 0, to = 0; v < height; v++) {
    const row = ((y + v) % NOISE_SIDE) * NOISE_SIDE;
    for (let u = 0; u < width; u++, to++) result.data[to] = tile[row + ((x + u) % NOISE_SIDE)];
  }
  return result;
}

/** The part of a mask that holds all that is marked, and a margin around it. */
function box(mask, margin = 0) {
  const { x, y, width, height } = boundingRect(mask);
  const [left, top] = [Math.max(x - margin, 0), Math.max(y - margin, 0)];
  const [right, bottom] = [Math.min(x + width + margin, mask.width), Math.min(y + height + margin, mask.height)];
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/**
 * Noise with which drawn skin has as much texture as visible skin.
 *
 * Lightness is split into octaves. White noise gets in each the power by which the drawn skin falls short of the visible skin.
 * `known` is a part of the photo with its `visible` skin; `drawn` is what was drawn, with its `redrawn` skin; `noise` is white, of
 * the same size. `scale`: pixels of the photo for each pixel that the generator drew.
 */
export function grain(known, visible, drawn, redrawn, noise, scale) {
  const result = emptyImage(redrawn.width, redrawn.height, 1, Float32Array);
  const lightness = [known, drawn].map(grey).map((image) => ({ ...image, data: new Float32Array(image.data) }));
  let layers = [...lightness, noise];
  for (let sigma = 1; sigma <= Math.max(Math.min(2 * scale, COARSEST), 1); sigma *= 2) {
    const block = BLOCK * sigma;
    const inside = [visible, redrawn].map((mask) => blockMeans(mask, block).map((mean) => (mean === 255 ? 1 : 0)));
    if (inside.some((blocks) => blocks.reduce((a, b) => a + b, 0) < LEAST_BLOCKS)) break; // There are even fewer larger ones.
    // Blurs add up by their squares.
    const blurred = layers.map((layer) => gaussianBlur(layer, Math.sqrt(sigma ** 2 - Math.floor(sigma / 2) ** 2)));
    const [wanted, present, octave] = layers.map((layer, k) => {
      const difference = copyImage(layer);
      for (let i = 0; i < difference.data.length; i++) difference.data[i] -= blurred[k].data[i];
      return difference;
    });
    const missing = power(wanted, inside[0], block) - power(present, inside[1], block);
    if (missing > 0) {
      const factor = Math.sqrt(missing) / deviation(octave.data);
      for (let i = 0; i < result.data.length; i++) result.data[i] += factor * octave.data[i];
    }
    layers = blurred;
  }
  return result;
}

/** The median, over the blocks that are marked, of the mean squares in them. */
function power(octave, marked, block) {
  const means = blockMeans({ ...octave, data: octave.data.map((value) => value * value) }, block);
  const powers = means.filter((_, i) => marked[i]).sort();
  return (powers[(powers.length - 1) >> 1] + powers[powers.length >> 1]) / 2;
}

/** The means of the blocks of so many pixels that fit into an image, from its first pixel on. */
function blockMeans(image, block) {
  const [width, height] = [Math.floor(image.width / block), Math.floor(image.height / block)];
  if (!width || !height) return image.data.slice(0, 0);
  return resizeArea(crop(image, { x: 0, y: 0, width: width * block, height: height * block }), width, height).data;
}

function deviation(values) {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

/** The face from the chin to the forehead, and the same without brows and eyes, as masks. */
function faceAndSkin(landmarks, { width, height }) {
  const filled = (points) => fillHull(emptyImage(width, height), points);
  const part = (...ranges) => ranges.flatMap((range) => landmarks.slice(...range));
  const up = [0, 1].map((k) => FOREHEAD * (landmarks[27][k] - landmarks[8][k]));
  const area = filled([...landmarks, ...landmarks.slice(17, 27).map(([x, y]) => [x + up[0], y + up[1]])]);
  const browsAndEyes = combined((a, b) => a | b, filled(part([17, 22], [36, 42])), filled(part([22, 27], [42, 48])));
  const reach = 2 * rint(EYE_MARGIN * widthOf(landmarks)) + 1;
  return { area, skin: combined((a, b) => (b ? 0 : a), area, dilate(browsAndEyes, squareElement(reach))) };
}

function widthOf(landmarks) {
  return Math.hypot(landmarks[16][0] - landmarks[0][0], landmarks[16][1] - landmarks[0][1]);
}
