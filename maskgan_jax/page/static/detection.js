/** Faces in photos, masked or not, by CenterFace (Xu et al. 2019): a box and five points of each. */
import { resizeArea, resizeLinear, rint } from "./images.js";

/** The longest sides at which a photo is searched; the second is left out for photos that are not much larger than the first. */
const SEARCHED_SIDES = [512, 1280];
const LEAST_SCORE = 0.5;
/** Boxes that overlap by more than this fraction of their union are of one face. */
const SAME_FACE = 0.3;
/** Pixels to a cell of the detector's output; and the sides of its input must be multiples of this. */
const CELL = 4;
const MULTIPLE = 32;

/**
 * The faces in a photo, the largest first: { box: [left, top, right, bottom], score, points: [[x, y] * 5] }.
 *
 * `run` is the network: from `picture` [1, 3, H, W], levels of 0 to 255, to { heat, sizes, offsets, points }.
 */
export async function detectFaces(photo, run, sides = SEARCHED_SIDES) {
  const longest = Math.max(photo.width, photo.height);
  let found = await search(photo, run, sides[0]);
  for (const side of sides.slice(1)) {
    if (longest > 1.5 * sides[0]) found = found.concat(await search(photo, run, Math.min(side, longest)));
  }
  const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  return distinct(found).sort((a, b) => area(b) - area(a));
}

async function search(photo, run, side) {
  const { width, height } = photo;
  const scale = side / Math.max(width, height);
  // The photo as a whole is stretched a little, so that its sides are multiples.
  const [across, down] = [width, height].map((length) => Math.max(rint((length * scale) / MULTIPLE), 1) * MULTIPLE);
  const small = (scale < 1 ? resizeArea : resizeLinear)(photo, across, down);
  const pixels = across * down;
  const picture = new Float32Array(3 * pixels);
  for (let i = 0; i < pixels; i++) for (let c = 0; c < 3; c++) picture[c * pixels + i] = small.data[3 * i + c];
  const output = await run({ picture: [picture, [1, 3, down, across]] });

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
  return found;
}

/** Of detections that overlap, the one with the best score. */
function distinct(found) {
  const kept = [];
  for (const face of [...found].sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(face.box, other.box) <= SAME_FACE)) kept.push(face);
  }
  return kept;
}

function overlap(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}
