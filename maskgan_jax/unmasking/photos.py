"""Photos of people with masks in, the same photos without them out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from tqdm import tqdm

from maskgan_jax.data.align import align, unalign
from maskgan_jax.data.landmarks import find_all_landmarks, load_predictor
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_picture, write_png
from maskgan_jax.unmasking.generate import Unmasker
from maskgan_jax.unmasking.inputs import find_jobs, read_mask

# Width of the soft edge of a region, as a share of the aligned square's side: 2 pixels of 128.
SOFT_EDGE = 1 / 64


def unmask_photos(
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    weights: str | os.PathLike,
    masks: str | os.PathLike | None = None,
    shape_predictor: str = "",
) -> tuple[int, int]:
    """Unmasks every face that dlib finds in the photos, and writes them to `out` under the same names, as PNG.

    A photo that cannot be used is reported on standard error, and the rest goes on.

    Args:
      inputs: picture files, and folders of them (searched recursively; their inner folders are kept in `out`).
      out: folder for the results.
      weights: workdir of a run, or an exported network.
      masks: folder of regions, of the same names and sizes as the photos, above 127 = hidden: only these pixels change. Without
        it, those of `region_from_landmarks`.
      shape_predictor: file of a dlib shape predictor with 68 points, trained on masked faces at best; '' for the stock one.

    Returns:
      How many photos were unmasked, and how many could not be used.

    Raises:
      UserError: the inputs, the weights, the predictor or the output folder cannot be used at all, or a result would overwrite
        an input or a mask; or a result cannot be written, which ends it.
    """
    jobs = find_jobs(inputs, out, masks)
    load_predictor(shape_predictor)
    unmasker = Unmasker(weights, batch_size=1)  # Most photos show one face.
    done = failed = 0
    for job in tqdm(jobs, desc="unmask", unit="photo"):
        try:
            photo = read_picture(job.path)
            mask = read_mask(job, photo.shape[:2])
            result = _unmask(photo, mask, unmasker, shape_predictor, str(job.path))
        except UserError as error:
            failed += 1
            tqdm.write(f"maskgan unmask: skipped: {error}", file=sys.stderr)
        else:
            write_png(job.out, result)
            done += 1
    return done, failed


def _unmask(photo: np.ndarray, mask: np.ndarray | None, unmasker: Unmasker, shape_predictor: str, name: str) -> np.ndarray:
    """A photo with all its faces unmasked; tells where they are."""
    try:
        every = find_all_landmarks(photo, shape_predictor)
        faces = [align(photo, landmarks, unmasker.size) for landmarks in every]
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    result = photo.copy()
    changed = False
    for face, landmarks, region in zip(faces, every, _regions(photo.shape[:2], mask, every), strict=True):
        if paste(result, unmasker(face.picture[None])[0], face.alignment, region):
            changed = True
            (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
            tqdm.write(f"{name}: a face of {right - left:.0f} x {bottom - top:.0f} pixels at ({left:.0f}, {top:.0f})")
    if not changed:
        raise UserError(f"{name}: the given region is on none of the faces that were found")
    return result


def region_from_landmarks(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Where a mask is to be expected: from the bridge of the nose to the chin, a little wider than the jaw.

    Of what drawn masks cover or shade, 95 % lies in it; of bandanas 90 %, of gaiters, which go down to the neck, 86 %.

    Args:
      landmarks: `[68, 2]`, (x, y) in pixels of the photo.
      shape: height and width of the photo.

    Returns:
      `[height, width]` uint8, 255 = hidden.
    """
    outline = landmarks[[*range(2, 15), 28]]
    nose = landmarks[33]
    hull = cv2.convexHull(np.rint(nose + 1.25 * (outline - nose)).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(shape, np.uint8), hull, 255)


def _regions(shape: tuple[int, int], mask: np.ndarray | None, faces: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The region of each face, `[H, W]` uint8; of a given mask, each pixel belongs to the nearest face."""
    if mask is None:
        yield from (region_from_landmarks(landmarks, shape) for landmarks in faces)
        return
    y, x = np.nonzero(mask > 127)
    nearest, least = np.zeros(len(x), np.int32), np.full(len(x), np.inf)
    for number, landmarks in enumerate(faces):
        distance = np.hypot(x - landmarks[33, 0], y - landmarks[33, 1])
        nearest[distance < least] = number
        np.minimum(distance, least, out=least)
    for number in range(len(faces)):
        region = np.zeros(shape, np.uint8)
        region[y[nearest == number], x[nearest == number]] = 255
        yield region


def paste(photo: np.ndarray, face: np.ndarray, alignment: np.ndarray, region: np.ndarray) -> bool:
    """Puts an aligned face back into its photo, with a soft edge inside the region; no pixel outside it changes.

    Args:
      photo: `[H, W, 3]` RGB, uint8, which is changed.
      face: `[S, S, 3]` RGB, uint8.
      alignment: `[4, 2]`, as in `AlignedFace`.
      region: `[H, W]` uint8, 255 = hidden; what of it lies outside the aligned square stays as it is.

    Returns:
      Whether any of the region lies in the square.
    """
    square = cv2.fillConvexPoly(np.zeros_like(region), np.rint(alignment).astype(np.int32), 255)
    region = cv2.bitwise_and(region, square)
    # One more pixel on each side, from where the distance to the edge counts. The photo's own edge is none.
    x, y, width, height = cv2.boundingRect(cv2.dilate(region, np.ones((3, 3), np.uint8)))
    if not width:
        return False
    part = np.s_[y : y + height, x : x + width]
    edge = max(np.hypot(*(alignment[3] - alignment[0])) * SOFT_EDGE, 1)
    weight = np.minimum(cv2.distanceTransform(region[part], cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / edge, 1)[..., None]
    drawn = unalign(face, alignment, (x, y, width, height))
    photo[part] = np.rint(photo[part] + weight * (drawn - photo[part].astype(np.float32)))
    return True
