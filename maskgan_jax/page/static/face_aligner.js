/** From the detector's points to landmarks and an aligned square, by the landmark network. */
import { FaceSquare } from "./align.js";
import { detectFaces, overlap } from "./detection.js";
import { distance, eyeCentres, mean, mouthCentre } from "./points.js";

/** From the detector's points, each round of the landmark network brings the square closer to where it belongs. */
const ROUNDS = 3;
/**
 * Detector and landmark network look at an upright face if they see the eyes no farther apart than this, on average and over the
 * distance between the eyes or from them to the mouth, and if the boxes of what they see overlap by at least this fraction of
 * their union.
 */
const MOST_APART = 0.28;
const LEAST_OVERLAP = 0.4;
/** Side, in pixels, of the upright square in which a doubtful face is looked for again. */
const UPRIGHT_SIDE = 256;

export class FaceAligner {
  constructor(network) {
    this.network = network;
  }

  /** A first, rough square by the detector's points. */
  firstSquare({ points: [leftEye, rightEye, , ...corners] }) {
    return FaceSquare.fromPoints(leftEye, rightEye, mean(corners), this.network.size, this.network.zoom);
  }

  /** The square of a face with these landmarks. */
  squareAround(landmarks) {
    return FaceSquare.around(landmarks, this.network.size, this.network.zoom);
  }

  /** The 68 landmarks, in pixels of the photo, of the face in about this square. */
  async landmarks(photo, square, rounds = ROUNDS) {
    let landmarks;
    for (let i = 0; i < rounds; i++) {
      landmarks = square.toPhoto(await this.network.landmarks(square.cutOut(photo)));
      square = this.squareAround(landmarks);
    }
    return landmarks;
  }
}

/**
 * Whether landmarks agree with the detection that they come from.
 *
 * On an ear, an eye or a face that is turned by 90 degrees, the two networks see different things.
 */
export function isFace({ box, points }, landmarks) {
  const eyes = eyeCentres(landmarks);
  const apart = (distance(points[0], eyes[0]) + distance(points[1], eyes[1])) / 2;
  // In profile, the eyes are closer to each other than to the mouth.
  const unit = Math.max(distance(...eyes), distance(mouthCentre(landmarks), mean(eyes)));
  const outer = (most) => [0, 1].map((k) => most(...landmarks.map((point) => point[k])));
  return apart <= MOST_APART * unit && overlap(box, [...outer(Math.min), ...outer(Math.max)]) >= LEAST_OVERLAP;
}

/**
 * Whether the detector, `run`, finds the face of these landmarks, once it is upright.
 *
 * Of one that is tilted it may see the eyes in wrong places.
 */
export async function isFaceUpright(photo, landmarks, run) {
  const square = FaceSquare.around(landmarks, UPRIGHT_SIDE, 1);
  const points = square.toAligned(landmarks);
  return (await detectFaces(square.cutOut(photo), run, [UPRIGHT_SIDE])).some((found) => isFace(found, points));
}
