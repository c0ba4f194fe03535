/** Photos that have one colour only, such as grey and sepia. */
import { clamp, grey, rint } from "./images.js";

/**
 * A photo has one colour if in 95 of 100 pixels of medium lightness each channel is, on average, closer than so many levels to what
 * follows from their lightness. Compression leaves a little; white and black tell nothing.
 */
const MOST_CHROMA = 4.8;
const MEDIUM = [30, 225];
/** Of the lightness, in that colour: sepia is cut off where it would be brighter than white. */
const POWERS = 7;

/** The shades of RGB pixels that have only one colour: 256 RGB pixels, by their lightness; null if there are more colours. */
export function oneColoured(pixels) {
  const count = pixels.length / 3;
  const lightness = grey({ width: count, height: 1, data: pixels }).data;
  // Of each lightness: the number of pixels, and how far their channels are from grey, all together.
  const weights = new Float64Array(256);
  const sums = [0, 1, 2].map(() => new Float64Array(256));
  lightness.forEach((level, i) => {
    weights[level]++;
    sums.forEach((sum, c) => (sum[level] += pixels[3 * i + c] - level));
  });
  const tints = fitted(weights, sums);
  const chroma = [];
  lightness.forEach((level, i) => {
    if (level <= MEDIUM[0] || level >= MEDIUM[1]) return;
    chroma.push(tints.reduce((sum, tint, c) => sum + Math.abs(pixels[3 * i + c] - level - tint[level]), 0) / 3);
  });
  if (!chroma.length || percentile(chroma, 95) > MOST_CHROMA) return null;
  return Uint8Array.from({ length: 3 * 256 }, (_, i) => {
    const level = Math.trunc(i / 3);
    return clamp(rint(level + tints[i % 3][level]), 0, 255);
  });
}

/**
 * Polynomials of POWERS powers of the lightness, by least squares, at each of 256 levels: one for each of `sums`, which are of
 * `weights` values at each level. Beyond the levels that have any they are constant.
 */
function fitted(weights, sums) {
  const [darkest, lightest] = [weights.findIndex(Boolean), weights.findLastIndex(Boolean)];
  const total = (values, factors = weights) => values.reduce((sum, value, i) => sum + value * factors[i], 0);
  const places = weights.map((_, level) => (2 * (clamp(level, darkest, lightest) - darkest)) / (lightest - darkest || 1) - 1);
  const results = sums.map(() => new Float64Array(256));
  // From polynomials that are orthogonal on these levels, each made of the two before it (Forsythe 1957).
  let last = new Float64Array(256);
  let polynomial = last.map(() => 1);
  let lastNorm = Infinity;
  for (let power = 0; power < POWERS; power++) {
    const norm = total(polynomial.map((value) => value * value));
    if (norm < 1e-20 * weights.reduce((a, b) => a + b)) break; // There are fewer levels than powers.
    sums.forEach((sum, c) => {
      const part = total(polynomial, sum) / norm;
      polynomial.forEach((value, level) => (results[c][level] += part * value));
    });
    const middle = total(polynomial.map((value, level) => value * value * places[level])) / norm;
    const next = polynomial.map((value, level) => (places[level] - middle) * value - (norm / lastNorm) * last[level]);
    [last, polynomial, lastNorm] = [polynomial, next, norm];
  }
  return results;
}

/** As NumPy has it: between two values, in proportion. */
function percentile(values, percent) {
  const sorted = Float64Array.from(values).sort();
  const place = (percent / 100) * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return below + (place % 1) * (above - below);
}
