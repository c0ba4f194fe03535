/** dlib's 68 landmarks (iBUG 300-W), each [x, y]. Left and right are as seen in the image. */
import { emptyImage, rint } from "./images.js";
import { convexHull, dilate, ellipse, fillConvexPoly } from "./morphology.js";

export const CONTOUR = [0, 17];
const LEFT_EYE = [36, 42];
const RIGHT_EYE = [42, 48];
/** Around the landmarks of an eye, as a fraction of the image's side, nothing is ever redrawn. */
export const EYE_RIM = 1 / 64;

export function mean(points) {
  return [0, 1].map((axis) => points.reduce((sum, p) => sum + p[axis], 0) / points.length);
}

export function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}

/** The middle of the left and of the right eye. */
export function eyeCentres(landmarks) {
  return [LEFT_EYE, RIGHT_EYE].map((eye) => mean(landmarks.slice(...eye)));
}

/** The middle between the corners of the mouth. */
export function mouthCentre(landmarks) {
  return mean([landmarks[48], landmarks[54]]);
}

/** Fills the convex hull of points with 255. Changes `mask`. */
export function fillHull(mask, points) {
  return fillConvexPoly(mask, convexHull(points.map(([x, y]) => [rint(x), rint(y)])));
}

/** A mask of the eyes, which no face mask hides, with a rim of a fraction of the image's side. */
export function eyes(landmarks, width, height, rim = EYE_RIM) {
  const mask = emptyImage(width, height);
  for (const eye of [LEFT_EYE, RIGHT_EYE]) fillHull(mask, landmarks.slice(...eye));
  return dilate(mask, ellipse(2 * rint(rim * width) + 1));
}
