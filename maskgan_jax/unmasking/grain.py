"""Grain for what was drawn: fine texture like that of the visible skin, which a generator of fewer pixels cannot draw."""

from __future__ import annotations

import functools

import cv2
import numpy as np

from maskgan_jax.data.points import face_width, hull_mask
from maskgan_jax.data.window import Window
from maskgan_jax.unmasking.face import Face

# The visible skin reaches this much above the brows, as a fraction of the distance from the chin to the bridge of the nose.
FOREHEAD = 0.2
# Around brows and eyes, as a fraction of the width of the face, it does not count.
EYE_MARGIN = 0.04
# Skin differs from the median of the drawn skin by no more than this many levels; hair and caps mostly do.
TONE = 40
# Texture is measured in blocks of so many standard deviations of the blur that takes it away. Its median over at least
# LEAST_BLOCKS of them leaves out edges, wrinkles and hair.
BLOCK = 4
LEAST_BLOCKS = 12
# Beside the face it fades, by a blur with this standard deviation, as a fraction of the width of the face.
FADE = 0.02
# Coarser texture, by the standard deviation of that blur in pixels, is not grain.
COARSEST = 8
# Noise repeats after so many pixels of a photo.
NOISE_SIDE = 512


def face_grain(photo: np.ndarray, face: Face, window: Window, mask: np.ndarray, redrawn: np.ndarray) -> np.ndarray:
    """The texture that a redrawn face lacks: `[height, width]` float32, in levels, to be added to each colour.

    Args:
      photo: `[H, W, 3]` RGB, uint8.
      face: one that was redrawn.
      window: of the photo, that of the face's square.
      mask: `[height, width]` uint8 in that window, 255 = redrawn here.
      redrawn: `[H, W]` uint8, 255 = redrawn anywhere in the photo: no skin that can be seen.
    """
    landmarks = face.landmarks - np.array(window[:2])
    area, skin = _face_and_skin(landmarks, mask.shape)
    inside = cv2.bitwise_and(area, mask)
    if not inside.any():
        return np.zeros(mask.shape, np.float32)
    # Skin is looked at where it is, and drawn where it is hidden: each is about half of the window.
    below = Window.holding(inside, round(3 * FADE * face_width(landmarks)))
    place = Window(window.x + below.x, window.y + below.y, below.width, below.height)
    drawn = face.square.put_back(face.after, place)
    tone = np.median(drawn[inside[below.slices] > 0], axis=0)
    known = photo[window.slices]
    visible = cv2.bitwise_and(skin, cv2.inRange(known, tone - TONE, tone + TONE)) & ~redrawn[window.slices]
    result = np.zeros(mask.shape, np.float32)
    if visible.any():
        above, scale = Window.holding(visible).slices, face.square.side / face.square.size
        # Nothing is added beside the face, where there may be a smooth background.
        fade = cv2.GaussianBlur(area[below.slices], (0, 0), FADE * face_width(landmarks)).astype(np.float32) / 255
        result[below.slices] = fade * grain(known[above], visible[above], drawn, inside[below.slices], _noise_at(place), scale)
    return result


def grain(
    known: np.ndarray, visible: np.ndarray, drawn: np.ndarray, redrawn: np.ndarray, noise: np.ndarray, scale: float
) -> np.ndarray:
    """Noise with which drawn skin has as much texture as visible skin.

    Lightness is split into octaves. White noise gets in each the power by which the drawn skin falls short of the visible skin.

    Args:
      known: `[h, w, 3]` RGB, uint8, a part of the photo.
      visible: `[h, w]` uint8, 255 = visible skin in it.
      drawn: `[height, width, 3]` RGB, uint8, what was drawn.
      redrawn: `[height, width]` uint8, 255 = skin in it.
      noise: `[height, width]` float32, white.
      scale: pixels of the photo for each pixel that the generator drew; texture much coarser than these is left alone.

    Returns:
      `[height, width]` float32, in levels.
    """
    result = np.zeros(redrawn.shape, np.float32)
    layers = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (known, drawn)] + [noise]
    sigma = 1
    while sigma <= max(min(2 * scale, COARSEST), 1):
        block = BLOCK * sigma
        inside_visible, inside_redrawn = (_block_means(mask, block) == 255 for mask in (visible, redrawn))
        if min(inside_visible.sum(), inside_redrawn.sum()) < LEAST_BLOCKS:
            break  # There are even fewer larger ones.
        # Blurs add up by their squares.
        blurred = [cv2.GaussianBlur(layer, (0, 0), np.sqrt(sigma**2 - (sigma // 2) ** 2)) for layer in layers]
        wanted, present, octave = map(np.subtract, layers, blurred)
        power_of_visible = np.median(_block_means(wanted**2, block)[inside_visible])
        missing = power_of_visible - np.median(_block_means(present**2, block)[inside_redrawn])
        if missing > 0:
            result += octave * np.float32(np.sqrt(missing) / octave.std())
        layers, sigma = blurred, 2 * sigma
    return result


@functools.cache
def _tile() -> np.ndarray:
    """White noise, as simple in JavaScript: by Box and Muller's method, from what MurmurHash3 makes of 1, 2, 3 ..."""
    bits = np.arange(1, 2 * NOISE_SIDE**2 + 1, dtype=np.uint32)  # It leaves 0 as it is.
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        bits = (bits ^ bits >> shift) * np.uint32(factor)
    one, other = ((bits + 0.5) / 2**32).reshape(2, NOISE_SIDE, NOISE_SIDE)
    return (np.sqrt(-2 * np.log(one)) * np.cos(2 * np.pi * other)).astype(np.float32)


def _noise_at(place: Window) -> np.ndarray:
    """Noise for a part of a photo: each pixel has its own, so that a window that begins or ends a pixel later gets no other."""
    rows, columns = place.y + np.arange(place.height), place.x + np.arange(place.width)
    return _tile()[np.ix_(rows % NOISE_SIDE, columns % NOISE_SIDE)]


def _block_means(image: np.ndarray, block: int) -> np.ndarray:
    """The means of the blocks of so many pixels that fit into an image `[height, width]`, from its first pixel on."""
    height, width = (side // block for side in image.shape)
    if not height or not width:
        return np.empty((0, 0), image.dtype)
    return cv2.resize(image[: height * block, : width * block], (width, height), interpolation=cv2.INTER_AREA)


def _face_and_skin(landmarks: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The face from the chin to the forehead, and the same without brows and eyes: `[height, width]` uint8, 255 inside."""
    area = hull_mask(np.concatenate([landmarks, landmarks[17:27] + FOREHEAD * (landmarks[27] - landmarks[8])]), shape)
    left, right = [*range(17, 22), *range(36, 42)], [*range(22, 27), *range(42, 48)]
    brows_and_eyes = hull_mask(landmarks[left], shape) | hull_mask(landmarks[right], shape)
    reach = 2 * round(EYE_MARGIN * face_width(landmarks)) + 1
    return area, area & ~cv2.dilate(brows_and_eyes, np.ones((reach, reach), np.uint8))
