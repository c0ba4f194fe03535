"""Where the face mask is on a face, by the segmentation network."""

from __future__ import annotations

import dataclasses
import functools
import math

import cv2
import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.points import CONTOUR, EYE_RIM, dilated, eye_centres, eyes, hull_mask, mouth_centre
from maskgan_jax.data.window import Window
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.unmasking.face import LEAST_COVER, LEAST_COVER_IN_DOUBT
from maskgan_jax.unmasking.one_colour import one_coloured

# Face masks reach into the rim of an eye where the network is as certain as this.
CERTAIN_PROBABILITY = 0.9
# What is hidden with this probability is redrawn: on the lower face and close to it, where nothing must be left of a face mask
# and a little more than it does no harm; and beyond that, where ears and hair are to be kept.
LEAST_PROBABILITY, LEAST_BEYOND = 0.04, 0.12
# How close, as a fraction of the side of the aligned square.
CLOSE = 0.06
# Parts of a mask smaller than this fraction of the aligned square are not of a face mask.
LEAST_PART = 0.002
# Holes up to this fraction are prints and valves; larger ones, such as those of a ski mask, are not of the face mask.
LARGEST_HOLE = 0.03
# The square ends soon below the chin. If the network sees a mask with this probability near its lower edge, within NEAR_EDGE of
# its side, what that hides below is looked for in a square that is larger by LARGER of its side. (In an even larger one, the
# network takes necks and clothes for masks; in one that only lies lower, it overlooks masks.)
LEAST_AT_EDGE = 0.3
NEAR_EDGE = 1 / 64
LARGER = 0.15
# What is hidden there with this probability is redrawn, and with LEAST_BEYOND what is close to it. But a mask that is still
# wider than WIDE of the side where that square ends is a scarf, or taken for one: what is below the first square is left.
LEAST_BELOW = 0.5
WIDE = 0.1
# From the eyes to the mouth, over the distance between the eyes: less than this shows few faces but those in squeezed photos.
LEAST_HEIGHT = 0.92


class MaskFinder:
    """Finds the pixels of a face that its mask hides. The eyes are never among them."""

    def __init__(self, network: FaceNetwork):
        """Takes a segmentation network."""
        self.network = network

    def square(self, landmarks: np.ndarray) -> FaceSquare:
        """The network's square around a face, with the jaw in the middle.

        Of a face that is turned, the mask reaches farther to one side than the squares that faces are aligned to.
        """
        square = FaceSquare.around(landmarks, self.network.size, self.network.zoom)
        jaw = square.to_aligned(landmarks[CONTOUR])[:, 0]
        return square.moved(((jaw.min() + jaw.max() + 1) / square.size - 1) / 2)

    def image(self, photo: np.ndarray, square: FaceSquare) -> np.ndarray:
        """What the network sees of a face: `[S, S, 3]` uint8, its square.

        It is grey if it has one colour only: the network was not trained with sepia and the like, and misses masks in it.

        Args:
          photo: `[H, W, 3]` RGB, uint8.
          square: the network's square around the face.
        """
        image = square.cut_out(photo)
        if one_coloured(image[::2, ::2].reshape(-1, 3)) is None:  # A quarter of the pixels tells, in a quarter of the time.
            return image
        return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)

    def look(self, photo: np.ndarray, landmarks: np.ndarray) -> Segmentation:
        """Looks for the mask of the face with these landmarks, `[68, 2]`, in a photo `[H, W, 3]` RGB, uint8."""
        return self._look_into(self.square(landmarks), photo, landmarks)

    def mask_below(self, photo: np.ndarray, seen: Segmentation, square: FaceSquare) -> np.ndarray:
        """What a mask hides below the network's square.

        Nothing, if it is not seen near the square's lower edge, if the photo ends above that, or if the mask is a scarf.

        Args:
          photo: `[H, W, 3]` RGB, uint8.
          seen: what the network says of the face.
          square: where the part is wanted: a lower square around the same face.

        Returns:
          The mask in that square, `[size, size]` uint8, 255 = hidden, of what is connected to the mask that was seen.
        """
        nothing = np.zeros((square.size, square.size), np.uint8)
        if not (_ends_in(photo, seen.square) and _width_at_edge(seen.mask(seen.square, LEAST_AT_EDGE))):
            return nothing
        larger = self._look_into(seen.square.enlarged(LARGER), photo, seen.landmarks)
        certain = _connected(larger.mask(larger.square, LEAST_BELOW), seen.mask(larger.square))
        if _ends_in(photo, larger.square) and _width_at_edge(certain) > WIDE:
            return nothing
        near = dilated(certain, round(CLOSE * larger.square.size))
        return _connected(larger.mask(square, np.where(near > 0, LEAST_BEYOND, 1.0)), seen.mask(square))

    def _look_into(self, square: FaceSquare, photo: np.ndarray, landmarks: np.ndarray) -> Segmentation:
        image = self.image(photo, square)
        return Segmentation(self.network, landmarks, square, image, self.network(image[None])[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Segmentation:
    """What the network says of a face.

    Attributes:
      network: the segmentation network.
      landmarks: `[68, 2]` of the face, (x, y) in pixels of its photo.
      square: the network's square around it.
      image: `[S, S, 3]` uint8, what the network saw of it.
      probability: `[S, S]` float32, how likely each pixel of the square is hidden, 0 to 1.
    """

    network: FaceNetwork
    landmarks: np.ndarray
    square: FaceSquare
    image: np.ndarray
    probability: np.ndarray

    @functools.cached_property
    def points(self) -> np.ndarray:
        """`[68, 2]`, the landmarks in pixels of the image."""
        return self.square.to_aligned(self.landmarks)

    def mask(self, square: FaceSquare, least: float | np.ndarray | None = None) -> np.ndarray:
        """The mask in another square around the same face: `[size, size]` uint8, 255 = hidden; `least` as for `found_mask`."""
        mask = found_mask(self.probability, self.points, least)
        if self.square != square:  # To the other square's image, as if that were the photo.
            within = FaceSquare(square.to_aligned(self.square.corners), self.square.size)
            mask = within.put_mask_back(mask, Window(0, 0, square.size, square.size))
            # The eyes, exactly.
            mask[eyes(square.to_aligned(self.landmarks), mask.shape, 0) > 0] = 0
        return mask

    def cover(self) -> float:
        """How much of the lower face is hidden, 0 to 1."""
        return lower_face_cover(found_mask(self.probability, self.points, 0.5), self.points)

    def least_cover(self) -> float:
        """How much of the lower face is hidden, 0 to 1: the least in three more views, mirrored, leveled and darkened.

        A bare face in odd light may be taken for a masked one, but rarely in all views. Face masks are found in all of them.
        """
        least = 1.0
        for view in (mirrored, leveled, darkened):
            probability = self.network(view(self.image)[None])[0]
            if view is mirrored:
                probability = probability[:, ::-1]
            least = min(least, lower_face_cover(found_mask(probability, self.points, 0.5), self.points))
        return least


def _ends_in(photo: np.ndarray, square: FaceSquare) -> bool:
    """Whether the middle of a square's lower edge lies in a photo."""
    x, y = square.corners[1:3].mean(axis=0)
    return 0 <= x < photo.shape[1] and 0 <= y < photo.shape[0]


def _width_at_edge(mask: np.ndarray) -> float:
    """How wide a mask `[S, S]` is where its square ends below, as a fraction of the side."""
    return mask[-math.ceil(NEAR_EDGE * len(mask)) :].any(axis=0).mean()


def _connected(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The parts of a mask that meet another mask; all `[S, S]` uint8, 255 = hidden."""
    _, parts = cv2.connectedComponents(mask, connectivity=4)
    return np.isin(parts, parts[(mask > 0) & (other > 0)]) * np.uint8(255)


def needed_cover(image: np.ndarray, landmarks: np.ndarray) -> float:
    """How much of the lower face a mask must hide to count as one, 0 to 1: more in photos of one colour, and in squeezed ones.

    Args:
      image: `[S, S, 3]` uint8, as `MaskFinder.image` gives it.
      landmarks: `[68, 2]` of the face in the photo.
    """
    eyes_at = eye_centres(landmarks)
    down, across = mouth_centre(landmarks) - eyes_at.mean(axis=0), eyes_at[1] - eyes_at[0]
    is_squeezed = np.hypot(*down) < LEAST_HEIGHT * np.hypot(*across)
    return LEAST_COVER_IN_DOUBT if is_squeezed or not np.ptp(image, axis=-1).any() else LEAST_COVER


def mirrored(image: np.ndarray) -> np.ndarray:
    """An image `[S, S, 3]` as in a mirror."""
    return image[:, ::-1]


def leveled(image: np.ndarray) -> np.ndarray:
    """An image `[S, S, 3]` uint8 with each channel stretched to the whole range, but for 2 % of the pixels at each end."""
    low, high = np.percentile(image, (2, 98), axis=(0, 1)).astype(np.float32)
    return np.clip((image - low) * (255 / np.maximum(high - low, 1)), 0, 255).astype(np.uint8)


def darkened(image: np.ndarray) -> np.ndarray:
    """An image `[S, S, 3]` uint8 with darker midtones (gamma 1.5)."""
    levels = np.rint(255 * (np.arange(256) / 255) ** 1.5).astype(np.uint8)
    return cv2.LUT(image, levels)


def found_mask(probability: np.ndarray, landmarks: np.ndarray, least: float | np.ndarray | None = None) -> np.ndarray:
    """The mask of an aligned face, without its eyes: `[S, S]` uint8, 255 = hidden.

    Args:
      probability: `[S, S]`, how likely each pixel is hidden, 0 to 1.
      landmarks: `[68, 2]`, (x, y) in pixels of the aligned face.
      least: probability of what counts as hidden, for all pixels or for each; by default that of what is to be redrawn.
    """
    shape = probability.shape
    if least is None:
        near = dilated(lower_face(landmarks, shape), round(CLOSE * shape[0]))
        least = np.where(near > 0, LEAST_PROBABILITY, LEAST_BEYOND)
    visible = np.where(probability > CERTAIN_PROBABILITY, eyes(landmarks, shape, EYE_RIM / 2), eyes(landmarks, shape))
    return cv2.bitwise_and(clean_mask((probability > least) & (visible == 0)), cv2.bitwise_not(visible))


def clean_mask(found: np.ndarray) -> np.ndarray:
    """A mask `[S, S]`, 255 = hidden, of the pixels that were found (bool): without specks and holes."""
    mask = found.astype(np.uint8)
    for value, most in ((1, LEAST_PART), (0, LARGEST_HOLE)):
        count, labels, parts, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=4)
        small = np.flatnonzero(parts[1:count, cv2.CC_STAT_AREA] < most * mask.size) + 1
        mask[np.isin(labels, small)] = 1 - value
    return mask * np.uint8(255)


def lower_face(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The lower face: from the bridge of the nose to the jaw and the chin.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels.
      shape: height and width of the image.

    Returns:
      `[height, width]` uint8, 255 inside.
    """
    return hull_mask(landmarks[[*range(2, 15), 28]], shape)


def lower_face_cover(mask: np.ndarray, landmarks: np.ndarray) -> float:
    """The fraction of the lower face, 0 to 1, in a mask `[S, S]` of an aligned face with these landmarks."""
    lower = lower_face(landmarks, mask.shape)
    return cv2.countNonZero(cv2.bitwise_and(mask, lower)) / max(cv2.countNonZero(lower), 1)
