"""The TFDS data set of masked faces: how it is stored, and how it is read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskgan_jax.errors import UserError

NAME = "masked_faces"
VERSION = "1.0.0"


class Records(Sequence):
    """One split of a data set, for random access: a sequence of records, which grain takes as a source.

    A record is a dict: `real` and `masked` `[S, S, 3]` uint8, `mask` `[S, S, 1]` uint8 (255 = hidden), `landmarks` `[68, 2]`
    float32, `alignment` `[4, 2]` float64, and the strings `source`, `identity`, `expression`, `mask_type` and `id`.
    """

    def __init__(self, stored: Sequence[dict[str, Any]], data_dir: str | Path):
        """Takes a TFDS data source, and the folder that it comes from."""
        self._stored = stored
        self._data_dir = data_dir

    def __len__(self) -> int:
        """The number of records."""
        return len(self._stored)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record number `index`. Raises UserError if it is damaged."""
        index = range(len(self))[index]  # For negative numbers, and IndexError at the end.
        with _complaining(self._data_dir):
            record = self._stored[index]
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in record.items()}


def load_split(data_dir: str | Path, split: str) -> Records:
    """Opens one split of the data set that `maskgan build` made in `data_dir`.

    Raises:
      UserError: there is no data set, it has no such split, or it is damaged.
    """
    import tensorflow_datasets as tfds  # Takes a second to import, which processes that only make records do without.

    folder = Path(data_dir) / NAME / VERSION
    if not folder.is_dir():
        raise UserError(f"there is no data set in {data_dir}; make one with maskgan build --data_dir={data_dir}")
    with _complaining(data_dir):
        builder = tfds.builder_from_directory(folder)
    if split not in builder.info.splits:
        raise UserError(f"the data set in {data_dir} has no split {split!r}, only {', '.join(builder.info.splits)}")
    with _complaining(data_dir):
        stored = builder.as_data_source(split)
        len(stored)  # Opens the files.
    return Records(stored, data_dir)


@contextlib.contextmanager
def _complaining(data_dir: str | Path) -> Iterator[None]:
    """Has whatever goes wrong in TFDS, array_record and their decoders say which data set is damaged."""
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"the data set in {data_dir} is damaged ({reason:.200}); build it again with "
            f"maskgan build --overwrite --data_dir={data_dir}"
        ) from error
