"""The alignment of FFHQ and StyleGAN2 (Karras et al., 2019): an upright square around eyes and mouth, cut out of the photo."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from maskgan_jax.data.points import LEFT_EYE, RIGHT_EYE
from maskgan_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class AlignedFace:
    """A face in its upright square.

    Attributes:
      picture: `[S, S, 3]` RGB, uint8.
      landmarks: `[68, 2]` float32, (x, y) in pixels of `picture`.
      alignment: `[4, 2]` float64, the square's top left, bottom left, bottom right and top right corner, in the photo's pixels.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    alignment: np.ndarray


def face_square(landmarks: np.ndarray, zoom: float = 1.0) -> np.ndarray:
    """The square that FFHQ cuts out of a photo.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels of the photo.
      zoom: as for `zoomed`.

    Returns:
      `[4, 2]` float64: top left, bottom left, bottom right and top right corner in the same pixels.

    Raises:
      UserError: eyes and mouth span no square.
    """
    landmarks = np.asarray(landmarks, np.float64)
    eyes = landmarks[LEFT_EYE].mean(axis=0), landmarks[RIGHT_EYE].mean(axis=0)
    return zoomed(square_around(*eyes, (landmarks[48] + landmarks[54]) / 2), zoom)


def square_around(left_eye: np.ndarray, right_eye: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """FFHQ's square by three points (x, y): the middle of each eye, as seen in the picture, and of the mouth's corners.

    Result and errors as for `face_square`.
    """
    eyes = (left_eye + right_eye) / 2
    eye_to_eye = right_eye - left_eye
    eye_to_mouth = mouth - eyes
    # Half the side to the right: along the eyes and across the line from eyes to mouth, in equal parts.
    right = eye_to_eye - eye_to_mouth[::-1] * [-1, 1]
    if not np.hypot(*right) > 0:
        raise UserError("the landmarks do not form an upright face, so it cannot be aligned; leave this photo out")
    right *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8) / np.hypot(*right)
    down = right[::-1] * [-1, 1]
    centre = eyes + eye_to_mouth * 0.1
    return np.stack([centre - right - down, centre - right + down, centre + right + down, centre + right - down])


def zoomed(alignment: np.ndarray, zoom: float) -> np.ndarray:
    """The square within a square that is `zoom` times smaller, on the middle of the same lower edge; both `[4, 2]`.

    It leaves out hair and background, so that the part of the face that masks hide gets more pixels.
    """
    foot = (alignment[1] + alignment[2]) / 2
    return foot + (alignment - foot) / zoom


def _to_photo_matrix(alignment: np.ndarray, size: int) -> np.ndarray:
    """`[2, 3]` affine map from pixels of the aligned face to pixels of the photo.

    The corners are those of the outer pixels' outer edges: with pixel centres at integers, (-0.5, -0.5) in the aligned face.
    """
    top_left, bottom_left, _, top_right = np.asarray(alignment, np.float64)
    across, down = (top_right - top_left) / size, (bottom_left - top_left) / size
    return np.stack([across, down, top_left + (across + down) / 2], axis=1)


def to_photo(points: np.ndarray, alignment: np.ndarray, size: int) -> np.ndarray:
    """Carries points `[..., 2]` from pixels of an aligned face of `size` pixels to pixels of its photo."""
    matrix = _to_photo_matrix(alignment, size)
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def to_aligned(points: np.ndarray, alignment: np.ndarray, size: int) -> np.ndarray:
    """Carries points `[..., 2]` from pixels of a photo to pixels of its aligned face of `size` pixels."""
    matrix = _to_photo_matrix(alignment, size)
    return (np.asarray(points, np.float64) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def _pad(picture: np.ndarray, margins: tuple[int, int, int, int], blur: float) -> np.ndarray:
    """Continues a picture beyond its edges by reflection, ever more blurred and faded to the median colour, as FFHQ does.

    Args:
      picture: `[H, W, 3]` uint8.
      margins: pixels to add left, top, right, bottom; all above 0.
      blur: standard deviation of the blur, in pixels.
    """
    left, top, right, bottom = margins
    padded = cv2.copyMakeBorder(picture, top, bottom, left, right, cv2.BORDER_REFLECT_101)
    height, width = padded.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    # 0 on the photo's edge, growing to 1 on the new edge and falling inside the photo.
    outside = np.maximum(1 - np.minimum(x / left, (width - 1 - x) / right), 1 - np.minimum(y / top, (height - 1 - y) / bottom))
    # On fewer pixels, as a blurred picture has no details, and with every fourth row and column for the median.
    scale = max(1, int(blur / 2))
    small = cv2.resize(padded, (-(-width // scale), -(-height // scale)), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.GaussianBlur(small, (0, 0), blur / scale), (width, height), interpolation=cv2.INTER_LINEAR)
    share = np.clip(outside * 3 + 1, 0, 1)
    padded = cv2.blendLinear(padded, blurred, 1 - share, share)
    median = np.rint(np.median(padded[::4, ::4], axis=(0, 1))).astype(np.uint8)
    share = np.clip(outside, 0, 1)
    return cv2.blendLinear(padded, cv2.resize(median[None, None], (width, height)), 1 - share, share)


def align(photo: np.ndarray, landmarks: np.ndarray, size: int, zoom: float = 1.0) -> AlignedFace:
    """Cuts the aligned square of a face out of a photo, without aliasing.

    Args:
      photo: `[H, W, 3]` RGB, uint8.
      landmarks: `[68, 2]`, (x, y) in pixels of the photo.
      size: side of the aligned face, in pixels.
      zoom: as for `zoomed`.
    """
    alignment = face_square(landmarks, zoom)
    carried = to_aligned(landmarks, alignment, size).astype(np.float32)
    return AlignedFace(cut_out(photo, alignment, size), carried, alignment)


def cut_out(photo: np.ndarray, alignment: np.ndarray, size: int) -> np.ndarray:
    """The part of a photo `[H, W, 3]` uint8 in a square `[4, 2]`, as in `AlignedFace`, at `size` pixels without aliasing."""
    # Shrink, so that all that follows works on about as many pixels as it needs.
    corners = alignment
    side = np.hypot(*(corners[3] - corners[0]))
    shrink = int(side / size * 0.5)
    if shrink > 1:
        height, width = photo.shape[:2]
        photo = cv2.resize(photo, (max(1, round(width / shrink)), max(1, round(height / shrink))), interpolation=cv2.INTER_AREA)
        corners = (corners + 0.5) * [photo.shape[1] / width, photo.shape[0] / height] - 0.5
        side /= shrink

    # Crop, and continue the photo where the square leaves it.
    border = max(round(side * 0.1), 3)
    low = np.floor(corners.min(axis=0)).astype(int) - border
    high = np.ceil(corners.max(axis=0)).astype(int) + border
    shape = np.array(photo.shape[1::-1])
    first, last = np.clip(low, 0, shape - 1), np.clip(high, 1, shape)
    photo = photo[first[1] : last[1], first[0] : last[0]]
    corners = corners - first
    missing = np.concatenate([first - low, high - last])
    if missing.max() > border - 4:
        margins = np.maximum(missing, round(side * 0.3))
        photo = _pad(photo, tuple(map(int, margins)), blur=side * 0.02)
        corners = corners + margins[:2]

    # Take away what `size` pixels cannot show: about as much as a Lanczos filter would.
    if side > size:
        photo = cv2.GaussianBlur(photo, (0, 0), 0.42 * np.sqrt((side / size) ** 2 - 1))
    return cv2.warpAffine(
        photo,
        _to_photo_matrix(corners, size),
        (size, size),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def unalign(picture: np.ndarray, alignment: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """The reverse of `align`: an aligned picture as it lies in its photo, without aliasing.

    Args:
      picture: `[S, S, 3]` uint8.
      alignment: `[4, 2]`, as in `AlignedFace`.
      window: the part of the photo that is wanted: x and y of its first pixel, width, height.

    Returns:
      `[height, width, 3]` uint8; outside the square its edge goes on.
    """
    x, y, width, height = window
    size = picture.shape[0]
    side = np.hypot(*(alignment[3] - alignment[0]))
    if side < size:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.42 * np.sqrt((size / side) ** 2 - 1))
    matrix = _to_photo_matrix(alignment - np.array([x, y]), size)
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def unalign_region(region: np.ndarray, alignment: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A region of an aligned face, `[S, S]` uint8, as it lies in a photo of `shape` (height, width): uint8, 0 or 255."""
    matrix = _to_photo_matrix(alignment, region.shape[0])
    # A little softer than it is, so that enlarged pixels leave no steps in its outline.
    moved = cv2.warpAffine(cv2.GaussianBlur(region, (0, 0), 0.7), matrix, shape[::-1], flags=cv2.INTER_LINEAR)
    return cv2.threshold(moved, 127, 255, cv2.THRESH_BINARY)[1]
