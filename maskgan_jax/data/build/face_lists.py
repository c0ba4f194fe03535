"""Photos and the faces in them as files, which one stage of a build leaves for the next, so that no process holds them all."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath

from maskgan_jax.data.build.make_record import FoundFace
from maskgan_jax.data.build.sources import Photo, Skipped
from maskgan_jax.storage import reaching, save_text

# Also a Beam worker's unit of work: about half a minute.
ITEMS_PER_LIST = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Usable:
    """What is needed of a photo with a usable face to assign it to a split, and where the rest is.

    Attributes:
      id: of the photo, as are `source` and `identity`.
      place: number of the list, and offset of the face in it in bytes.
    """

    id: str
    source: str
    identity: str
    place: tuple[int, int]


class FaceLists:
    """Numbered lists in a folder, local or in a cloud: of photos, and of what was found in them under the same number.

    A list is a text file with one JSON object per line, written completely or not at all: a Beam worker may have to repeat it.

    Raises:
      UserError: (all methods) a list cannot be written, or the cloud cannot be reached.
    """

    def __init__(self, folder: epath.Path):
        """Uses a folder, which need not exist."""
        self._folder = epath.Path(folder)

    def write_photos(self, number: int, photos: Iterable[Photo]) -> None:
        """Writes a list of photos."""
        self._write("photos", number, photos)

    def read_photos(self, number: int) -> list[Photo]:
        """Reads a list of photos."""
        return [item for _, item in self._read("photos", number)]

    def write_found(self, number: int, found: Iterable[FoundFace | Skipped]) -> None:
        """Writes a list of faces and of photos without a usable one."""
        self._write("faces", number, found)

    def read_found(self, number: int) -> Iterator[tuple[int, FoundFace | Skipped]]:
        """Reads a list of faces, each with its offset in bytes."""
        return self._read("faces", number)

    def read_face(self, place: tuple[int, int]) -> FoundFace:
        """Reads one face."""
        number, offset = place
        path = self._path("faces", number)
        with reaching(path), path.open("rb") as file:
            file.seek(offset)
            return from_json(file.readline())

    def write_targets(self, number: int, targets: dict[int, Any]) -> None:
        """Writes where the faces of a list belong, by their offsets."""
        save_text(self._path("targets", number), json.dumps(targets))

    def read_targets(self, number: int) -> dict[int, Any]:
        """Reads what `write_targets` wrote."""
        return {int(offset): target for offset, target in json.loads(self._read_bytes("targets", number)).items()}

    def _path(self, kind: str, number: int) -> epath.Path:
        return self._folder / f"{kind}-{number:06}.jsonl"

    def _write(self, kind: str, number: int, items: Iterable[Photo | FoundFace | Skipped]) -> None:
        save_text(self._path(kind, number), "".join(f"{to_json(item)}\n" for item in items))

    def _read(self, kind: str, number: int) -> Iterator[tuple[int, Any]]:
        offset = 0
        for line in io.BytesIO(self._read_bytes(kind, number)):
            yield offset, from_json(line)
            offset += len(line)

    def _read_bytes(self, kind: str, number: int) -> bytes:
        path = self._path(kind, number)
        with reaching(path):
            return path.read_bytes()


def to_json(item: Photo | FoundFace | Skipped) -> str:
    """A photo, a face or a photo left out as one line."""
    if isinstance(item, FoundFace):
        landmarks = landmarks_to_text(item.landmarks)
        return json.dumps({**dataclasses.asdict(item.photo), "landmarks": landmarks, "jpeg_quality": item.jpeg_quality})
    return json.dumps(dataclasses.asdict(item))


def from_json(line: str | bytes) -> Photo | FoundFace | Skipped:
    """What `to_json` wrote."""
    fields = json.loads(line)
    fields["source"] = sys.intern(fields["source"])
    if "reason" in fields:
        return Skipped(**{**fields, "reason": sys.intern(fields["reason"])})
    if fields["identity"] == fields["id"]:
        fields["identity"] = fields["id"]  # One string in memory, not two.
    landmarks, quality = fields.pop("landmarks", None), fields.pop("jpeg_quality", None)
    photo = Photo(**{**fields, "path": fields["path"] if isinstance(fields["path"], str) else tuple(fields["path"])})
    if landmarks is None:
        return photo
    return FoundFace(photo, landmarks_from_text(landmarks), quality)


def landmarks_to_text(landmarks: np.ndarray) -> str:
    """Points `[N, 2]` float32 as base64, exactly."""
    return base64.b64encode(np.ascontiguousarray(landmarks, "<f4")).decode()


def landmarks_from_text(text: str) -> np.ndarray:
    """What `landmarks_to_text` was given. Raises ValueError if the text is something else."""
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, 2).copy()
