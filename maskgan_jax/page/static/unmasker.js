/** A photo of people with masks in, the same photo without the masks out: all the steps. */
import { FaceSquare, NoSquareError } from "./align.js";
import { composite, nearestFaces, paste, redrawnParts, union } from "./compositing.js";
import { areSameFace, detectCloseUp, detectFaces, detectTurned, largestFirst } from "./detection.js";
import { FaceAligner, isFace, isFaceUpright } from "./face_aligner.js";
import { combined, copyImage } from "./images.js";
import { Inpainter } from "./inpainter.js";
import { MaskFinder, lowerFaceCover, neededCover } from "./mask_finder.js";
import { distanceTransform } from "./morphology.js";

/**
 * What a mask hides outside a face's square is drawn in three more squares, which lie BESIDE of a side to the left, to the right
 * and farther down.
 */
const BESIDE = 0.3;
/** A square is skipped if the mask covers less than LEAST_REST of it. */
const LEAST_REST = 0.0015;
/** The new squares overlap the first by OVERLAP of a side, so that no seam shows. */
const OVERLAP = 0.03;
/** What is nowhere wider than this to either side, as a fraction of the side, is filled without the generator. */
const THIN = 1 / 50;
/** If no face is as certain as this, the photo may lie on a side. */
const CERTAIN_SCORE = 0.75;
/** A face narrower than this, in pixels, shows too little to go by. */
const LEAST_WIDTH = 24;
/** Why a face is left alone, even if it wears a mask. */
const TOO_SMALL = "too small";

/**
 * Removes masks.
 *
 * A face is { box, score, landmarks, needed, square, cover, masked, mask, before, after, segmentation, rest, leftOut }: `needed` is
 * the `cover` from which on it counts as masked, `after` is null if it was left alone, `rest` is what its mask hides outside the
 * square, drawn in other squares, and `leftOut` says why it is left alone, even if it wears a mask; '' if it is not.
 */
export class Unmasker {
  /** Of the detector, as a function, and three `FaceNetwork`s. */
  constructor({ detector, landmarks, segmentation, generator }) {
    this.detector = detector;
    this.aligner = new FaceAligner(landmarks);
    this.maskFinder = new MaskFinder(segmentation);
    this.inpainter = new Inpainter(generator);
  }

  /** One photo without its masks: { result, faces, redrawn }. With a mask, only that is redrawn, whatever the network would find. */
  async unmask(photo, mask) {
    let faces = await this.find(photo);
    if (mask) {
      const nearest = nearestFaces(mask, faces);
      faces = await each(faces, (face, number) => (face.leftOut ? face : this.redrawnBy(face, mask, nearest, number)));
      return { faces, ...composite(photo, faces, { nearest, grain: true }) };
    }
    faces = await this.withRests(photo, await this.withoutMasks(photo, faces));
    return { faces, ...composite(photo, faces, { grain: true }) };
  }

  /**
   * The faces in a photo, with their landmarks and masks; the largest first.
   *
   * Upright faces first; if none of them is large, such as fill the photo; and without any that is certain, turned ones.
   */
  async find(photo) {
    const found = await this.aligned(photo, await detectFaces(photo, this.detector));
    found.push(...(await this.aligned(photo, await detectCloseUp(photo, this.detector, found))));
    if (!found.some(({ score }) => score >= CERTAIN_SCORE)) {
      found.push(...(await this.aligned(photo, await detectTurned(photo, this.detector))));
    }
    const kept = [];
    for (const face of found.sort((a, b) => b.score - a.score)) {
      if (!kept.some(({ box }) => areSameFace(face.box, box))) kept.push(face);
    }
    return each(largestFirst(kept), (face) => this.withMask(photo, face));
  }

  /** Those detections that are faces, with their landmarks. */
  async aligned(photo, found) {
    const faces = [];
    for (const face of found) {
      try {
        const landmarks = await this.aligner.landmarks(photo, this.aligner.firstSquare(face));
        if (isFace(face, landmarks) || (await isFaceUpright(photo, landmarks, this.detector))) faces.push({ ...face, landmarks });
      } catch (error) {
        if (!(error instanceof NoSquareError)) throw error;
      }
    }
    return faces;
  }

  /**
   * A found face with its mask. All views must show it, which keeps bare faces from being redrawn. Of a face that is followed and
   * was `masked` in the frame before, one view is enough: they are looked at once, and not in each frame.
   */
  async withMask(photo, { box, score, landmarks, needed, masked: wasMasked }) {
    const square = this.inpainter.square(landmarks);
    const segmentation = await this.maskFinder.look(photo, landmarks);
    const mask = segmentation.mask(square);
    let cover = segmentation.cover();
    needed ??= neededCover(segmentation.image, landmarks); // Of a face that is followed, the same as before.
    if (!wasMasked && cover >= needed) cover = Math.min(cover, await segmentation.leastCover());
    const masked = cover >= needed;
    const leftOut = box[2] - box[0] < LEAST_WIDTH ? TOO_SMALL : "";
    const before = square.cutOut(photo);
    return { box, score, landmarks, needed, square, cover, masked, mask, before, after: null, segmentation, rest: [], leftOut };
  }

  /** Faces without their masks, from back to front: each is drawn beside what was drawn of those behind it. */
  async withoutMasks(photo, faces) {
    const redrawn = [...faces];
    let drawn = photo;
    const numbers = [...faces.keys()].filter((number) => faces[number].masked && !faces[number].leftOut);
    for (const number of [...numbers].reverse()) {
      const face = faces[number];
      const before = drawn === photo ? face.before : face.square.cutOut(drawn);
      redrawn[number] = { ...(await this.inpainter.redraw({ ...face, before })), before: face.before };
      if (number === numbers[0]) break;
      drawn = drawn === photo ? copyImage(photo) : { ...drawn }; // Another object, of which nothing shrunk is kept.
      // This one; larger ones only hide it.
      for (const part of redrawnParts(photo, redrawn.slice(0, number + 1))) paste(drawn, part);
    }
    return redrawn;
  }

  /** Faces with what their masks hide outside their squares. */
  async withRests(photo, faces) {
    const parts = redrawnParts(photo, faces);
    const outside = await each(faces, (face) => this.masksOutside(photo, face, parts.filter((part) => part.face !== face)));
    if (!outside.some((masks) => masks.length)) return faces;
    // Drawn where the faces were redrawn already; the grain comes later, as the generator draws none.
    const { result: redrawn } = composite(photo, faces);
    return each(faces, async (face, number) => {
      const rest = await each(outside[number], ({ square, mask }) => {
        const part = { ...face, square, mask, before: square.cutOut(redrawn) };
        const isThin = distanceTransform(mask).reduce((a, b) => Math.max(a, b)) <= THIN * square.size;
        return isThin ? this.inpainter.fill(part) : this.inpainter.redraw(part);
      });
      return { ...face, rest };
    });
  }

  /**
   * What a redrawn face's mask hides outside its square, but for `others`, which `redrawnParts` gives, without its own:
   * [{ square, mask }].
   */
  async masksOutside(photo, face, others) {
    if (!face.after) return [];
    const { width, height } = photo;
    const edges = [[0, 0], [width, 0], [width, height], [0, height]].map((corner) => corner.map((x) => x - 0.5));
    const outside = [];
    for (const [right, down] of [[-1, 0], [1, 0], [0, 1]]) {
      const square = face.square.moved(right * BESIDE, down * BESIDE);
      const { size } = square;
      const whole = { x: 0, y: 0, width: size, height: size };
      const within = (corners) => new FaceSquare(square.toAligned(corners), size).inside(whole);
      const seen = face.segmentation;
      let mask = down ? await this.maskFinder.maskBelow(photo, seen, square) : seen.mask(square);
      const drawn = within(face.square.moved(-right * OVERLAP, -down * OVERLAP).corners);
      mask = combined((hidden, redrawn) => (redrawn ? 0 : hidden), mask, drawn);
      mask = combined((hidden, inside) => (inside ? hidden : 0), mask, within(edges));
      // Only what is near counts: with all of them, a crowd would take time by the square of its size.
      const near = others.filter(({ window }) => isNear(square, window));
      if (near.length) mask = combined((hidden, other) => (other ? 0 : hidden), mask, square.cutOut(union(photo, near)));
      const hidden = mask.data.reduce((sum, level) => sum + level, 0) / mask.data.length;
      if (hidden > 255 * LEAST_REST) outside.push({ square, mask });
    }
    return outside;
  }

  /** A face redrawn by a mask, of which the generator must see nothing, where it is the nearest; else the face itself. */
  async redrawnBy(face, given, nearest, number) {
    const part = combined((value) => (value === number ? 255 : 0), nearest);
    // All that the masks touch.
    const [hidden, mask] = [given, part].map((m) => combined((level) => (level ? 255 : 0), face.square.cutOut(m)));
    if (!mask.data.some(Boolean)) return face;
    const cover = lowerFaceCover(mask, face.square.toAligned(face.landmarks));
    return { ...face, mask, cover, after: await this.inpainter.draw(face.before, hidden) };
  }
}

/** Whether what is in a window of the photo may show in a square, or in what is blurred or reflected into it. */
function isNear(square, window) {
  const margin = square.side / 2;
  const overlaps = (k, start, size) => {
    const places = square.corners.map((corner) => corner[k]);
    return start < Math.max(...places) + margin && start + size > Math.min(...places) - margin;
  };
  return overlaps(0, window.x, window.width) && overlaps(1, window.y, window.height);
}

/** Like `Promise.all(items.map(work))`, but one after the other: there is one set of networks. */
async function each(items, work) {
  const results = [];
  for (const [i, item] of items.entries()) results.push(await work(item, i));
  return results;
}

