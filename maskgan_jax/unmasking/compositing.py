"""Redrawn faces go back into their photo. Each is worked on in the window of its square alone, however large the photo is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from maskgan_jax.data.points import eyes, hull_mask
from maskgan_jax.data.window import Window
from maskgan_jax.unmasking.face import Face
from maskgan_jax.unmasking.grain import face_grain

# By how much a mask that was found is grown, as a fraction of the side (2 pixels of 128): its outline is not exact, and over
# this width the drawn face is blended with the photo.
RIM = 1 / 64
# Width of the soft edge within any mask, likewise. It is narrow, since over it the face mask itself may show through.
SOFT_EDGE = 1 / 256
# Added to the distance from a face, in sides of its square, of what the face does not hold: more than any distance.
ELSEWHERE = 1_000_000


def composite(
    photo: np.ndarray, faces: Sequence[Face], nearest: np.ndarray | None = None, *, grain: bool = False
) -> np.ndarray:
    """A photo with its redrawn faces, the largest in front.

    Args:
      photo: `[H, W, 3]` RGB, uint8.
      faces: all that were found in it, the largest first. Those that were not redrawn still hide what is behind them.
      nearest: as `nearest_faces` gives it, if a mask was given: a face is redrawn where it has its number.
      grain: whether what was drawn gets the photo's grain.
    """
    result = photo.copy()
    parts = list(redrawn_parts(photo.shape[:2], faces, nearest))
    redrawn = union(photo.shape[:2], parts) if grain else None
    for part in reversed(parts):
        face, window, mask, _ = part
        added = face_grain(photo, face, window, mask, redrawn) if grain else None
        given = None if nearest is None else (nearest[window.slices] >= 0) * face.square.inside(window)
        paste(result, part, given=given, grain=added)
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
    return union(shape, redrawn_parts(shape, faces, nearest))


class Part(NamedTuple):
    """A square that was redrawn.

    Attributes:
      face: what was drawn in it.
      window: of the photo, around the square.
      mask: `[height, width]` uint8 in that window, 255 = redrawn.
      hidden: likewise, 255 = a larger face is in front.
    """

    face: Face
    window: Window
    mask: np.ndarray
    hidden: np.ndarray


def union(shape: tuple[int, int], parts: Iterable[Part]) -> np.ndarray:
    """All parts in one mask of the photo: `[height, width]` uint8, 255 = redrawn; `shape` is its height and width."""
    result = np.zeros(shape, np.uint8)
    for part in parts:
        result[part.window.slices] |= part.mask
    return result


def redrawn_parts(shape: tuple[int, int], faces: Sequence[Face], nearest: np.ndarray | None = None) -> Iterator[Part]:
    """Each square that was redrawn: nothing outside the squares is. The arguments are those of `redrawn_mask`.

    The rest of a face comes before the face itself, on which it was drawn. What a larger face hides of a mask that was found is
    not redrawn.
    """
    boxes = np.array([(*face.landmarks.min(axis=0), *face.landmarks.max(axis=0)) for face in faces]).reshape(-1, 4)
    for number, part in ((number, part) for number, face in enumerate(faces) for part in (*face.rest[::-1], face)):
        if not part.redrawn:
            continue
        window = part.square.window(shape)
        if not window.width or not window.height:
            continue
        hidden = np.zeros(window.shape, np.uint8)
        if nearest is None:
            mask = part.square.put_mask_back(part.mask, window)
            start, end = np.array(window[:2]), np.array(window[:2]) + window[2:]
            for other in np.flatnonzero(((boxes[:number, :2] < end) & (boxes[:number, 2:] >= start)).all(axis=1)):
                hidden |= _hidden_by(faces[other], part, window)
        else:
            mask = (nearest[window.slices] == number) * np.uint8(255)
        yield Part(part, window, mask & part.square.inside(window) & ~hidden, hidden)


def _hidden_by(other: Face, face: Face, window: Window) -> np.ndarray:
    """Where another face is in front of a face: within its landmarks, and nearer to its nose than to the face's own.

    Returns:
      `[height, width]` uint8 in the window, 255 = hidden.
    """
    corner = np.array(window[:2])
    nose, own = other.landmarks[33] - corner, face.landmarks[33] - corner
    x, y = np.arange(window.width), np.arange(window.height)[:, None]
    # Of the plane, the half on the other nose's side of the line between both.
    is_nearer = x * (own - nose)[0] + y * (own - nose)[1] < (own @ own - nose @ nose) / 2
    return hull_mask(other.landmarks - corner, window.shape) * is_nearer


def nearest_faces(mask: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """A mask `[H, W]` uint8 divided among faces: `[H, W]` int32, the number of a face where it hides, else -1.

    Of the faces whose square holds a pixel, it belongs to the one whose nose is nearest, in sides of its square; a face that is
    left out has only what lies within its landmarks. What no face holds belongs to the nearest of all.
    """
    result = np.full(mask.shape, -1, np.int32)
    for top in range(0, len(mask), 256):  # All rows at once would take 60 bytes a pixel.
        band = Window(0, top, mask.shape[1], min(256, len(mask) - top))
        y, x = np.nonzero(mask[band.slices] > 127)
        nearest, least = np.zeros(len(x), np.int32), np.full(len(x), np.inf)
        for number, face in enumerate(faces):
            held = hull_mask(face.landmarks - [0, top], band.shape) if face.left_out else face.square.inside(band)
            nose = face.landmarks[33]
            distance = np.hypot(x - nose[0], y + top - nose[1]) / face.square.side + np.where(held[y, x], 0, ELSEWHERE)
            nearest[distance < least] = number
            np.minimum(distance, least, out=least)
        result[band.slices][y, x] = nearest
    return result


def paste(photo: np.ndarray, part: Part, *, given: np.ndarray | None = None, grain: np.ndarray | None = None) -> None:
    """Puts a square that was redrawn into its photo, with a soft edge inside its mask; no pixel outside the mask changes.

    Args:
      photo: `[H, W, 3]` RGB, uint8, which is changed.
      part: the square.
      given: if a mask was given, all of it in the window, whichever face is redrawn there; else the mask was found and grown.
      grain: `[height, width]` float32 in the window, in levels, to be added to what was drawn.
    """
    face, window, mask, hidden = part
    # One more pixel on each side, from where the distance to the edge counts. The photo's own edge is none.
    box = Window.holding(cv2.dilate(mask, np.ones((3, 3), np.uint8)))
    if not box.width:
        return
    place, crop, side = box._replace(x=window.x + box.x, y=window.y + box.y), box.slices, face.square.side
    mask = mask[crop]
    if given is None:
        # Around the eyes, and at a face in front, the mask was cut off, not grown: the photo shows the face mask up to there.
        visible = face.square.put_mask_back(eyes(face.square.to_aligned(face.landmarks), face.after.shape[:2]), place)
        weight = np.minimum(_soft_edge(mask, side * SOFT_EDGE), _soft_edge(mask | visible | hidden[crop], side * RIM))
    else:
        weight = np.where(mask > 0, _soft_edge(given[crop], side * SOFT_EDGE), np.float32(0))  # No edge between two faces.
    drawn = face.square.put_back(face.after, place)
    if grain is not None:
        drawn = np.rint(np.clip(drawn + grain[crop][..., None], 0, 255)).astype(np.uint8)
    # Eight times as fast as the same sum in NumPy, and within a level of it; where the weight is 0 or 1, exact.
    photo[place.slices] = cv2.blendLinear(drawn, photo[place.slices], weight, 1 - weight)


def _soft_edge(mask: np.ndarray, width: float) -> np.ndarray:
    """0 outside a mask, rising to 1 over `width` pixels inside it: float32."""
    return np.minimum(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / np.float32(max(width, 1)), 1)
