"""From photos to records: landmarks, aligned face, mask; by several processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import traceback
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.data.align import AlignedFace, FaceSquare, align
from maskgan_jax.data.build.pairs import worn_mask
from maskgan_jax.data.build.sources import Photo, Skipped
from maskgan_jax.data.masks import Compression, DrawnMask, draw_mask, fit_mask
from maskgan_jax.data.rendered.faces import pose_face
from maskgan_jax.errors import UserError, describe
from maskgan_jax.files import decode_image, jpeg_quality
from maskgan_jax.storage import Unreachable


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFace:
    """A photo and the face in it.

    Attributes:
      photo: where it is.
      landmarks: `[68, 2]` float32, (x, y) in pixels of the photo.
      jpeg_quality: 1 to 100, or None if the photo is no JPEG.
    """

    photo: Photo
    landmarks: np.ndarray
    jpeg_quality: int | None = None


def find_face(photo: Photo, data: ConfigDict, seed: int) -> FoundFace | Skipped:
    """The face in a photo, or why it cannot be used; `data` and `seed` as for `make_record`.

    Raises:
      UserError: the shape predictor is missing or unusable, or a cloud cannot be reached (Unreachable).
    """
    return check_fit(detect_face(photo, data), data, seed)


def detect_face(photo: Photo, data: ConfigDict) -> FoundFace | Skipped:
    """The face in a photo, or why there is none; of `data` only `shape_predictor` is used.

    Raises:
      UserError: as `find_face` does.
    """
    if isinstance(photo.path, str):
        # Not imported above: builds from known faces do without dlib.
        from maskgan_jax.data.build.landmarks import largest_face_landmarks, load_predictor

        load_predictor(data.shape_predictor)  # Outside the block below: a missing predictor is not the photo's fault.
    try:
        if isinstance(photo.path, tuple):
            face = pose_face(*photo.path)
            return FoundFace(dataclasses.replace(photo, identity=face.identity, expression=face.expression), face.landmarks)
        encoded = photo.read_bytes()
        landmarks = largest_face_landmarks(decode_image(encoded), data.shape_predictor)
        return FoundFace(photo, landmarks, jpeg_quality(encoded))
    except Exception as error:
        return _skipped(photo, error)


def check_fit(found: FoundFace | Skipped, data: ConfigDict, seed: int) -> FoundFace | Skipped:
    """A face found by `detect_face`, or why `make_record` could not draw a mask on it, or find that of its pair.

    The splits depend on it, so the mask that `make_record` will draw is already fitted here.
    """
    if isinstance(found, Skipped):
        return found
    try:
        if found.photo.masked:
            make_record(found, data, seed)
            return found
        aligned = FaceSquare.around(found.landmarks, data.size, data.zoom).to_aligned(found.landmarks).astype(np.float32)
        fit_mask(aligned, _mask_rng(found.photo, seed), data, (data.size, data.size))
    except Exception as error:
        return _skipped(found.photo, error)
    return found


def _skipped(photo: Photo, error: Exception) -> Skipped:
    """The photo that caused `error`; raises it again if other photos would have caused it too."""
    if isinstance(error, Unreachable | MemoryError):
        raise error
    if isinstance(error, UserError):
        return Skipped(photo.id, photo.source, str(error))
    *_, place = traceback.extract_tb(error.__traceback__)
    reason = f"unexpected error, {describe(error)} ({os.path.basename(place.filename)}, line {place.lineno})"
    return Skipped(photo.id, photo.source, reason, unexpected=True)


def try_record(face: FoundFace, data: ConfigDict, seed: int, *, known: bool = False) -> dict[str, Any] | Skipped:
    """What `make_record` returns, or why it failed.

    Args:
      face: as for `make_record`, as are `data` and `seed`.
      known: the face was found by an earlier build, so that this one has not read its photo before.

    Raises:
      UserError: a cloud cannot be reached (Unreachable).
      MemoryError: memory ran out.
    """
    try:
        return make_record(face, data, seed)
    except Exception as error:
        left_out = _skipped(face.photo, error)
        if known or left_out.unexpected:
            return left_out
        photo = face.photo
        return Skipped(
            photo.id, photo.source, f"{error}, unlike before; the photos must not change during a build", unexpected=True
        )


def make_record(face: FoundFace, data: ConfigDict, seed: int) -> dict[str, Any]:
    """One record as it is stored.

    Args:
      face: from `find_face`.
      data: the `data` section of the config.
      seed: together with the photo's id, the seed of the mask, which thus does not depend on other photos.

    Raises:
      UserError: the photo cannot be read, or a setting of the masks is wrong.
    """
    photo = face.photo
    image = photo.read()
    aligned = align(image, face.landmarks, data.size, data.zoom)
    if photo.masked:
        drawn = worn_mask(photo, image.shape[:2], aligned)
    else:
        drawn = draw_on(face, aligned, data, seed)
    return {
        "real": aligned.image,
        "masked": drawn.image,
        "mask": np.where(drawn.mask, np.uint8(255), np.uint8(0))[..., None],
        "landmarks": aligned.landmarks,
        "source": photo.source,
        "identity": photo.identity,
        "expression": photo.expression,
        "mask_type": drawn.mask_type,
        "mask_parameters": json.dumps(drawn.parameters),
        "id": photo.id,
        "alignment": aligned.square.corners,
    }


def draw_on(face: FoundFace, aligned: AlignedFace, data: ConfigDict, seed: int) -> DrawnMask:
    """The mask that `make_record` draws on a face aligned by `align`."""
    compression = None
    if face.jpeg_quality is not None:
        compression = Compression(face.jpeg_quality, aligned.square.side / data.size)
    return draw_mask(aligned.image, aligned.landmarks, _mask_rng(face.photo, seed), data, compression)


def _mask_rng(photo: Photo, seed: int) -> np.random.Generator:
    digest = hashlib.blake2b(photo.id.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest)])
