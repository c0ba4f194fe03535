/** What is under a face mask, drawn by the generator. */
import { FaceSquare } from "./align.js";
import { RIM } from "./compositing.js";
import { combined, grey, rint } from "./images.js";
import { dilate, ellipse } from "./morphology.js";
import { eyes } from "./points.js";
import { telea } from "./telea.js";

/** A photo is grey if its channels differ by fewer levels than this on average: compression leaves a little. */
const LEAST_CHROMA = 2;

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

  /** An aligned face, redrawn by a mask; in grey if what is visible is. */
  async draw(image, mask) {
    const drawn = await this.generator.unmask(image, mask);
    let chroma = 0;
    let visible = 0;
    for (let i = 0; i < mask.data.length; i++) {
      if (mask.data[i]) continue;
      const levels = image.data.subarray(3 * i, 3 * i + 3);
      chroma += Math.max(...levels) - Math.min(...levels);
      visible++;
    }
    if (visible && chroma / visible < LEAST_CHROMA) {
      grey(drawn).data.forEach((level, i) => drawn.data.fill(level, 3 * i, 3 * i + 3));
    }
    return drawn;
  }
}

/** A mask with a rim, but not towards the eyes; the landmarks are in its pixels. */
export function grown(mask, landmarks) {
  const rim = dilate(mask, ellipse(2 * rint(RIM * mask.width) + 1));
  return combined((hidden, near, eye) => (hidden || (near && !eye) ? 255 : 0), mask, rim, eyes(landmarks, mask.width, mask.height));
}
