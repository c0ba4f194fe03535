/** What is under a face mask, drawn by the generator. */
import { FaceSquare } from "./align.js";
import { RIM } from "./compositing.js";
import { combined, grey, rint } from "./images.js";
import { dilate, ellipse } from "./morphology.js";
import { oneColoured } from "./one_colour.js";
import { eyes } from "./points.js";
import { telea } from "./telea.js";

/** Less of the square than this fraction cannot tell whether a photo has one colour. */
const LEAST_VISIBLE = 0.1;

export class Inpainter {
  constructor(generator) {
    this.generator = generator;
  }

  /** The generator's square around a face. */
  square(landmarks) {
    return FaceSquare.around(landmarks, this.generator.size, this.generator.zoom);
  }

  /** A face without its mask, which is grown by the rim. */
  async redraw(face) {
    const mask = grown(face.mask, face.square.toAligned(face.landmarks));
    return { ...face, mask, after: await this.draw(face.before, mask) };
  }

  /** The same by Telea's method: for straps, which are too thin to show the difference. */
  fill(face) {
    const mask = grown(face.mask, face.square.toAligned(face.landmarks));
    return { ...face, mask, after: telea(face.before, mask) };
  }

  /** An aligned face, redrawn by a mask; in one colour if the rest is. */
  async draw(image, mask) {
    const drawn = await this.generator.unmask(image, mask);
    const visible = image.data.filter((_, i) => !mask.data[Math.floor(i / 3)]);
    const shades = visible.length > 3 * LEAST_VISIBLE * mask.data.length && oneColoured(visible);
    if (shades) grey(drawn).data.forEach((level, i) => drawn.data.set(shades.subarray(3 * level, 3 * level + 3), 3 * i));
    return drawn;
  }
}

/** A mask with a rim, but not towards the eyes; the landmarks are in its pixels. */
export function grown(mask, landmarks) {
  const rim = dilate(mask, ellipse(2 * rint(RIM * mask.width) + 1));
  return combined((hidden, near, eye) => (hidden || (near && !eye) ? 255 : 0), mask, rim, eyes(landmarks, mask.width, mask.height));
}
