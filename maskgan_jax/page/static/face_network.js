/** Trained networks as functions from aligned faces to arrays. */
import { emptyImage, written } from "./images.js";

export class FaceNetwork {
  /**
   * `run` takes { name: [array, shape] } and gives { name: array }; `size` is the side of the faces it takes, in pixels, and `zoom`
   * that of their squares.
   */
  constructor(run, { size, zoom }) {
    Object.assign(this, { run, size, zoom });
  }

  /** Of a generator: an aligned face, redrawn by a mask. */
  async unmask(image, mask) {
    const { unmasked } = await this.run({ picture: this.picture(image), mask: this.mask(mask) });
    const result = emptyImage(this.size, this.size, 3);
    const pixels = written(result);
    for (let i = 0; i < unmasked.length; i++) pixels[i] = (unmasked[i] + 1) * 127.5;
    return result;
  }

  /** Of a landmark network: 68 points [x, y], in pixels of an aligned face. */
  async landmarks(image) {
    const { landmarks } = await this.run({ picture: this.picture(image) });
    return Array.from({ length: 68 }, (_, i) => [landmarks[2 * i], landmarks[2 * i + 1]]);
  }

  /** Of a segmentation network: how likely each pixel of an aligned face is hidden, a Float32Array of 0 to 1. */
  async probability(image) {
    return (await this.run({ picture: this.picture(image) })).likelihood;
  }

  picture(image) {
    const values = new Float32Array(image.data);
    for (let i = 0; i < values.length; i++) values[i] = values[i] / 127.5 - 1;
    return [values, [1, this.size, this.size, 3]];
  }

  mask(mask) {
    const values = new Float32Array(mask.data);
    for (let i = 0; i < values.length; i++) values[i] = values[i] > 127 ? 1 : 0;
    return [values, [1, this.size, this.size, 1]];
  }
}
