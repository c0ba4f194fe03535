"""The masks of pairs that people already have: of each photo of a bare face, the same photo with a mask by another program."""

from __future__ import annotations

import cv2
import numpy as np

from maskgan_jax.data.align import AlignedFace
from maskgan_jax.data.build.sources import Photo
from maskgan_jax.data.masks import DrawnMask
from maskgan_jax.errors import UserError
from maskgan_jax.files import decode_image

# Levels by which a pixel under a mask differs; compression changes less, on average over a few pixels.
LEVELS = 20
# Of the aligned face: a part of the difference that is smaller is none, and a region that is larger is that of another photo.
LEAST, MOST = 0.004, 0.8


def worn_mask(photo: Photo, shape: tuple[int, int], aligned: AlignedFace) -> DrawnMask:
    """The mask of a pair, in the square of the bare face; its region is given, or what differs.

    Args:
      photo: with `masked` and, if there is one, `region`.
      shape: height and width of the bare photo.
      aligned: the face in it.

    Raises:
      UserError: the masked photo or the region cannot be read, has another size, or shows no mask on the face.
      Unreachable: it is in a cloud that cannot be reached.
    """

    def cut_out(path: str, what: str, *, grey: bool = False) -> np.ndarray:
        image = decode_image(photo.read_bytes(path), grey=grey)
        if image.shape[:2] != shape:
            height, width = image.shape[:2]
            raise UserError(f"{what} is {width} x {height}, the photo without a mask {shape[1]} x {shape[0]}")
        return aligned.square.cut_out(image)

    masked = cut_out(photo.masked, "the masked photo")
    region = cut_out(photo.region, "its region", grey=True) > 127 if photo.region else difference(aligned.image, masked)
    if region.mean() < LEAST:
        raise UserError("the masked photo shows no mask on the face")
    if region.mean() > MOST:
        raise UserError("the masked photo is another one")
    return DrawnMask(
        image=masked,
        alpha=region.astype(np.float32),
        shadow=np.zeros(region.shape, np.float32),
        mask_type=photo.mask_type,
        parameters={"region": "given" if photo.region else "difference"},
    )


def difference(bare: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Where two images `[S, S, 3]` uint8 of a face differ by more than compression: `[S, S]` bool, without specks and holes."""
    side = len(bare)
    differs = cv2.GaussianBlur(cv2.absdiff(bare, masked).max(axis=-1), (0, 0), side / 128) > LEVELS
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side // 32 | 1,) * 2)
    closed = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, disc)
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [contour for contour in contours if cv2.contourArea(contour) >= LEAST * side * side]
    return cv2.drawContours(np.zeros((side, side), np.uint8), large, -1, 1, cv2.FILLED) > 0
