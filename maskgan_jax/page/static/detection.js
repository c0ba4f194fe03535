/** Faces in photos, masked or not, by CenterFace (Xu et al. 2019): a box and five points of each. */
import { bordered, clamp, crop, quarterTurned, resizeArea, resizeLinear, rint } from "./images.js";
import { components } from "./morphology.js";

/** The longest sides at which a photo is searched. */
const SEARCHED_SIDES = [512, 1280];
/**
 * A photo no larger than this many times what was searched is not searched again as a whole. What may be a small face in it is
 * looked at more closely, if the photo is larger by LARGER at least.
 */
const MUCH_LARGER = 1.6;
const LARGER = 1.5;
/** A large photo is shrunk to no less than one in so many pixels of its sides, or faces of 56 pixels leave no trace. */
const MOST_SHRUNK = 4;
const LEAST_SCORE = 0.5;
/** What is less likely a face than that, but as likely as this, is looked at again in a square, at MOST_SHRUNK times the size. */
const LEAST_TRACE = 0.1;
const CLOSER_SIDE = 256;
/**
 * If no face is this fraction of the photo's width, there may be one that fills it. Such faces are found at CLOSE_UP_SIDE, with a
 * border of the fraction BORDER of the photo around it.
 */
const LARGE_FACE = 0.25;
const CLOSE_UP_SIDE = 192;
const BORDER = 0.4;
/** A larger photo is shrunk to this before it gets the border, which makes it several times larger. */
const MOST_BORDERED = 1024;
/** Boxes that overlap by more than this fraction of their union are of one face. */
const SAME_FACE = 0.3;
/** A box that lies by this fraction of its area in another is of a part of that face, such as an eye. */
const PART_OF_FACE = 0.7;
/** Pixels to a cell of the detector's output; and the sides of its input must be multiples of this. */
const CELL = 4;
const MULTIPLE = 32;

/**
 * The upright faces in a photo, the largest first: { box: [left, top, right, bottom], score, points: [[x, y] * 5] }.
 *
 * `run` is the network: from `picture` [1, 3, H, W], levels of 0 to 255, to { heat, sizes, offsets, points }.
 */
export async function detectFaces(photo, run, sides = SEARCHED_SIDES) {
  const longest = Math.max(photo.width, photo.height);
  const finest = Math.max(sides.at(-1), Math.ceil(longest / MOST_SHRUNK));
  const [first, ...others] = [...sides.slice(0, -1), finest];
  const scales = [first / longest];
  if (longest > MUCH_LARGER * first) scales.push(...others.map((side) => Math.min(side / longest, 1)));
  const found = [];
  let traces;
  for (const scale of scales) {
    const searched = await search(photo, run, scale);
    found.push(...searched.found);
    traces = searched.traces;
  }
  const scale = scales.at(-1);
  const closer = Math.min(scale * MOST_SHRUNK, 1);
  if (closer > LARGER * scale) found.push(...(await searchCloser(photo, run, closer, beside(traces, found))));
  return largestFirst(distinct(found));
}

/**
 * As `detectFaces`, but faces that fill the photo, or reach beyond its edges.
 *
 * Without those that are `known`, and without any if one of these is large.
 */
export async function detectCloseUp(photo, run, known = []) {
  if (known.some(({ box }) => box[2] - box[0] >= LARGE_FACE * photo.width)) return [];
  const shrink = Math.max(Math.max(photo.width, photo.height) / MOST_BORDERED, 1);
  const [width, height] = [photo.width, photo.height].map((side) => Math.max(rint(side / shrink), 1));
  const border = rint(BORDER * Math.max(width, height));
  const picture = bordered(shrink > 1 ? resizeArea(photo, width, height) : photo, border, 128);
  const { found } = await search(picture, run, CLOSE_UP_SIDE / Math.max(picture.width, picture.height));
  const stretch = [photo.width / width, photo.height / height];
  const toPhoto = (point) => point.map((x, k) => (x - border + 0.5) * stretch[k] - 0.5);
  const faces = found.map((face) => placed(face, toPhoto));
  return largestFirst(faces.filter((face) => known.every(({ box }) => overlap(face.box, box) <= SAME_FACE)));
}

/** As `detectFaces`, but faces that lie on a side or stand on their head. Many come twice, once with wrong points. */
export async function detectTurned(photo, run) {
  const found = [];
  let turned = photo;
  let toPhoto = (point) => point;
  for (let quarters = 1; quarters <= 3; quarters++) {
    // Its right edge comes to the top.
    const { width } = turned;
    const before = toPhoto;
    toPhoto = ([x, y]) => before([width - 1 - y, x]);
    turned = quarterTurned(turned);
    for (const face of await detectFaces(turned, run)) found.push(placed(face, toPhoto));
  }
  return found;
}

/** Detections in a photo that is resized by `scale`, and traces of others, [x, y] in pixels of the photo: { found, traces }. */
async function search(photo, run, scale) {
  const { width, height } = photo;
  // The photo as a whole is stretched a little, so that its sides are multiples.
  const [across, down] = [width, height].map((length) => Math.max(rint((length * scale) / MULTIPLE), 1) * MULTIPLE);
  const small = (scale < 1 ? resizeArea : resizeLinear)(photo, across, down);
  const output = await run({ picture: planes(small) });

  const columns = across / CELL;
  const cells = columns * (down / CELL);
  // From pixel edges, where the detector counts from 0, to pixel centres.
  const toPhoto = (x, y) => [(x * width) / across - 0.5, (y * height) / down - 0.5];
  const found = [];
  for (let i = 0; i < cells; i++) {
    const score = output.heat[i];
    if (!(score > LEAST_SCORE)) continue;
    const tall = Math.exp(output.sizes[i]) * CELL;
    const wide = Math.exp(output.sizes[cells + i]) * CELL;
    const y = (output.offsets[i] + Math.floor(i / columns) + 0.5) * CELL;
    const x = (output.offsets[cells + i] + (i % columns) + 0.5) * CELL;
    const [left, top] = [x - wide / 2, y - tall / 2];
    // Points come as (y, x), as fractions of the box.
    const point = (k) => toPhoto(output.points[(2 * k + 1) * cells + i] * wide + left, output.points[2 * k * cells + i] * tall + top);
    found.push({ box: [...toPhoto(left, top), ...toPhoto(left + wide, top + tall)], score, points: [0, 1, 2, 3, 4].map(point) });
  }
  const likely = { width: columns, data: Uint8Array.from(output.heat, (score) => (score > LEAST_TRACE ? 1 : 0)) };
  const traces = components(likely, 1, true).map((part) => {
    const centre = (coordinate) => part.reduce((sum, i) => sum + coordinate(i), 0) / part.length;
    return toPhoto((centre((i) => i % columns) + 0.5) * CELL, (centre((i) => Math.floor(i / columns)) + 0.5) * CELL);
  });
  return { found: distinct(found), traces };
}

/** An image as the network takes it: its levels, one colour after the other, and their shape. */
export function planes({ width, height, data }) {
  const pixels = width * height;
  const values = new Float32Array(3 * pixels);
  for (let i = 0; i < pixels; i++) for (let c = 0; c < 3; c++) values[c * pixels + i] = data[3 * i + c];
  return [values, [1, 3, height, width]];
}

/** Searches the surroundings of traces, resized by `scale`. */
async function searchCloser(photo, run, scale, traces) {
  const found = [];
  const side = rint(CLOSER_SIDE / scale);
  const [width, height] = [photo.width, photo.height].map((length) => Math.min(length, side));
  while (traces.length) {
    const x = clamp(rint(traces[0][0] - side / 2), 0, photo.width - width);
    const y = clamp(rint(traces[0][1] - side / 2), 0, photo.height - height);
    // Those well inside this square need none of their own.
    const isFar = ([u, v]) => Math.max(Math.abs(u - x - side / 2), Math.abs(v - y - side / 2)) > side / 4;
    traces = traces.slice(1).filter(isFar);
    const faces = (await search(crop(photo, { x, y, width, height }), run, scale)).found;
    found.push(...faces.map((face) => placed(face, ([u, v]) => [u + x, v + y])));
  }
  return found;
}

/** Those of the traces that lie in no box that was found. */
function beside(traces, found) {
  return traces.filter(([x, y]) => found.every(({ box }) => !(x > box[0] && y > box[1] && x < box[2] && y < box[3])));
}

/** A detection whose places are mapped by a function of [x, y]. */
function placed({ box, score, points }, place) {
  const [a, b] = [place(box.slice(0, 2)), place(box.slice(2))];
  const corners = [Math.min, Math.max].flatMap((outer) => [outer(a[0], b[0]), outer(a[1], b[1])]);
  return { box: corners, score, points: points.map(place) };
}

/** Detections or faces, the largest first. */
export function largestFirst(found) {
  return [...found].sort((a, b) => area(b.box) - area(a.box));
}

/** Of detections that overlap, the one with the best score. */
function distinct(found) {
  const kept = [];
  for (const face of [...found].sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(face.box, other.box) <= SAME_FACE)) kept.push(face);
  }
  return kept;
}

/** The intersection of two boxes over their union, 0 to 1. */
export function overlap(a, b) {
  return shared(a, b) / (area(a) + area(b) - shared(a, b));
}

/** Whether two boxes are of one face, or one of them is of a part of it. */
export function areSameFace(a, b) {
  return overlap(a, b) > SAME_FACE || shared(a, b) > PART_OF_FACE * Math.min(area(a), area(b));
}

/** The area of the intersection of two boxes. */
function shared(a, b) {
  const [width, height] = [0, 1].map((k) => Math.max(0, Math.min(a[k + 2], b[k + 2]) - Math.max(a[k], b[k])));
  return width * height;
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}
