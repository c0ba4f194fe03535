"""The TFDS data set of masked faces: how it is stored, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
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

    def __init__(self, stored: Sequence[dict[str, Any]]):
        """Takes a TFDS data source."""
        self._stored = stored

    def __len__(self) -> int:
        """The number of records."""
        return len(self._stored)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record number `index`."""
        record = self._stored[range(len(self))[index]]  # For negative numbers, and IndexError at the end.
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in record.items()}


def load_split(data_dir: str | Path, split: str) -> Records:
    """Opens one split of the data set that `maskgan build` made in `data_dir`.

    Raises:
      UserError: there is no data set, or it has no such split.
    """
    import tensorflow_datasets as tfds  # Takes a second to import, which processes that only make records do without.

    folder = Path(data_dir) / NAME / VERSION
    if not (folder / "dataset_info.json").is_file():
        raise UserError(f"there is no data set in {data_dir}; make one with maskgan build --data_dir={data_dir}")
    builder = tfds.builder_from_directory(folder)
    if split not in builder.info.splits:
        raise UserError(f"the data set in {data_dir} has no split {split!r}, only {', '.join(builder.info.splits)}")
    return Records(builder.as_data_source(split))
