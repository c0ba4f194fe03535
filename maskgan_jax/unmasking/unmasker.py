"""A photo of people with masks in, the same photo without the masks out: all the steps, as a function of arrays."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.window import Window
from maskgan_jax.errors import UserError
from maskgan_jax.networks.face_network import FaceNetwork, pretrained
from maskgan_jax.unmasking.compositing import Part, composite, nearest_faces, paste, redrawn_parts, union
from maskgan_jax.unmasking.detection import (
    Detection,
    are_same_face,
    box_area,
    box_width,
    detect_close_up,
    detect_faces,
    detect_turned,
)
from maskgan_jax.unmasking.face import LEAST_WIDTH, NOT_AMONG_LARGEST, TOO_SMALL, Face
from maskgan_jax.unmasking.face_aligner import FaceAligner, is_face, is_face_upright
from maskgan_jax.unmasking.inpainter import Inpainter
from maskgan_jax.unmasking.mask_finder import MaskFinder, lower_face_cover, needed_cover

# What a mask hides outside a face's square is drawn in three more squares, which lie BESIDE of a side to the left, to the right
# and farther down.
BESIDE = 0.3
# A square is skipped if the mask covers less than LEAST_REST of it.
LEAST_REST = 0.0015
# The new squares overlap the first by OVERLAP of a side, so that no seam shows.
OVERLAP = 0.03
# What is nowhere wider than this to either side, as a fraction of the side, is filled without the generator.
THIN = 1 / 50
# If no face is as certain as this, the photo may lie on a side.
CERTAIN_SCORE = 0.75


class Unmasker:
    """Removes masks: `Unmasker.from_pretrained()(photo)`. It may be used by several threads at once.

    Attributes:
      aligner: finds landmarks and squares.
      mask_finder: finds the masks.
      inpainter: draws what is under them.
      least_width: faces narrower than this, in pixels of the photo, are left alone.
      most_faces: of the others, at most so many are redrawn, the largest; None for all.
    """

    def __init__(
        self,
        generator: FaceNetwork,
        landmark_net: FaceNetwork,
        segmentation_net: FaceNetwork,
        *,
        least_width: float = LEAST_WIDTH,
        most_faces: int | None = None,
    ):
        """Takes three trained networks; each has squares of its own. The rest is described above."""
        self.least_width, self.most_faces = least_width, most_faces
        self.aligner = FaceAligner(landmark_net)
        self.mask_finder = MaskFinder(segmentation_net)
        self.inpainter = Inpainter(generator)

    @classmethod
    def from_pretrained(
        cls,
        weights: str | Path | None = None,
        *,
        fast: bool = False,
        least_width: float = LEAST_WIDTH,
        most_faces: int | None = None,
    ) -> Unmasker:
        """The networks that come with the package (MODEL_CARD.md); or, of `weights`, another generator.

        Args:
          weights: workdir of a `maskgan train` run or a file of `maskgan export`; None for the package's.
          fast: take the package's generator for 128 px instead of the one for 256 px: coarser, and several times faster.
          least_width: faces narrower than this, in pixels of the photo, are left alone.
          most_faces: of the others, at most so many are redrawn, the largest; None for all.

        Raises:
          UserError: there is no such network.
        """
        return cls(
            FaceNetwork(weights or pretrained("unmask_fast" if fast else "unmask"), "unmask", batch_size=1),
            FaceNetwork(pretrained("landmarks"), "landmarks", batch_size=1),
            FaceNetwork(pretrained("segmentation"), "segmentation", batch_size=1),
            least_width=least_width,
            most_faces=most_faces,
        )

    def __call__(self, photos: np.ndarray | Sequence[np.ndarray]) -> np.ndarray | list[np.ndarray]:
        """Photos without their masks.

        Args:
          photos: one photo `[H, W, 3]` RGB, uint8, or several: `[B, H, W, 3]`, or a list of photos of any sizes.

        Returns:
          The same in the same form; outside the masks and their rims no pixel differs. A photo in which nothing was found is
          returned as it is.

        Raises:
          UserError: the array is no photo, or the detector's weights have not been fetched.
        """
        if isinstance(photos, np.ndarray) and photos.ndim == 4:
            return np.stack([self.unmask(photo)[0] for photo in photos]) if len(photos) else photos.copy()
        if isinstance(photos, Sequence) and not isinstance(photos, str):
            return [self.unmask(photo)[0] for photo in photos]
        return self.unmask(photos)[0]

    def unmask(self, photo: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, list[Face]]:
        """One photo without its masks, and the faces in it, the largest first.

        Args:
          photo: `[H, W, 3]` RGB, uint8.
          mask: `[H, W]` bool, or uint8 above 127 = hidden: only this is redrawn, whatever the network would find,
            as far as it lies in the squares of the faces.

        Raises:
          UserError: as `__call__` does, or the mask is no such array, of another size, or hides nothing.
        """
        _check_photo(photo)
        if mask is not None:
            mask = _checked_mask(mask, photo.shape[:2])
        faces = self.find(photo)
        if mask is None:
            faces = self._with_rests(photo, self._without_masks(photo, faces))
            return composite(photo, faces, grain=True), faces
        nearest = nearest_faces(mask, faces)
        faces = [
            face if face.left_out else self._redrawn(face, mask, (nearest == number) * np.uint8(255))
            for number, face in enumerate(faces)
        ]
        return composite(photo, faces, nearest, grain=True), faces

    def find(self, photo: np.ndarray) -> list[Face]:
        """The faces in a photo `[H, W, 3]` RGB, uint8, with their landmarks and masks; the largest first.

        Upright faces first; if none of them is large, such as fill the photo; and without any that is certain, turned ones.
        """
        found = self._aligned(photo, detect_faces(photo))
        found += self._aligned(photo, detect_close_up(photo, [face for face, _ in found]))
        if max((face.score for face, _ in found), default=0) < CERTAIN_SCORE:
            found += self._aligned(photo, detect_turned(photo))
        kept: list[tuple[Detection, np.ndarray]] = []
        for face, landmarks in sorted(found, key=lambda found: -found[0].score):
            if not any(are_same_face(face.box, other.box) for other, _ in kept):
                kept.append((face, landmarks))
        kept.sort(key=lambda found: -box_area(found[0].box))
        faces = []
        for face, landmarks in kept:
            left_out = ""
            if box_width(face.box) < self.least_width:
                left_out = TOO_SMALL
            elif self.most_faces is not None and sum(not face.left_out for face in faces) >= self.most_faces:
                left_out = NOT_AMONG_LARGEST
            faces.append(self._with_mask(photo, face, landmarks, left_out))
        return faces

    def _aligned(self, photo: np.ndarray, found: Sequence[Detection]) -> list[tuple[Detection, np.ndarray]]:
        """Those detections that are faces, and their landmarks."""
        faces = []
        for face in found:
            with contextlib.suppress(UserError):  # Their points span no square.
                landmarks, _ = self.aligner(photo, self.aligner.first_square(face))
                if is_face(face, landmarks) or is_face_upright(photo, landmarks):
                    faces.append((face, landmarks))
        return faces

    def _with_mask(self, photo: np.ndarray, found: Detection, landmarks: np.ndarray, left_out: str) -> Face:
        square = self.inpainter.square(landmarks)
        seen = self.mask_finder.look(photo, landmarks)
        cover, needed = seen.cover(), needed_cover(seen.image, landmarks)
        if cover >= needed:
            cover = min(cover, seen.least_cover())
        return Face(
            box=found.box,
            score=found.score,
            landmarks=landmarks,
            square=square,
            cover=cover,
            mask=seen.mask(square),
            before=square.cut_out(photo),
            segmentation=seen,
            left_out=left_out,
            needed_cover=needed,
        )

    def _without_masks(self, photo: np.ndarray, faces: Sequence[Face]) -> list[Face]:
        """Faces without their masks, from back to front: each is drawn beside what was drawn of those behind it."""
        redrawn, drawn = list(faces), photo
        numbers = [number for number, face in enumerate(faces) if face.masked and not face.left_out]
        for number in reversed(numbers):
            face = faces[number]
            seen = face if drawn is photo else dataclasses.replace(face, before=face.square.cut_out(drawn))
            redrawn[number] = dataclasses.replace(self.inpainter.redraw(seen), before=face.before)
            if number > numbers[0]:
                drawn = photo.copy() if drawn is photo else drawn
                for part in redrawn_parts(photo.shape[:2], redrawn[: number + 1]):  # This one; larger ones only hide it.
                    paste(drawn, part)
        return redrawn

    def _with_rests(self, photo: np.ndarray, faces: Sequence[Face]) -> list[Face]:
        """Faces with what their masks hide outside their squares.

        That is straps, wings, half the mask of a face that is turned, and what reaches below the chin.
        """
        parts = list(redrawn_parts(photo.shape[:2], faces))
        outside = [self._masks_outside(photo, face, [part for part in parts if part.face is not face]) for face in faces]
        if not any(outside):
            return list(faces)
        # Drawn where the faces were redrawn already; the grain comes later, as the generator draws none.
        redrawn = composite(photo, faces)
        drawn = []
        for face, masks in zip(faces, outside, strict=True):
            rest = []
            for square, mask in masks:
                part = dataclasses.replace(face, square=square, mask=mask, before=square.cut_out(redrawn))
                half_width = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()
                is_thin = half_width <= THIN * square.size
                rest.append(self.inpainter.fill(part) if is_thin else self.inpainter.redraw(part))
            drawn.append(dataclasses.replace(face, rest=tuple(rest)))
        return drawn

    def _masks_outside(self, photo: np.ndarray, face: Face, others: Sequence[Part]) -> list[tuple[FaceSquare, np.ndarray]]:
        """What a redrawn face's mask hides outside its square: other squares, and masks in them.

        Without what was redrawn of `others`.
        """
        if not (face.redrawn and self.inpainter.generator.inpaints):
            return []
        height, width = photo.shape[:2]
        edges = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5
        outside = []
        for right, down in ((-1, 0), (1, 0), (0, 1)):
            square = face.square.moved(right * BESIDE, down * BESIDE)
            seen = face.segmentation
            mask = self.mask_finder.mask_below(photo, seen, square) if down else seen.mask(square)
            drawn = face.square.moved(-right * OVERLAP, -down * OVERLAP)
            whole = Window(0, 0, square.size, square.size)
            mask[FaceSquare(square.to_aligned(drawn.corners), square.size).inside(whole) > 0] = 0
            mask[FaceSquare(square.to_aligned(edges), square.size).inside(whole) == 0] = 0
            # Only what is near counts: with all of them, a crowd would take time by the square of its size.
            if near := [part for part in others if _is_near(square, part.window)]:
                mask[square.cut_out(union((height, width), near)) > 0] = 0
            if mask.mean() > 255 * LEAST_REST:
                outside.append((square, mask))
        return outside

    def _redrawn(self, face: Face, given: np.ndarray, part: np.ndarray) -> Face:
        """A face redrawn by a mask.

        Args:
          face: the face.
          given: the mask of its photo, `[H, W]` uint8, 255 = hidden. The generator must see nothing of it.
          part: of that, likewise, what is nearest to this face; without any, the face itself is returned.
        """
        # All that the masks touch.
        hidden, mask = (cv2.threshold(face.square.cut_out(m), 0, 255, cv2.THRESH_BINARY)[1] for m in (given, part))
        if not mask.any():
            return face
        cover = lower_face_cover(mask, face.square.to_aligned(face.landmarks))
        return dataclasses.replace(face, mask=mask, cover=cover, after=self.inpainter.draw(face.before, hidden))


def _is_near(square: FaceSquare, window: Window) -> bool:
    """Whether what is in a window of the photo may show in a square, or in what is blurred or reflected into it."""
    low, high = square.corners.min(axis=0) - square.side / 2, square.corners.max(axis=0) + square.side / 2
    start, size = np.array(window[:2]), np.array(window[2:])
    return bool((start < high).all() and (start + size > low).all())


def _check_photo(photo: Any) -> None:
    """Raises UserError unless `photo` is an array `[H, W, 3]`, uint8."""
    is_array = isinstance(photo, np.ndarray)
    if not is_array or photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
        hint = "" if is_array else "; np.asarray(image.convert('RGB')) makes one of Pillow's images"
        raise UserError(f"a photo is an array [H, W, 3] of uint8 (RGB), not {_kind(photo)}{hint}")


def _checked_mask(mask: Any, shape: tuple[int, int]) -> np.ndarray:
    """A mask that was given for a photo of `shape` (height, width), as uint8, 255 = hidden. Raises UserError if it is none."""
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise UserError(f"a mask is an array [H, W] of bool, or of uint8 above 127 = hidden, not {_kind(mask)}")
    if mask.shape != shape:
        raise UserError(f"the photo is {shape[1]} x {shape[0]} but its mask is {mask.shape[1]} x {mask.shape[0]}")
    hidden = mask if mask.dtype == np.bool_ else mask > 127
    if not hidden.any():
        raise UserError("the mask hides nothing: hidden pixels must be True or, of uint8, 255 (not 1)")
    return hidden * np.uint8(255)


def _kind(value: Any) -> str:
    """What something is that should have been another array."""
    if isinstance(value, np.ndarray):
        return f"{list(value.shape)} of {value.dtype}"
    return f"an object of type {type(value).__name__}"
