/** From the detector's points to landmarks and an aligned square, by the landmark network. */
import { FaceSquare } from "./align.js";
import { mean } from "./points.js";

/** From the detector's points, each round of the landmark network brings the square closer to where it belongs. */
const ROUNDS = 3;

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
