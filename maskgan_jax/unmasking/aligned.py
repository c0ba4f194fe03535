"""Aligned masked faces in, unmasked faces out: files of any square size."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.networks.face_network import FaceNetwork, pretrained
from maskgan_jax.unmasking.batch import unmask_each
from maskgan_jax.unmasking.inpainter import grown
from maskgan_jax.unmasking.inputs import Job, find_jobs, read_mask
from maskgan_jax.unmasking.mask_finder import MaskFinder
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.photo_files import write_drawn_png


def unmask_aligned(
    inputs: Sequence[str | os.PathLike],
    outputs: Outputs,
    weights: str | os.PathLike | None = None,
    masks: str | os.PathLike | None = None,
    *,
    fast: bool = False,
) -> int:
    """Unmasks aligned crops (FFHQ's squares) and writes them under the same names, as PNG of the same size.

    An image that cannot be used is reported on standard error, and the rest goes on.

    Args:
      inputs: image files, and folders of them (searched recursively; their inner folders are kept).
      outputs: where results go, whether they are labelled, and what may be replaced; there are no extras.
      weights: workdir of a run, or an exported network; None for the package's own.
      masks: folder of masks, of the same names and sizes, above 127 = hidden: there the known pixels are put back. Without
        it, a generator that inpaints is told what the segmentation network finds; the output of one that does not is kept as
        a whole, as in the paper.
      fast: take the package's network for 128 px, if there are no `weights`.

    Returns:
      How many images could not be used.

    Raises:
      UserError: the inputs, the weights or the output folder cannot be used at all, or a result would overwrite an input, a
        mask or any file that may not be replaced; or all of them failed.
    """
    # No extras: `writing` would delete those of earlier runs.
    outputs = Outputs(outputs.folder, label=outputs.label, overwrite=outputs.overwrite, suffix=".png")
    jobs = find_jobs(inputs, outputs, masks)
    generator = FaceNetwork(weights or pretrained("unmask_fast" if fast else "unmask"), "unmask", batch_size=1)
    finders = []
    if generator.inpaints and masks is None:
        finders = [FaceNetwork(pretrained(task), task, batch_size=1) for task in ("segmentation", "landmarks")]

    def unmask(job: Job) -> None:
        image = read_image(job.path)
        height, width = image.shape[:2]
        if height != width:
            raise UserError(f"{job.path} is {width} x {height}; an aligned face is square")
        mask = find_mask(*finders, image) if finders else read_mask(job, (height, width))
        result = redraw(generator, image, mask)
        if mask is not None:
            result = np.where(mask[..., None] > 127, result, image)
        with outputs.writing(job):
            write_drawn_png(outputs.result(job), result, label=outputs.label)

    return unmask_each(jobs, unmask, again="--overwrite")


def find_mask(segmentation_net: FaceNetwork, landmark_net: FaceNetwork, image: np.ndarray) -> np.ndarray:
    """Where the face mask is on an aligned face (FFHQ's square) `[S, S, 3]` RGB, uint8, with a rim: `[S, S]`, 255 = hidden."""
    side = len(image)
    square = FaceSquare.within_aligned(side, landmark_net.size, landmark_net.zoom)
    points = landmark_net(square.cut_out(image)[None])[0]
    mask = MaskFinder(segmentation_net).look(image, square.to_photo(points)).mask(square)
    return square.put_mask_back(grown(mask, points), Window(0, 0, side, side))


def redraw(generator: FaceNetwork, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """An aligned face, in FFHQ's square, without its mask.

    Args:
      generator: draws it.
      image: `[S, S, 3]` RGB, uint8, any S.
      mask: `[S, S]` uint8, above 127 = hidden; a generator that does not inpaint does without.

    Returns:
      `[S, S, 3]` uint8: the generator's own square in it as the generator draws it, at its resolution.
    """
    side = len(image)
    if (generator.size, generator.zoom) == (side, 1):
        return generator(image[None], None if mask is None else mask[None, ..., None])[0]
    square = FaceSquare.within_aligned(side, generator.size, generator.zoom)
    hidden = None
    if mask is not None:  # All that it touches.
        hidden = cv2.threshold(square.cut_out(mask), 0, 255, cv2.THRESH_BINARY)[1][None, ..., None]
    drawn = generator(square.cut_out(image)[None], hidden)[0]
    left, top = map(int, np.ceil(square.corners[0]))
    window = Window(left, top, side - 2 * left, side - top)
    result = image.copy()
    result[window.slices] = square.put_back(drawn, window)
    return result
