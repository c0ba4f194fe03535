/** The alignment of FFHQ and StyleGAN2: an upright square around eyes and mouth, cut out of the photo, and put back. */
import {
  clamp, crop, emptyImage, gaussianBlur, histograms, quantile, reflect, resizeArea, rint, warpAffine, written,
} from "./images.js";
import { fillConvexPoly } from "./morphology.js";
import { eyeCentres, mean, mouthCentre } from "./points.js";

/** Standard deviation of the blur before shrinking, over the square root of (scale ** 2 - 1). */
const BLUR = 0.42;
/** The median colour is that of every fourth row and column. */
const STEP = 4;

const plus = (a, b) => [a[0] + b[0], a[1] + b[1]];
const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];
const times = (a, factor) => [a[0] * factor, a[1] * factor];

/** Three points span no square, because all lie in one place. */
export class NoSquareError extends Error {}

/** A square in a photo, upright with respect to a face, and the size of the aligned images that are cut out of it. */
export class FaceSquare {
  /** `corners`: top left, bottom left, bottom right and top right, the outer edges of the outer pixels; pixel centres are integers. */
  constructor(corners, size) {
    this.corners = corners;
    this.size = size;
  }

  /** The square that FFHQ cuts out of a photo, `zoom` times smaller, on the middle of the same lower edge. */
  static around(landmarks, size, zoom) {
    return FaceSquare.fromPoints(...eyeCentres(landmarks), mouthCentre(landmarks), size, zoom);
  }

  /** The same by the middle of each eye and of the mouth's corners. Throws a NoSquareError if they span none. */
  static fromPoints(leftEye, rightEye, mouth, size, zoom) {
    const eyes = mean([leftEye, rightEye]);
    const eyeToEye = minus(rightEye, leftEye);
    const eyeToMouth = minus(mouth, eyes);
    let right = minus(eyeToEye, [-eyeToMouth[1], eyeToMouth[0]]);
    if (!(Math.hypot(...right) > 0)) throw new NoSquareError("the landmarks do not form an upright face");
    const length = Math.max(Math.hypot(...eyeToEye) * 2, Math.hypot(...eyeToMouth) * 1.8);
    right = times(right, length / Math.hypot(...right));
    const down = [-right[1], right[0]];
    const centre = plus(eyes, times(eyeToMouth, 0.1));
    const corners = [
      minus(minus(centre, right), down),
      plus(minus(centre, right), down),
      plus(plus(centre, right), down),
      minus(plus(centre, right), down),
    ];
    const foot = mean([corners[1], corners[2]]);
    return new FaceSquare(corners.map((corner) => plus(foot, times(minus(corner, foot), 1 / zoom))), size);
  }

  /** Its side in the photo, in pixels. */
  get side() {
    return Math.hypot(...minus(this.corners[3], this.corners[0]));
  }

  equals(other) {
    return this.size === other.size && this.corners.every((corner, i) => corner.every((x, k) => x === other.corners[i][k]));
  }

  /** The same square, moved to its right, and down, by fractions of its side. */
  moved(right, down = 0) {
    const [topLeft, bottomLeft, , topRight] = this.corners;
    const step = plus(times(minus(topRight, topLeft), right), times(minus(bottomLeft, topLeft), down));
    return new FaceSquare(this.corners.map((corner) => plus(corner, step)), this.size);
  }

  /** A square that is larger by a fraction of the side, around the middle of the same upper edge. */
  enlarged(by) {
    const top = mean([this.corners[0], this.corners[3]]);
    return new FaceSquare(this.corners.map((corner) => plus(top, times(minus(corner, top), 1 + by))), this.size);
  }

  toPhoto(points) {
    return points.map((point) => apply(this.matrix(), point));
  }

  toAligned(points) {
    const inverse = inverted(this.matrix());
    return points.map((point) => apply(inverse, point));
  }

  /** The aligned image of a photo or mask, without aliasing; continued where the photo ends. */
  cutOut(photo) {
    let { corners, side } = this;
    // Shrink, so that all that follows works on about as many pixels as it needs.
    const shrink = Math.trunc((side / this.size) * 0.5);
    if (shrink > 1) {
      const small = shrunk(photo, shrink);
      const scale = [small.width / photo.width, small.height / photo.height];
      corners = corners.map((corner) => corner.map((x, k) => (x + 0.5) * scale[k] - 0.5));
      side /= shrink;
      photo = small;
    }
    // Crop, and continue the photo where the square leaves it.
    const border = Math.max(rint(side * 0.1), 3);
    const shape = [photo.width, photo.height];
    const low = [0, 1].map((k) => Math.floor(Math.min(...corners.map((corner) => corner[k]))) - border);
    const high = [0, 1].map((k) => Math.ceil(Math.max(...corners.map((corner) => corner[k]))) + border);
    const first = low.map((x, k) => clamp(x, 0, shape[k] - 1));
    const last = high.map((x, k) => clamp(x, 1, shape[k]));
    photo = crop(photo, { x: first[0], y: first[1], width: last[0] - first[0], height: last[1] - first[1] });
    corners = corners.map((corner) => minus(corner, first));
    const missing = [...minus(first, low), ...minus(high, last)];
    if (Math.max(...missing) > border - 4) {
      const margins = missing.map((x) => Math.max(x, rint(side * 0.3), 1));
      // Only what the square needs; wider margins make the end of the photo smooth.
      const [x, y] = minus(margins, missing);
      const [width, height] = minus(high, low);
      photo = padded(photo, margins, side * 0.02, { x, y, width, height });
      corners = corners.map((corner) => plus(corner, missing));
    }
    // Remove what `size` pixels cannot show.
    if (side > this.size) photo = gaussianBlur(photo, BLUR * Math.sqrt((side / this.size) ** 2 - 1));
    return warpAffine(photo, new FaceSquare(corners, this.size).matrix(), this.size, this.size, true);
  }

  /** The part { x, y, width, height } of a photo that holds the square and one pixel around it; it may be empty. */
  window(photo) {
    const limits = [photo.width, photo.height];
    const corners = this.corners.map((corner) => corner.map(rint));
    const low = limits.map((limit, k) => clamp(Math.min(...corners.map((corner) => corner[k])) - 1, 0, limit));
    const high = limits.map((limit, k) => clamp(Math.max(...corners.map((corner) => corner[k])) + 2, 0, limit));
    return { x: low[0], y: low[1], width: high[0] - low[0], height: high[1] - low[1] };
  }

  /** The square as a mask in a window of the photo. */
  inside(window) {
    const corners = this.corners.map(([x, y]) => [rint(x) - window.x, rint(y) - window.y]);
    return fillConvexPoly(emptyImage(window.width, window.height), corners);
  }

  /** The reverse of `cutOut`: an aligned image as it lies in a window of its photo, without aliasing. */
  putBack(image, window) {
    if (this.side < this.size) image = gaussianBlur(image, BLUR * Math.sqrt((this.size / this.side) ** 2 - 1));
    return warpAffine(image, inverted(this.matrix(window)), window.width, window.height, true);
  }

  /** A mask of the aligned image as it lies in a window of the photo. */
  putMaskBack(mask, window) {
    // A little softer than it is, so that enlarged pixels leave no steps in its outline.
    const soft = gaussianBlur(mask, 0.7);
    const moved = warpAffine(soft, inverted(this.matrix(window)), window.width, window.height, false);
    for (let i = 0; i < moved.data.length; i++) moved.data[i] = moved.data[i] > 127 ? 255 : 0;
    return moved;
  }

  /** From pixels of the aligned image to pixels of a window of the photo. */
  matrix(window = { x: 0, y: 0 }) {
    const [topLeft, bottomLeft, , topRight] = this.corners.map((corner) => minus(corner, [window.x, window.y]));
    const across = times(minus(topRight, topLeft), 1 / this.size);
    const down = times(minus(bottomLeft, topLeft), 1 / this.size);
    return [0, 1].map((k) => [across[k], down[k], topLeft[k] + (across[k] + down[k]) / 2]);
  }
}

function apply(m, [x, y]) {
  return m.map((row) => row[0] * x + row[1] * y + row[2]);
}

function inverted([[a, b, c], [d, e, f]]) {
  const determinant = a * e - b * d;
  const [p, q, r, s] = [e / determinant, -b / determinant, -d / determinant, a / determinant];
  return [[p, q, -(p * c + q * f)], [r, s, -(r * c + s * f)]];
}

const shrunkPhotos = new WeakMap();

/** A photo, so many times smaller. It is kept: several squares are cut out of each photo. */
function shrunk(photo, times) {
  if (!shrunkPhotos.has(photo)) shrunkPhotos.set(photo, new Map());
  const kept = shrunkPhotos.get(photo);
  if (!kept.has(times)) {
    const sides = [photo.width, photo.height].map((side) => Math.max(1, rint(side / times)));
    kept.set(times, resizeArea(photo, ...sides));
  }
  return kept.get(times);
}

/**
 * A part of a photo that is continued beyond its edges by reflection, ever more blurred and faded to the median colour, as FFHQ does.
 *
 * The margins are all above 0; `blur` is a standard deviation in pixels; `wanted` is { x, y, width, height } of the continued photo.
 */
function padded(photo, [left, top, right, bottom], blur, wanted) {
  const { channels } = photo;
  const width = photo.width + left + right;
  const height = photo.height + top + bottom;
  const result = emptyImage(width, height, channels);
  const pixels = written(result);
  const margins = Int32Array.from({ length: left + right }, (_, i) => (i < left ? i : i + photo.width));
  const sources = margins.map((x) => reflect(x - left, photo.width) * channels);
  for (let y = 0; y < height; y++) {
    const start = reflect(y - top, photo.height) * photo.width * channels;
    const row = photo.data.subarray(start, start + photo.width * channels);
    const to = y * width * channels;
    result.data.set(row, to + left * channels);
    for (let k = 0; k < margins.length; k++) {
      const at = to + margins[k] * channels;
      for (let c = 0; c < channels; c++) result.data[at + c] = row[sources[k] + c];
    }
  }
  const scale = Math.max(1, Math.trunc(blur / 2));
  const small = resizeArea(result, Math.ceil(width / scale), Math.ceil(height / scale));
  const blurred = gaussianBlur(small, blur / scale).data;
  // 0 on the photo's edge, growing to 1 on the new edge and falling inside the photo.
  const outside = (length, before, after) =>
    Float32Array.from({ length }, (_, i) => 1 - Math.min(i / before, (length - 1 - i) / after));
  const across = outside(width, left, right);
  const down = outside(height, top, bottom);
  // Only what is wanted is blended, and the rows and columns by which the median is found; the rest stays as it is reflected.
  const isWanted = (i, first, length) => i >= first && i < first + length;
  const indices = (length, holds) => Int32Array.from({ length }, (_, i) => i).filter(holds);
  const sparse = indices(width, (x) => x % STEP === 0);
  const dense = indices(width, (x) => x % STEP === 0 || isWanted(x, wanted.x, wanted.width));
  // Where the pixels are in the small image, of which a row is enlarged at a time.
  const places = (from, to) => Float32Array.from({ length: to }, (_, i) => clamp(((i + 0.5) * from) / to - 0.5, 0, from - 1));
  const [columns, lines] = [places(small.width, width), places(small.height, height)];
  for (let y = 0; y < height; y++) {
    const isWhole = isWanted(y, wanted.y, wanted.height);
    if (!isWhole && y % STEP) continue;
    const line = rowBetween(blurred, small, lines[y]);
    for (const x of isWhole ? dense : sparse) {
      const weight = Math.min(3 * Math.max(across[x], down[y]) + 1, 1);
      if (weight <= 0) continue;
      const left = Math.floor(columns[x]);
      const fraction = columns[x] - left;
      for (let c = 0, at = (y * width + x) * channels, from = left * channels; c < channels; c++, at++, from++) {
        pixels[at] += weight * ((1 - fraction) * line[from] + fraction * line[from + channels] - pixels[at]);
      }
    }
  }
  const median = histograms(result, undefined, STEP).map((counts) => rint(quantile(counts, 0.5)));
  const cropped = crop(result, wanted);
  const faded = written(cropped);
  for (let y = 0, at = 0; y < cropped.height; y++) {
    for (let x = 0; x < cropped.width; x++, at += channels) {
      const weight = Math.min(Math.max(across[wanted.x + x], down[wanted.y + y]), 1);
      if (weight <= 0) continue;
      for (let c = 0; c < channels; c++) faded[at + c] += weight * (median[c] - faded[at + c]);
    }
  }
  return cropped;
}

/** A row of an image of this width, height and these channels, between two of its rows; its last pixel comes twice. */
function rowBetween(data, { width, height, channels }, place) {
  const length = width * channels;
  const upper = Math.floor(place);
  const lower = Math.min(upper + 1, height - 1);
  const row = new Float32Array(length + channels);
  for (let i = 0; i < length; i++) {
    row[i] = (upper + 1 - place) * data[upper * length + i] + (place - upper) * data[lower * length + i];
  }
  return row.copyWithin(length, length - channels);
}
