"""From photos to records, by as many processes as asked for: landmarks, aligned face, mask."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import cv2
import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.data.align import align, face_square, to_aligned
from maskgan_jax.data.landmarks import find_landmarks
from maskgan_jax.data.masks import draw_mask
from maskgan_jax.data.masks.geometry import six_points
from maskgan_jax.data.rendered_faces import pose_face
from maskgan_jax.data.sources import Photo, Skipped
from maskgan_jax.errors import UserError
from maskgan_jax.files import encode_png

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Face:
    """A photo and the landmarks of the face in it: `[68, 2]` float32, (x, y) in pixels of the photo."""

    photo: Photo
    landmarks: np.ndarray


def find_face(photo: Photo, shape_predictor: str = "") -> Face | Skipped:
    """The face in a photo, or why it is of no use; `shape_predictor` as for `find_landmarks`."""
    if isinstance(photo.path, tuple):
        face = pose_face(*photo.path)
        return Face(dataclasses.replace(photo, identity=face.identity, expression=face.expression), face.landmarks)
    try:
        landmarks = find_landmarks(photo.read(), shape_predictor)
        six_points(to_aligned(landmarks, face_square(landmarks), size=256))  # Fails if no mask can be put on them.
    except UserError as error:
        return Skipped(photo.id, photo.source, str(error))
    return Face(photo, landmarks)


def make_record(face: Face, data: ConfigDict, seed: int) -> dict[str, Any]:
    """One record as it is stored, its pictures as PNG bytes.

    Args:
      face: from `find_face`.
      data: the `data` section of the config.
      seed: with the photo's id, the seed of the mask: it does not depend on the other photos.

    Raises:
      UserError: the photo cannot be read any more, or a setting of the masks is wrong.
    """
    photo = face.photo
    aligned = align(photo.read(), face.landmarks, data.size)
    digest = hashlib.blake2b(photo.id.encode(), digest_size=8).digest()
    drawn = draw_mask(aligned.picture, aligned.landmarks, np.random.default_rng([seed, int.from_bytes(digest)]), data)
    region = np.where(drawn.alpha > 0, np.uint8(255), np.uint8(0))[..., None]
    return {
        "real": encode_png(aligned.picture),
        "masked": encode_png(drawn.picture),
        "mask": encode_png(region),
        "landmarks": aligned.landmarks,
        "source": photo.source,
        "identity": photo.identity,
        "expression": photo.expression,
        "mask_type": drawn.mask_type,
        "id": photo.id,
        "alignment": aligned.alignment,
    }


def mapped(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map` by worker processes: results come in the order of the items, and only a few are held at a time.

    Args:
      function: can be pickled, as can items and results.
      items: what it is called with.
      workers: number of processes; with 1, the calling process does the work.

    Raises:
      UserError: a worker process died, for want of memory most likely. Whatever `function` raises comes through.
    """
    if workers == 1:
        _set_up_worker()
        yield from map(function, items)
        return
    # Spawned, not forked: the process may have threads (of JAX, OpenCV, dlib), which do not survive a fork.
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _set_up_worker, (True,))
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 8 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError("a worker process was killed, for want of memory most likely; use fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _set_up_worker(own_process: bool = False) -> None:
    """One thread per process; a process of its own leaves Ctrl-C to its parent, and ends when its parent does."""
    cv2.setNumThreads(1)
    if own_process:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
