"""Reading the TFDS data set of masked faces."""

from __future__ import annotations

import bisect
import contextlib
import errno
import hashlib
import itertools
import json
import operator
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.config import read_config
from maskgan_jax.data.masked_faces.local_copy import readable_folder
from maskgan_jax.errors import UserError, describe, one_line
from maskgan_jax.storage import reaching

NAME = "masked_faces"
VERSION = "2.0.0"
# In the folder of the records; TFDS reads it as `builder.info.metadata`.
METADATA = "metadata.json"
# The features of a record by their kinds, with TFDS's classes for them: it imports whatever class the file names.
FEATURES = "features.json"
_CLASSES = {
    "featuresDict": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
    "tensor": "tensorflow_datasets.core.features.tensor_feature.Tensor",
    "text": "tensorflow_datasets.core.features.text_feature.Text",
}
# The arrays of a record, with their shapes, S for the side of its images, and their types; and its texts.
ARRAYS = {
    "real": (("S", "S", 3), np.uint8),
    "masked": (("S", "S", 3), np.uint8),
    "mask": (("S", "S", 1), np.uint8),
    "landmarks": ((68, 2), np.float32),
    "alignment": ((4, 2), np.float64),
}
TEXTS = ("source", "identity", "expression", "mask_type", "mask_parameters", "id")
# Bytes at the end of a file of records that are sure to hold the positions of all its records.
END = 1 << 17
# Of images, in pixels.
MOST_SIDE = 4096


class DamagedRecord(UserError):
    """A record that cannot be read, in a split of which most can."""


class Records(Sequence):
    """One split of a data set, for random access: a sequence of records, which grain takes as a source.

    A record is a dict: `real` and `masked` `[S, S, 3]` uint8, `mask` `[S, S, 1]` uint8 (255 = hidden), `landmarks` `[68, 2]`
    float32, `alignment` `[4, 2]` float64, and the strings `source`, `identity`, `expression`, `mask_type`, `mask_parameters`
    (JSON: the random choices and measured values of the drawn mask) and `id`.

    Attributes:
      damaged: the numbers of the records found damaged so far, and why.
    """

    def __init__(self, stored: Sequence[dict[str, Any]], data_dir: str | Path, split: str, files: dict[str, int]):
        """Wraps a TFDS data source; `files` has the number of records in each file of the split."""
        self._stored = stored
        self._where = f"{split} in {data_dir}"
        self._advice = _rebuild(data_dir)
        self._files = files
        self.damaged: dict[int, str] = {}

    def __len__(self) -> int:
        """The number of records, damaged ones included."""
        return len(self._stored)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record number `index`; its images are read-only.

        Raises:
          DamagedRecord: it is damaged; stderr reports it once.
          UserError: more than 1 % of the records (and more than one), or all of them, are damaged; or its file cannot be read.
        """
        index = range(len(self))[operator.index(index)]  # For negative numbers, and IndexError at the end.
        try:
            record = self._stored[index]
        except MemoryError:
            raise
        except Exception as error:  # Of array_record, protocol buffers or NumPy.
            if _is_system_error(error):
                raise UserError(f"cannot read {self._where} ({describe(error)})") from error
            raise self._damage(index, error) from error
        if not np.isfinite(record["landmarks"]).all():
            raise self._damage(index, ValueError("its landmarks are not finite"))
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in record.items()}

    def _damage(self, index: int, error: Exception) -> UserError:
        """Records that a record is damaged; the error to raise."""
        ends = list(itertools.accumulate(self._files.values()))
        reason = f"{list(self._files)[bisect.bisect_right(ends, index)]}: {describe(error)}"
        # Several threads may find it at once.
        if self.damaged.setdefault(index, reason) is reason:
            tqdm.write(one_line(f"record {index} of {self._where} is damaged and left out ({reason})"), file=sys.stderr)
        if len(self.damaged) > max(1, len(self) // 100) or len(self.damaged) == len(self):
            return UserError(
                f"{len(self.damaged)} of {len(self)} records of {self._where} are damaged, record {index} for one ({reason}); "
                f"{self._advice}"
            )
        return DamagedRecord(f"record {index} of {self._where} is damaged ({reason}); {self._advice}")


def readable(records: Sequence[dict[str, Any]], numbers: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of these numbers, each with its number, without damaged ones.

    Raises:
      UserError: too many are damaged, or a file cannot be read; see `Records`.
    """
    for number in numbers:
        try:
            record = records[number]
        except DamagedRecord:  # `Records` has reported it.
            continue
        yield number, record


def load_split(data_dir: str | Path, split: str) -> Records:
    """Opens one split of the data set that `maskgan build` made in `data_dir`, a folder or the URL of a bucket's.

    Raises:
      UserError: there is no data set, or one of another format or without this split; or a file cannot be opened or copied.
    """
    # Imported here: it takes a second, and processes that make records do not need it.
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordReader

    folder = _folder_of(data_dir)
    with _naming(data_dir, folder / FEATURES):
        _check_features(json.loads((folder / FEATURES).read_text(encoding="utf-8")))
    with _naming(data_dir, folder):
        builder = tfds.builder_from_directory(folder)
        # A split has no records if none of them could be made.
        splits = {name: info for name, info in builder.info.splits.items() if info.num_examples}
        if split not in splits:
            raise UserError(f"the data set in {data_dir} has no split {split!r}, only {', '.join(splits)}")
        files = {}
        for path, count in zip(splits[split].filepaths, splits[split].shard_lengths, strict=True):
            with _naming(data_dir, path):
                reader = ArrayRecordReader(str(path))
                files[path.name] = reader.num_records()
                reader.close()
                if files[path.name] != count:
                    raise ValueError(f"it has {files[path.name]} records, not {count}")
        return Records(builder.as_data_source(split), data_dir, split, files)


def digest_of(data_dir: str | Path) -> str:
    """64 hexadecimal digits that identify a data set: another one has others, a copy has the same.

    They are the digest of all records that `maskgan build` stored. Data sets from older versions have none; for them it is the
    SHA-256 over the names, sizes and last `END` bytes of the files of records. array_record keeps the position of each
    compressed record there, so this changes, too, when the data set is rebuilt from other photos or with other masks.

    Raises:
      UserError: there is no data set, or one of another version; or its files cannot be read.
    """
    folder = _folder_of(data_dir)
    if (stored := folder / METADATA).exists():
        with _naming(data_dir, stored):
            return str(json.loads(stored.read_text(encoding="utf-8"))["digest"])
    digest = hashlib.sha256()
    with _naming(data_dir, folder):
        for path in sorted(folder.glob("*.array_record-*")):
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - END))
                digest.update(f"{path.name} {size}\n".encode() + file.read())
    return digest.hexdigest()


def config_of(data_dir: str | Path) -> ConfigDict:
    """The config that the data set in `data_dir` was built with: the `config.json` beside it.

    Raises:
      UserError: it is missing or is no saved config.
    """
    path = readable_folder(data_dir) / "config.json"
    if not has_config(data_dir):
        raise UserError(f"{data_dir} has no config.json, so its settings are unknown; {_rebuild(data_dir)}")
    return read_config(path)


def has_config(data_dir: str | Path) -> bool:
    """Whether the `config.json` of a data set is beside it. Raises UserError if a bucket cannot be reached."""
    with reaching(data_dir):
        return (readable_folder(data_dir) / "config.json").exists()


def zoom_of(data_dir: str | Path) -> float:
    """The `data.zoom` that the data set in `data_dir` was built with; 1.0 if it has no config.json."""
    return config_of(data_dir).data.zoom if has_config(data_dir) else 1.0


def _folder_of(data_dir: str | Path) -> Path | epath.Path:
    """The folder of the records. Raises UserError if there is none of this version."""
    folder = readable_folder(data_dir) / NAME / VERSION
    with reaching(data_dir):
        if folder.is_dir():
            return folder
        others = sorted(path.name for path in folder.parent.glob("*.*.*/"))
    if others:
        raise UserError(f"the data set in {data_dir} has format {others[-1]}, and {VERSION} is needed; {_rebuild(data_dir)}")
    raise UserError(f"there is no data set in {data_dir}; make one with maskgan build --data_dir={data_dir}")


def _check_features(whole: dict[str, Any]) -> None:
    """Raises LookupError, TypeError, AttributeError or ValueError unless these are the features of masked faces."""
    features = whole["featuresDict"]["features"]
    for name, feature in (("", whole), *features.items()):
        kind = "featuresDict" if not name else "tensor" if name in ARRAYS else "text"
        if feature.keys() != {"pythonClassName", kind} or feature["pythonClassName"] != _CLASSES[kind]:
            raise ValueError(f"{name or 'the whole'} is no {kind}")
    if features.keys() != {*ARRAYS, *TEXTS}:
        raise ValueError(f"there are {', '.join(features)}")
    side = int(features["real"]["tensor"]["shape"]["dimensions"][0])
    for name, (shape, kind) in ARRAYS.items():
        array = features[name]["tensor"]
        stored = [int(axis) for axis in array["shape"]["dimensions"]]
        if (
            stored != [side if axis == "S" else axis for axis in shape]
            or array["dtype"] != kind.__name__
            or not 0 < side <= MOST_SIDE
        ):
            raise ValueError(f"{name} is {stored} of {array['dtype']}")


@contextlib.contextmanager
def _naming(data_dir: str | Path, path: Path | epath.Path) -> Iterator[None]:
    """Turns errors of TFDS and array_record, and of a bucket, into UserErrors that name the data set and the file."""
    try:
        yield
    except (MemoryError, UserError):
        raise
    except Exception as error:
        first = error.__cause__ if isinstance(error.__cause__, OSError) else error  # TFDS hides the system's error.
        if _is_system_error(first):
            raise UserError(f"cannot read {path} ({describe(first)})") from error
        raise UserError(
            f"the data set in {data_dir} is damaged ({path.name}: {describe(first)}); {_rebuild(data_dir)}"
        ) from error


def _is_system_error(error: Exception) -> bool:
    """Whether reading failed for a reason other than the file's content: too many open files, a failing disk, no connection."""
    if type(error).__module__.startswith(("gcsfs", "aiohttp", "google.auth", "google.api_core")):
        return True
    if isinstance(error, OSError):
        return error.errno not in (None, errno.ENOENT)  # None: an error of TFDS, not of the system.
    # array_record always raises RuntimeError; these are its texts if a system call, or a request to a bucket, failed.
    return bool(re.search(r"^[a-z]+\(\) failed: (?!No such file)|HTTP status code: (?!404)|[Rr]etry policy", str(error)))


def _rebuild(data_dir: str | Path) -> str:
    return f"build it again with maskgan build --overwrite --data_dir={data_dir}"
