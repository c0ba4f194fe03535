"""The alignment of FFHQ and StyleGAN2 (Karras et al., 2019): an upright square around eyes and mouth, cut out of the photo."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from maskgan_jax.data.points import eye_centres, mouth_centre
from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError

# Standard deviation of the blur before shrinking, over the square root of (scale ** 2 - 1): removes about as much as Lanczos.
BLUR = 0.42
# The side of the square of a face, at most, over that of its photo; it is more than 1 where a photo ends near the face.
MOST_OF_PHOTO = 10


@dataclasses.dataclass(frozen=True, eq=False)
class FaceSquare:
    """A square in a photo, upright with respect to a face, and the size of the aligned images that are cut out of it.

    Photo and image are related by an affine map. The corners are those of the outer pixels' outer edges: with pixel centres at
    integers, (-0.5, -0.5) in the aligned image.

    Attributes:
      corners: `[4, 2]` float64, top left, bottom left, bottom right and top right, (x, y) in pixels of the photo.
      size: side of the aligned images, in pixels.
    """

    corners: np.ndarray
    size: int

    @classmethod
    def around(cls, landmarks: np.ndarray, size: int, zoom: float = 1.0) -> FaceSquare:
        """The square that FFHQ cuts out of a photo.

        Args:
          landmarks: `[68, 2]`, (x, y) in pixels of the photo.
          size: side of the aligned images, in pixels.
          zoom: how many times smaller the square is than FFHQ's, on the middle of the same lower edge. A closer one leaves out
            hair and background, so that the part of the face that masks hide gets more pixels.

        Raises:
          UserError: eyes and mouth span no square.
        """
        landmarks = np.asarray(landmarks, np.float64)
        return cls.from_points(*eye_centres(landmarks), mouth_centre(landmarks), size, zoom)

    @classmethod
    def from_points(
        cls, left_eye: np.ndarray, right_eye: np.ndarray, mouth: np.ndarray, size: int, zoom: float = 1.0
    ) -> FaceSquare:
        """The same by three points (x, y): the middle of each eye, as seen in the photo, and of the mouth's corners."""
        eyes = (left_eye + right_eye) / 2
        eye_to_eye = right_eye - left_eye
        eye_to_mouth = mouth - eyes
        # Half the side to the right: along the eyes and across the line from eyes to mouth, in equal parts.
        right = eye_to_eye - eye_to_mouth[::-1] * [-1, 1]
        if not 0 < np.hypot(*right) < 1e9:  # No photo is so large, and pixels must be whole numbers.
            raise UserError("the landmarks do not form an upright face, so it cannot be aligned; leave this photo out")
        right *= max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8) / np.hypot(*right)
        down = right[::-1] * [-1, 1]
        centre = eyes + eye_to_mouth * 0.1
        corners = np.stack([centre - right - down, centre - right + down, centre + right + down, centre + right - down])
        return cls(_zoomed(corners, zoom), size)

    @classmethod
    def within_aligned(cls, side: int, size: int, zoom: float) -> FaceSquare:
        """The square of a `zoom` within an image of `side` pixels that is FFHQ's square itself."""
        corners = np.array([(0, 0), (0, side), (side, side), (side, 0)], np.float64) - 0.5
        return cls(_zoomed(corners, zoom), size)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same square, at the same size."""
        if not isinstance(other, FaceSquare):
            return NotImplemented
        return self.size == other.size and np.array_equal(self.corners, other.corners)

    @property
    def side(self) -> float:
        """Its side in the photo, in pixels."""
        return np.hypot(*(self.corners[3] - self.corners[0]))

    def moved(self, right: float, down: float = 0.0) -> FaceSquare:
        """The same square, moved to its right, and down, by fractions of its side."""
        top_left, bottom_left, _, top_right = self.corners
        return FaceSquare(self.corners + right * (top_right - top_left) + down * (bottom_left - top_left), self.size)

    def enlarged(self, by: float) -> FaceSquare:
        """A square that is larger by a fraction of the side, around the middle of the same upper edge."""
        top = (self.corners[0] + self.corners[3]) / 2
        return FaceSquare(top + (self.corners - top) * (1 + by), self.size)

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[..., 2]` from pixels of the aligned image to pixels of the photo."""
        matrix = self._to_photo_matrix()
        return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]

    def to_aligned(self, points: np.ndarray) -> np.ndarray:
        """Maps points `[..., 2]` from pixels of the photo to pixels of the aligned image."""
        matrix = self._to_photo_matrix()
        return (np.asarray(points, np.float64) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T

    def cut_out(self, photo: np.ndarray) -> np.ndarray:
        """The aligned image of a photo `[H, W, 3]` or mask `[H, W]`, uint8, without aliasing; padded as FFHQ where it ends."""
        # Shrink, so that all that follows works on about as many pixels as it needs.
        corners, side, shape = self.corners, self.side, np.array(photo.shape[1::-1])
        shrink = max(int(side / self.size * 0.5), 1)
        if shrink > 1:
            small = np.maximum(np.rint(shape / shrink).astype(int), 1)
            corners, side, shape = (corners + 0.5) * (small / shape) - 0.5, side / shrink, small

        # Crop, and continue the photo where the square leaves it.
        border = max(round(side * 0.1), 3)
        low = np.floor(corners.min(axis=0)).astype(int) - border
        high = np.ceil(corners.max(axis=0)).astype(int) + border
        first, last = np.clip(low, 0, shape - 1), np.clip(high, 1, shape)
        photo = _shrunk(photo, shrink, shape, Window(*map(int, first), *map(int, last - first)))
        corners = corners - first
        missing = np.concatenate([first - low, high - last])
        if missing.max() > border - 4:
            margins = np.maximum(missing, max(round(side * 0.3), 1))
            photo = _pad(photo, tuple(map(int, margins)), blur=side * 0.02)
            corners = corners + margins[:2]

        # Remove what `size` pixels cannot show.
        if side > self.size:
            photo = cv2.GaussianBlur(photo, (0, 0), BLUR * np.sqrt((side / self.size) ** 2 - 1))
        return cv2.warpAffine(
            photo,
            FaceSquare(corners, self.size)._to_photo_matrix(),
            (self.size, self.size),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def window(self, shape: tuple[int, int]) -> Window:
        """The part of a photo of `shape` (height, width) that holds the square and one pixel around it; it may be empty."""
        corners = np.rint(self.corners).astype(int)
        return Window.clipped(corners.min(axis=0) - 1, corners.max(axis=0) + 2, shape)

    def inside(self, window: Window) -> np.ndarray:
        """The square as a mask in a window of the photo, `[height, width]` uint8, 255 inside."""
        corners = np.rint(self.corners).astype(np.int32) - np.array(window[:2], np.int32)
        return cv2.fillConvexPoly(np.zeros(window.shape, np.uint8), corners, 255)

    def put_back(self, image: np.ndarray, window: Window) -> np.ndarray:
        """The reverse of `cut_out`: an aligned image as it lies in a window of its photo, without aliasing.

        Args:
          image: `[size, size, 3]` uint8.
          window: the part of the photo that is wanted.

        Returns:
          `[height, width, 3]` uint8; outside the square its edge pixels are repeated.
        """
        if self.side < self.size:
            image = cv2.GaussianBlur(image, (0, 0), BLUR * np.sqrt((self.size / self.side) ** 2 - 1))
        matrix = self._to_photo_matrix(window)
        return cv2.warpAffine(image, matrix, window[2:], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def put_mask_back(self, mask: np.ndarray, window: Window) -> np.ndarray:
        """A mask of the aligned image, `[size, size]` uint8, as it lies in a window of the photo: uint8, 0 or 255."""
        # A little softer than it is, so that enlarged pixels leave no steps in its outline.
        soft = cv2.GaussianBlur(mask, (0, 0), 0.7)
        moved = cv2.warpAffine(soft, self._to_photo_matrix(window), window[2:], flags=cv2.INTER_LINEAR)
        return cv2.threshold(moved, 127, 255, cv2.THRESH_BINARY)[1]

    def _to_photo_matrix(self, window: tuple[int, ...] = (0, 0)) -> np.ndarray:
        """`[2, 3]` affine map from pixels of the aligned image to pixels of a window of the photo."""
        top_left, bottom_left, _, top_right = self.corners - np.array(window[:2])
        across, down = (top_right - top_left) / self.size, (bottom_left - top_left) / self.size
        return np.stack([across, down, top_left + (across + down) / 2], axis=1)


@dataclasses.dataclass(frozen=True)
class AlignedFace:
    """A face in its upright square.

    Attributes:
      image: `[S, S, 3]` RGB, uint8.
      landmarks: `[68, 2]` float32, (x, y) in pixels of `image`.
      square: where it is in its photo.
    """

    image: np.ndarray
    landmarks: np.ndarray
    square: FaceSquare


def align(photo: np.ndarray, landmarks: np.ndarray, size: int, zoom: float = 1.0) -> AlignedFace:
    """Cuts the aligned square of a face out of a photo, without aliasing.

    Args:
      photo: `[H, W, 3]` RGB, uint8.
      landmarks: `[68, 2]`, (x, y) in pixels of the photo.
      size: side of the aligned face, in pixels.
      zoom: as for `FaceSquare.around`.

    Raises:
      UserError: eyes and mouth span no square, or one that is outside of the photo or far larger than it.
    """
    square = FaceSquare.around(landmarks, size, zoom)
    # What is padded would take all memory.
    if not all(square.window(photo.shape[:2]).shape) or square.side > MOST_OF_PHOTO * min(photo.shape[:2]):
        raise UserError("the landmarks are not in the photo, so it cannot be aligned; leave this photo out")
    return AlignedFace(square.cut_out(photo), square.to_aligned(landmarks).astype(np.float32), square)


def _zoomed(corners: np.ndarray, zoom: float) -> np.ndarray:
    """The corners of the square within a square that is `zoom` times smaller, on the middle of the same lower edge."""
    foot = (corners[1] + corners[2]) / 2
    return foot + (corners - foot) / zoom


def _shrunk(photo: np.ndarray, times: int, shape: np.ndarray, window: Window) -> np.ndarray:
    """A window of a photo that is shrunk so many times, to `shape` (width, height), or of the photo itself."""
    if times > 1 and np.array_equal(shape * times, photo.shape[1::-1]):
        # Each pixel is a block of its own: the same pixels, sooner than those of the whole photo.
        blocks = photo[Window(*(times * x for x in window)).slices]
        return cv2.resize(blocks, window[2:], interpolation=cv2.INTER_AREA)
    if times > 1:
        photo = cv2.resize(photo, tuple(map(int, shape)), interpolation=cv2.INTER_AREA)
    return photo[window.slices]


def _pad(photo: np.ndarray, margins: tuple[int, int, int, int], blur: float) -> np.ndarray:
    """Continues a photo beyond its edges by reflection, ever more blurred and faded to the median colour, as FFHQ does.

    Args:
      photo: `[H, W, 3]` or `[H, W]` uint8.
      margins: pixels to add left, top, right, bottom; all above 0.
      blur: standard deviation of the blur, in pixels.
    """
    left, top, right, bottom = margins
    padded = cv2.copyMakeBorder(photo, top, bottom, left, right, cv2.BORDER_REFLECT_101)
    height, width = padded.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    # 0 on the photo's edge, growing to 1 on the new edge and falling inside the photo.
    outside = np.maximum(1 - np.minimum(x / left, (width - 1 - x) / right), 1 - np.minimum(y / top, (height - 1 - y) / bottom))
    # On fewer pixels, as a blurred image has no details, and with every fourth row and column for the median.
    scale = max(1, int(blur / 2))
    small = cv2.resize(padded, (-(-width // scale), -(-height // scale)), interpolation=cv2.INTER_AREA)
    blurred = cv2.resize(cv2.GaussianBlur(small, (0, 0), blur / scale), (width, height), interpolation=cv2.INTER_LINEAR)
    weight = np.clip(outside * 3 + 1, 0, 1)
    padded = cv2.blendLinear(padded, blurred, 1 - weight, weight)
    median = np.rint(np.median(padded[::4, ::4], axis=(0, 1))).astype(np.uint8)
    weight = np.clip(outside, 0, 1)
    return cv2.blendLinear(padded, cv2.resize(median[None, None], (width, height)), 1 - weight, weight)
