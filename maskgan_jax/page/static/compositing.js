/** Redrawn faces go back into their photo. Each is worked on in the window of its square alone, however large the photo is. */
import { combined, copyImage, crop, emptyImage, rint } from "./images.js";
import { faceGrain } from "./grain.js";
import { boundingRect, dilate, distanceTransform, square as squareElement } from "./morphology.js";
import { distance, eyes, fillHull } from "./points.js";

/** By how much a mask that was found is grown, as a fraction of the side: over this width the drawn face is blended with the photo. */
export const RIM = 1 / 64;
/** Width of the soft edge within any mask, likewise. */
const SOFT_EDGE = 1 / 256;
/** Added to the distance from a face, in sides of its square, of what the face does not hold: more than any distance. */
const ELSEWHERE = 1000000;

/**
 * A photo with its redrawn faces, the largest in front: { result, redrawn }, where `redrawn` is a mask of what was redrawn.
 *
 * `faces` are all that were found, the largest first. `nearest`, if a mask was given, is what `nearestFaces` gives: a face is
 * redrawn where it has its number. `grain`: whether what was drawn gets the photo's grain.
 */
export function composite(photo, faces, { nearest, grain = false } = {}) {
  const result = copyImage(photo);
  const parts = redrawnParts(photo, faces, nearest);
  const redrawn = union(photo, parts);
  for (const part of parts.reverse()) {
    const { face, window, mask } = part;
    const added = grain && faceGrain(photo, face, window, mask, redrawn);
    // All of the mask, whichever face is redrawn there.
    const given = nearest && combined((number, inside) => (number < 0 ? 0 : inside), crop(nearest, window), face.square.inside(window));
    paste(result, part, { given, grain: added });
  }
  return { result, redrawn };
}

/** Where a photo was redrawn, whether or not what was drawn differs from it: a mask. */
export function union(photo, parts) {
  const result = emptyImage(photo.width, photo.height);
  for (const { window, mask } of parts) {
    for (let y = 0, i = 0; y < window.height; y++) {
      const start = (window.y + y) * photo.width + window.x;
      for (let x = 0; x < window.width; x++, i++) result.data[start + x] |= mask.data[i];
    }
  }
  return result;
}

/**
 * Each square that was redrawn: { face, window, mask, hidden }. The rest of a face comes before the face itself, on which it was
 * drawn. `hidden` is where a larger face is in front; there, a mask that was found is not redrawn.
 */
export function redrawnParts(photo, faces, nearest) {
  const parts = [];
  faces.forEach((face, number) => {
    for (const part of [...face.rest].reverse().concat(face)) {
      if (!part.after) continue;
      const window = part.square.window(photo);
      if (window.width <= 0 || window.height <= 0) continue;
      let mask = nearest
        ? combined((nearestNumber) => (nearestNumber === number ? 255 : 0), crop(nearest, window))
        : part.square.putMaskBack(part.mask, window);
      mask = combined((a, b) => a & b, mask, part.square.inside(window));
      const hidden = emptyImage(window.width, window.height);
      if (!nearest) for (const other of faces.slice(0, number)) markHidden(hidden, other, part, window);
      parts.push({ face: part, window, mask: combined((a, b) => a & ~b, mask, hidden), hidden });
    }
  });
  return parts;
}

/** Marks where another face is in front of a face: within its landmarks, and nearer to its nose than to the face's own. */
function markHidden(hidden, other, face, window) {
  const meets = ["width", "height"].every((side, axis) => {
    const [start, points] = [[window.x, window.y][axis], other.landmarks.map((point) => point[axis])];
    return Math.min(...points) < start + window[side] && Math.max(...points) >= start;
  });
  if (!meets) return;
  const hull = fillHull(
    emptyImage(window.width, window.height),
    other.landmarks.map(([x, y]) => [x - window.x, y - window.y]),
  );
  hull.data.forEach((inside, i) => {
    if (!inside) return;
    const pixel = [window.x + (i % window.width), window.y + Math.floor(i / window.width)];
    if (distance(pixel, other.landmarks[33]) < distance(pixel, face.landmarks[33])) hidden.data[i] = 255;
  });
}

/**
 * A mask divided among faces: an image of an Int16Array, the number of a face where it hides, else -1.
 *
 * Of the faces whose square holds a pixel, it belongs to the one whose nose is nearest, in sides of its square; a face that is
 * left out has only what lies within its landmarks. What no face holds belongs to the nearest of all.
 */
export function nearestFaces(mask, faces) {
  const { width, height } = mask;
  const nearest = Int16Array.from(mask.data, (hidden) => (hidden > 127 ? 0 : -1));
  const least = new Float64Array(nearest.length).fill(Infinity);
  faces.forEach(({ landmarks, square, leftOut }, number) => {
    const held = leftOut ? fillHull(emptyImage(width, height), landmarks) : square.inside({ x: 0, y: 0, width, height });
    const { side } = square;
    for (let i = 0; i < nearest.length; i++) {
      if (nearest[i] < 0) continue;
      const away = distance([i % width, Math.floor(i / width)], landmarks[33]) / side + (held.data[i] ? 0 : ELSEWHERE);
      if (away < least[i]) [nearest[i], least[i]] = [number, away];
    }
  });
  return { ...mask, data: nearest };
}

/**
 * Puts a square that was redrawn into its photo, which is changed, with a soft edge inside its mask; no pixel outside it changes.
 *
 * If there are any, `given` (if a mask was given, all of it) and `grain` (levels to be added to what was drawn) are those of the
 * square's window.
 */
export function paste(photo, { face, window, ...part }, { given, grain } = {}) {
  // One more pixel on each side, from where the distance to the edge counts. The photo's own edge is none.
  const box = boundingRect(dilate(part.mask, squareElement(3)));
  const { width, height } = box;
  if (!width) return;
  const place = { x: window.x + box.x, y: window.y + box.y, width, height };
  const mask = crop(part.mask, box);
  const { side, size } = face.square;
  let weight;
  if (given) {
    const edge = softEdge(crop(given, box), side * SOFT_EDGE);
    weight = (i) => (mask.data[i] ? edge[i] : 0); // No edge between two faces.
  } else {
    // Around the eyes, and at a face in front, the mask was cut off, not grown: the photo shows the face mask up to there.
    const visible = face.square.putMaskBack(eyes(face.square.toAligned(face.landmarks), size, size), place);
    const narrow = softEdge(mask, side * SOFT_EDGE);
    const wide = softEdge(combined((a, b, c) => a | b | c, mask, visible, crop(part.hidden, box)), side * RIM);
    weight = (i) => Math.min(narrow[i], wide[i]);
  }
  const drawn = face.square.putBack(face.after, place);
  const added = grain && crop(grain, box).data;
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      const w = weight(i);
      if (!w) continue;
      const at = ((place.y + row) * photo.width + place.x + column) * 3;
      for (let c = 0; c < 3; c++) {
        const known = photo.data[at + c];
        const level = added ? rint(Math.min(Math.max(drawn.data[3 * i + c] + added[i], 0), 255)) : drawn.data[3 * i + c];
        photo.data[at + c] = rint(known + w * (level - known));
      }
    }
  }
}

/** 0 outside a mask, rising to 1 over `width` pixels inside it. */
function softEdge(mask, width) {
  return distanceTransform(mask).map((distance) => Math.min(distance / Math.max(width, 1), 1));
}
