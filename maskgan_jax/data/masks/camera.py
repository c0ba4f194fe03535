"""What a camera did to a photo, so that the same can be done to a drawn face mask: blur, noise and compression."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from maskgan_jax.data.jpeg import through_jpeg
from maskgan_jax.data.masks.light import skin_patches
from maskgan_jax.data.masks.sheet import white_noise

# Standard deviation of the blur that sharpness is measured with, in pixels.
REBLUR = 1.0
# The measured blur of an anti-aliased edge without any.
OWN_BLUR = 0.8


@dataclasses.dataclass(frozen=True)
class Compression:
    """How the photo of a face was compressed.

    Attributes:
      quality: of libjpeg, 1 to 100.
      scale: pixels of the photo per pixel of the aligned face.
    """

    quality: int
    scale: float


@dataclasses.dataclass(frozen=True)
class Camera:
    """The traces of the camera in a photo of a face.

    Attributes:
      blur: standard deviation of its blur, in pixels.
      noise: standard deviation of its noise, in levels of 0..255.
    """

    blur: float
    noise: float


def camera_of(face: np.ndarray, landmarks: np.ndarray) -> Camera:
    """Measures blur and noise of an aligned face.

    Args:
      face: `[S, S, 3]` uint8.
      landmarks: `[68, 2]`, (x, y) in pixels of `face`.
    """
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return Camera(_blur(grey, landmarks), _noise(grey, landmarks))


def _blur(grey: np.ndarray, landmarks: np.ndarray) -> float:
    """Standard deviation of the blur of the edges about the eyes, in pixels.

    Blurring an edge of blur s by r makes its gradient s / sqrt(s^2 + r^2) times as steep (Zhuo and Sim, Defocus map
    estimation from a single image, 2011).
    """
    eyes = landmarks[17:48]
    low, high = np.floor(eyes.min(axis=0)).astype(int) - 4, np.ceil(eyes.max(axis=0)).astype(int) + 5
    low = np.clip(low, 0, np.subtract(grey.shape[::-1], 8))
    part = grey[low[1] : max(high[1], low[1] + 8), low[0] : max(high[0], low[0] + 8)]
    steep, softer = (
        np.hypot(cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1))
        for image in (part, cv2.GaussianBlur(part, (0, 0), REBLUR))
    )
    edges = steep >= np.percentile(steep, 97)
    ratio = np.median(steep[edges] / np.maximum(softer[edges], 1e-3))
    measured = REBLUR / np.sqrt(max(float(ratio) ** 2 - 1, 0.04))
    return float(np.sqrt(max(measured**2 - OWN_BLUR**2, 0)))


def _noise(grey: np.ndarray, landmarks: np.ndarray) -> float:
    """Standard deviation of the noise on the smoothest patches of skin (Immerkaer, Fast noise variance estimation, 1996)."""
    kernel = np.float32([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    levels = [
        float(np.abs(cv2.filter2D(patch, cv2.CV_32F, kernel)[1:-1, 1:-1]).mean()) * np.sqrt(np.pi / 2)
        for patch in skin_patches(grey, landmarks)
        if min(patch.shape) >= 3
    ]
    return float(np.sort(levels)[len(levels) // 3]) if levels else 0.0


def blurred(layer: np.ndarray, blur: float) -> np.ndarray:
    """A layer (see `compositing`) blurred as by the camera, with standard deviation `blur` in pixels."""
    # A quarter of a pixel is invisible.
    return cv2.GaussianBlur(layer, (0, 0), blur) if blur > 0.25 else layer


def grain(rng: np.random.Generator, shape: tuple[int, int], camera: Camera, saturation: float) -> np.ndarray:
    """Noise like the camera's: `[h, w, 3]` float32, in levels of 0..255, mostly of lightness; without colour in grey photos."""
    lightness, colour = white_noise(rng, shape), np.float32(0.35 * saturation)
    return cv2.merge([(lightness + colour * white_noise(rng, shape)) * np.float32(camera.noise) for _ in range(3)])


def compressed(image: np.ndarray, compression: Compression | None) -> np.ndarray:
    """An image `[h, w, 3]` uint8 compressed like the photo that it belongs to."""
    # In a photo reduced to less than half, compression is no longer visible.
    if compression is None or compression.scale >= 2:
        return image
    quality = compression.quality
    if compression.scale >= 1:
        # The error decreases with the number of pixels that are averaged.
        quality = round(100 - (100 - quality) / compression.scale**2)
        return through_jpeg(image, quality)
    size = tuple(max(8, round(side * compression.scale)) for side in image.shape[1::-1])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # Only the error is enlarged again: the image keeps its own sharpness.
    error = through_jpeg(small, quality).astype(np.float32) - small
    error = cv2.resize(error, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(np.rint(image + error), 0, 255).astype(np.uint8)
