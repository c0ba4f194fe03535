"""The data set as TensorFlow Datasets sees it; TensorFlow itself is not needed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from maskgan_jax.data.masked_faces import NAME, VERSION
from maskgan_jax.errors import UserError

# About 100 MB at 256 pixels; TFDS holds a file's records in memory while it writes it.
RECORDS_PER_FILE = 512


class _DeterministicWriter(ExampleWriter):
    """Writes the fields of a record in the order of their names; protocol buffers alone take them as they come."""

    def write(self, path: str, examples: Iterator[tuple[Any, bytes]]) -> Any:
        """Writes serialized examples to a file. Raises UserError if the disk is full."""
        parsed = ((key, tf_example_pb2.Example.FromString(example)) for key, example in examples)
        try:
            return super().write(path, ((key, example.SerializeToString(deterministic=True)) for key, example in parsed))
        except RuntimeError as error:  # From array_record.
            raise UserError(
                f"cannot write the data set ({str(error).partition(';')[0]}); check the disk's free space"
            ) from error


class Builder(tfds.core.ShardBasedBuilder):
    """Pairs of faces with and without a mask.

    A builder by shards, as TFDS's usual one keeps more than 1 GB on disk to shuffle it, which takes TensorFlow. The records
    given come in random order already.
    """

    name = NAME
    # Where TFDS looks for the files beside this one; its own way there takes a package that it does not install.
    code_path = epath.Path(__file__)
    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {str(VERSION): "First version."}

    def __init__(self, *, size: int, splits: Mapping[str, tuple[int, Iterator[dict[str, Any]]]], **kwargs):
        """Sets up the builder.

        Args:
          size: side of the pictures in pixels.
          splits: for each split, the number of its records and the records, in the order they are stored in.
          **kwargs: as for every TFDS builder; `data_dir` among them.
        """
        self._size = size
        self._splits = splits
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        picture = tfds.features.Image(shape=(self._size, self._size, 3), encoding_format="png")
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "real": picture,
                    "masked": picture,
                    "mask": tfds.features.Image(shape=(self._size, self._size, 1), encoding_format="png"),
                    "landmarks": tfds.features.Tensor(shape=(68, 2), dtype=np.float32),
                    "source": tfds.features.Text(),
                    "identity": tfds.features.Text(),
                    "expression": tfds.features.Text(),
                    "mask_type": tfds.features.Text(),
                    "id": tfds.features.Text(),
                    "alignment": tfds.features.Tensor(shape=(4, 2), dtype=np.float64, encoding="bytes"),
                }
            ),
            supervised_keys=("masked", "real"),
        )

    def _example_writer(self) -> ExampleWriter:
        return _DeterministicWriter(self.info.file_format)

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, Sequence[Any]]:
        def shard(records: Iterator[dict[str, Any]], count: int) -> Iterator[tuple[str, dict[str, Any]]]:
            for record in itertools.islice(records, count):
                yield record["id"], record

        shards = {}
        for split, (count, records) in self._splits.items():
            files = -(-count // RECORDS_PER_FILE)
            ends = [count * number // files for number in range(files + 1)]
            shards[split] = [functools.partial(shard, records, end - start) for start, end in itertools.pairwise(ends)]
        return shards
