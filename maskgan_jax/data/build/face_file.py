"""The faces that a build found, in a file: other builds of the same photos then need neither face detection nor dlib."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskgan_jax.data.build.face_lists import landmarks_from_text, landmarks_to_text
from maskgan_jax.data.build.make_record import FoundFace, detect_face
from maskgan_jax.data.build.sources import Photo, Skipped
from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing

HEADER = {"format": "maskgan faces", "version": 1}


class KnownFaces:
    """What an earlier build found, by the photos' ids."""

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]):
        """Takes the lines of a face file by their ids."""
        self._entries = entries

    def face_in(self, photo: Photo) -> FoundFace | Skipped:
        """The face in a photo, or why there is none; rendered faces are not stored, as they need no detection."""
        if isinstance(photo.path, tuple):
            return detect_face(photo, None)
        entry = self._entries.get(photo.id)
        if entry is None:
            return Skipped(photo.id, photo.source, "not in the file of known faces")
        if "reason" in entry:
            return Skipped(photo.id, photo.source, str(entry["reason"]))
        landmarks, quality = landmarks_from_text(entry["landmarks"]), entry["jpeg_quality"]
        if len(landmarks) != 68 or not np.isfinite(landmarks).all():
            raise ValueError(f"{len(landmarks)} landmarks, or not all of them numbers")
        if quality is not None and quality not in range(1, 101):
            raise ValueError(f"a JPEG quality of {quality!r}")
        return FoundFace(photo, landmarks, quality)


def read_face_file(path: str | os.PathLike) -> KnownFaces:
    """Reads what `kept_faces` wrote.

    Raises:
      UserError: the file is missing, damaged or of another kind.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            if json.loads(file.readline()) != HEADER:
                raise ValueError("another header")
            entries = {entry["id"]: entry for entry in map(json.loads, file)}
        known = KnownFaces(entries)
        for entry in entries.values():
            known.face_in(Photo(entry["id"], "", "", "", ""))
        return known
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); give a file that maskgan build --keep_faces wrote") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is not a file of faces, or is damaged; write it again with maskgan build --keep_faces"
        ) from error


@contextlib.contextmanager
def kept_faces(path: str | os.PathLike | None) -> Iterator[Callable[[FoundFace | Skipped], None]]:
    """A function that adds what was found in a photo to the file at `path`, which appears when the block ends without an error.

    Without a path, the function does nothing.

    Raises:
      UserError: the file cannot be written.
    """
    if not path:
        yield lambda found: None
        return
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def write(item: Mapping[str, Any]) -> None:
            file.write(json.dumps(item) + "\n")

        def keep(found: FoundFace | Skipped) -> None:
            if isinstance(found, Skipped):
                if not found.unexpected:  # An error of the program may be gone the next time.
                    write({"id": found.id, "reason": found.reason})
            elif isinstance(found.photo.path, str):
                landmarks = landmarks_to_text(found.landmarks)
                write({"id": found.photo.id, "landmarks": landmarks, "jpeg_quality": found.jpeg_quality})

        write(HEADER)
        yield keep
