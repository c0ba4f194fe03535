/** Where the face mask is on a face, by the segmentation network. */
import { FaceSquare } from "./align.js";
import { clamp, combined, countNonZero, emptyImage, grey, histograms, quantile, rint } from "./images.js";
import { components, dilate, ellipse } from "./morphology.js";
import { oneColoured } from "./one_colour.js";
import { CONTOUR, EYE_RIM, distance, eyeCentres, eyes, fillHull, mean, mouthCentre } from "./points.js";

/** Face masks reach into the rim of an eye where the network is as certain as this. */
const CERTAIN_PROBABILITY = 0.9;
/** What is hidden with this probability is redrawn: on the lower face and close to it, and beyond that. */
const LEAST_PROBABILITY = 0.04;
const LEAST_BEYOND = 0.12;
/** How close, as a fraction of the side of the aligned square. */
const CLOSE = 0.06;
/** Parts of a mask smaller than this fraction of the aligned square are not of a face mask; nor are larger holes. */
const LEAST_PART = 0.002;
const LARGEST_HOLE = 0.03;
/** A face wears a mask if it covers this fraction of what lies between the bridge of the nose, the jaw and the chin. */
const LEAST_COVER = 0.3;
/** Where bare faces are more easily taken for masked ones. */
const LEAST_COVER_IN_DOUBT = 0.5;
/**
 * If the network sees a mask with this probability near the lower edge of its square, within NEAR_EDGE of the side, what that hides
 * below is looked for in a square that is larger by LARGER of its side.
 */
const LEAST_AT_EDGE = 0.3;
const NEAR_EDGE = 1 / 64;
const LARGER = 0.15;
/**
 * What is hidden there with this probability is redrawn, and with LEAST_BEYOND what is close to it, unless the mask is still wider
 * than WIDE of the side where that square ends.
 */
const LEAST_BELOW = 0.5;
const WIDE = 0.1;
/** From the eyes to the mouth, over the distance between the eyes: less than this shows few faces but those in squeezed photos. */
const LEAST_HEIGHT = 0.92;

export class MaskFinder {
  constructor(network) {
    this.network = network;
  }

  /** The network's square around a face, with the jaw in the middle. */
  square(landmarks) {
    const square = FaceSquare.around(landmarks, this.network.size, this.network.zoom);
    const jaw = square.toAligned(landmarks.slice(...CONTOUR)).map(([x]) => x);
    return square.moved(((Math.min(...jaw) + Math.max(...jaw) + 1) / square.size - 1) / 2);
  }

  /** What the network sees of a face: its square, in grey if the photo has one colour only, as it misses more masks in sepia. */
  image(photo, square) {
    const image = square.cutOut(photo);
    // A quarter of the pixels tells.
    const isTaken = (i) => i % (2 * image.width) < image.width && i % 2 === 0;
    if (!oneColoured(image.data.filter((_, i) => isTaken(Math.trunc(i / 3))))) return image;
    const levels = grey(image).data;
    return { ...image, data: image.data.map((_, i) => levels[Math.trunc(i / 3)]) };
  }

  /** Looks for the mask of the face with these landmarks, in the network's square or another: a `Segmentation`. */
  async look(photo, landmarks, square = this.square(landmarks)) {
    const image = this.image(photo, square);
    return new Segmentation(this.network, landmarks, square, image, await this.network.probability(image));
  }

  /**
   * What a mask hides below the network's square, in another square: nothing, if it is not seen near the lower edge, if the photo
   * ends above that, or if the mask is a scarf. `seen` is what the network says of the face.
   */
  async maskBelow(photo, seen, square) {
    const nothing = emptyImage(square.size, square.size);
    if (!endsIn(photo, seen.square) || !widthAtEdge(seen.mask(seen.square, LEAST_AT_EDGE))) return nothing;
    const larger = await this.look(photo, seen.landmarks, seen.square.enlarged(LARGER));
    const certain = connected(larger.mask(larger.square, LEAST_BELOW), seen.mask(larger.square));
    if (endsIn(photo, larger.square) && widthAtEdge(certain) > WIDE) return nothing;
    const near = dilate(certain, ellipse(2 * rint(CLOSE * larger.square.size) + 1)).data;
    const least = Array.from(near, (value) => (value ? LEAST_BEYOND : 1));
    return connected(larger.mask(square, least), seen.mask(square));
  }
}

/** What the network says of a face: in its square, `image` is what it saw, and `probability` how likely each pixel is hidden. */
class Segmentation {
  constructor(network, landmarks, square, image, probability) {
    Object.assign(this, { network, landmarks, square, image, probability, points: square.toAligned(landmarks) });
  }

  /** The mask in another square around the same face; `least` as for `foundMask`. */
  mask(square, least) {
    const mask = foundMask(this.probability, this.points, this.square.size, least);
    if (this.square.equals(square)) return mask;
    // To the other square's image, as if that were the photo.
    const within = new FaceSquare(square.toAligned(this.square.corners), this.square.size);
    const moved = within.putMaskBack(mask, { x: 0, y: 0, width: square.size, height: square.size });
    // The eyes, exactly.
    const visible = eyes(square.toAligned(this.landmarks), square.size, square.size, 0);
    return combined((hidden, eye) => (eye ? 0 : hidden), moved, visible);
  }

  /** How much of the lower face is hidden, 0 to 1. */
  cover(probability = this.probability) {
    return lowerFaceCover(foundMask(probability, this.points, this.square.size, 0.5), this.points);
  }

  /** The same, the least in three more views: mirrored, leveled and darkened. */
  async leastCover() {
    let least = 1;
    for (const view of [mirrored, leveled, darkened]) {
      let probability = await this.network.probability(view(this.image));
      if (view === mirrored) probability = mirrored({ ...this.image, channels: 1, data: probability }).data;
      least = Math.min(least, this.cover(probability));
    }
    return least;
  }
}

/** Whether the middle of a square's lower edge lies in a photo. */
function endsIn(photo, square) {
  const [x, y] = mean(square.corners.slice(1, 3));
  return 0 <= x && x < photo.width && 0 <= y && y < photo.height;
}

/** How wide a mask is where its square ends below, as a fraction of the side. */
function widthAtEdge({ width, data }) {
  const last = data.subarray(-Math.ceil(NEAR_EDGE * width) * width);
  const columns = new Set();
  last.forEach((hidden, i) => hidden && columns.add(i % width));
  return columns.size / width;
}

/** The parts of a mask that meet another mask. */
function connected(mask, other) {
  const result = emptyImage(mask.width, mask.height);
  for (const part of components(mask, 255)) {
    if (part.some((i) => other.data[i])) for (const i of part) result.data[i] = 255;
  }
  return result;
}

/** How much of the lower face a mask must hide to count as one: more in photos of one colour, and in squeezed ones. */
export function neededCover({ data }, landmarks) {
  const eyesAt = eyeCentres(landmarks);
  const down = distance(mouthCentre(landmarks), mean(eyesAt));
  const isSqueezed = down < LEAST_HEIGHT * distance(...eyesAt);
  const isGrey = data.every((level, i) => level === data[i - (i % 3)]);
  return isSqueezed || isGrey ? LEAST_COVER_IN_DOUBT : LEAST_COVER;
}

export function mirrored(image) {
  const { width, channels, data } = image;
  const result = data.slice();
  for (let i = 0; i < data.length / channels; i++) {
    const from = i - (i % width) + width - 1 - (i % width);
    for (let c = 0; c < channels; c++) result[i * channels + c] = data[from * channels + c];
  }
  return { ...image, data: result };
}

/** An image with each channel stretched to the whole range, but for 2 % of the pixels at each end. */
export function leveled(image) {
  const ranges = histograms(image).map((counts) => [quantile(counts, 0.02), quantile(counts, 0.98)]);
  const data = image.data.map((level, i) => {
    const [low, high] = ranges[i % image.channels];
    return clamp((level - low) * (255 / Math.max(high - low, 1)), 0, 255);
  });
  return { ...image, data };
}

/** An image with darker midtones (gamma 1.5). */
export function darkened(image) {
  const levels = Array.from({ length: 256 }, (_, i) => rint(255 * (i / 255) ** 1.5));
  return { ...image, data: image.data.map((level) => levels[level]) };
}

/** The mask of an aligned face, without its eyes. `least`: probability of what counts as hidden; by default of what is redrawn. */
export function foundMask(probability, landmarks, size, least) {
  const element = ellipse(2 * rint(CLOSE * size) + 1);
  const near = least === undefined && dilate(lowerFace(landmarks, size), element).data;
  const certain = eyes(landmarks, size, size, EYE_RIM / 2).data;
  const rim = eyes(landmarks, size, size).data;
  const visible = rim.map((eye, i) => (probability[i] > CERTAIN_PROBABILITY ? certain[i] : eye));
  const mask = emptyImage(size, size);
  for (let i = 0; i < mask.data.length; i++) {
    const enough = least?.[i] ?? least ?? (near[i] ? LEAST_PROBABILITY : LEAST_BEYOND);
    mask.data[i] = probability[i] > enough && !visible[i] ? 255 : 0;
  }
  cleanMask(mask);
  visible.forEach((eye, i) => eye && (mask.data[i] = 0));
  return mask;
}

/** Takes specks out of a mask, and fills its holes. Changes it. */
function cleanMask(mask) {
  for (const [value, most] of [[255, LEAST_PART], [0, LARGEST_HOLE]]) {
    for (const part of components(mask, value)) {
      if (part.length < most * mask.data.length) for (const i of part) mask.data[i] = 255 - value;
    }
  }
}

/** A mask of the lower face: from the bridge of the nose to the jaw and the chin. */
function lowerFace(landmarks, size) {
  return fillHull(emptyImage(size, size), [...landmarks.slice(2, 15), landmarks[28]]);
}

/** The fraction of the lower face, 0 to 1, in a mask of an aligned face with these landmarks. */
export function lowerFaceCover(mask, landmarks) {
  const lower = lowerFace(landmarks, mask.width);
  const hidden = countNonZero(combined((a, b) => a & b, mask, lower));
  return hidden / Math.max(countNonZero(lower), 1);
}
