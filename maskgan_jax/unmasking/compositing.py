"""Redrawn faces go back into their photo. Each is worked on in the window of its square alone, however large the photo is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from maskgan_jax.data.align import FaceSquare, Window
from maskgan_jax.unmasking.face import Face

# By how much a mask that was found is grown, as a fraction of the side (4 pixels of 128): its outline is not exact, face masks
# cast shadows, and over this width the drawn face is blended with the photo.
RIM = 1 / 32
# Width of the soft edge within a mask that was given, likewise.
SOFT_EDGE = 1 / 64


def composite(photo: np.ndarray, faces: Sequence[Face], nearest: np.ndarray | None = None) -> np.ndarray:
    """A photo with its redrawn faces, the largest in front.

    Args:
      photo: `[H, W, 3]` RGB, uint8.
      faces: all that were found in it, the largest first; those that were redrawn count.
      nearest: as `nearest_faces` gives it, if a mask was given: a face is redrawn where it has its number.
    """
    result = photo.copy()
    edge = RIM if nearest is None else SOFT_EDGE
    for face, window, mask in reversed(list(_redrawn_parts(photo.shape[:2], faces, nearest))):
        paste(result, face.after, face.square, window, mask, edge)
    return result


def redrawn_mask(shape: tuple[int, int], faces: Sequence[Face], nearest: np.ndarray | None = None) -> np.ndarray:
    """Where a photo was redrawn, whether or not what was drawn differs from it.

    Args:
      shape: height and width of the photo.
      faces: as for `composite`.
      nearest: as for `composite`.

    Returns:
      `[height, width]` uint8, 255 = redrawn.
    """
    result = np.zeros(shape, np.uint8)
    for _, window, mask in _redrawn_parts(shape, faces, nearest):
        result[window.slices] |= mask
    return result


def _redrawn_parts(
    shape: tuple[int, int], faces: Sequence[Face], nearest: np.ndarray | None
) -> Iterator[tuple[Face, Window, np.ndarray]]:
    """Each face that was redrawn, the window of its square, and the mask in that: nothing outside the square is redrawn."""
    for number, face in enumerate(faces):
        window = face.square.window(shape)
        if not face.redrawn or not window.width or not window.height:
            continue
        if nearest is None:
            mask = face.square.put_mask_back(face.mask, window)
        else:
            mask = (nearest[window.slices] == number) * np.uint8(255)
        yield face, window, cv2.bitwise_and(mask, face.square.inside(window))


def nearest_faces(mask: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """A mask `[H, W]` uint8 divided among faces: `[H, W]` int32, the number of the nearest nose where it hides, else -1."""
    y, x = np.nonzero(mask > 127)
    nearest, least = np.zeros(len(x), np.int32), np.full(len(x), np.inf)
    for number, face in enumerate(faces):
        distance = np.hypot(x - face.landmarks[33, 0], y - face.landmarks[33, 1])
        nearest[distance < least] = number
        np.minimum(distance, least, out=least)
    result = np.full(mask.shape, -1, np.int32)
    result[y, x] = nearest
    return result


def paste(photo: np.ndarray, image: np.ndarray, square: FaceSquare, window: Window, mask: np.ndarray, edge: float) -> None:
    """Puts an aligned face back into its photo, with a soft edge inside the mask; no pixel outside it changes.

    Args:
      photo: `[H, W, 3]` RGB, uint8, which is changed.
      image: `[S, S, 3]` RGB, uint8, the aligned face.
      square: where it was.
      window: of the photo, `square.window`.
      mask: `[height, width]` uint8 in that window, 255 = hidden.
      edge: width of the soft edge, as a fraction of the square's side.
    """
    # One more pixel on each side, from where the distance to the edge counts. The photo's own edge is none.
    x, y, width, height = cv2.boundingRect(cv2.dilate(mask, np.ones((3, 3), np.uint8)))
    if not width:
        return
    mask = mask[y : y + height, x : x + width]
    part = Window(window.x + x, window.y + y, width, height)
    weight = np.minimum(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / max(square.side * edge, 1), 1)
    known, drawn = photo[part.slices], square.put_back(image, part)
    photo[part.slices] = np.rint(known + weight[..., None] * (drawn - known.astype(np.float32)))
