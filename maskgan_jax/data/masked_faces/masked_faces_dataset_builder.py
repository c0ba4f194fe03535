"""The data set as TensorFlow Datasets sees it; TensorFlow itself is not needed."""

from __future__ import annotations

import bisect
import contextlib
import functools
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.naming import ShardedFileTemplate
from tensorflow_datasets.core.splits import SplitDict, SplitInfo
from tensorflow_datasets.core.writer import ExampleWriter, ShardWriter
from tensorflow_datasets.proto import tf_example_pb2

from maskgan_jax.data.build.card import Tally
from maskgan_jax.data.build.sources import Skipped
from maskgan_jax.data.masked_faces.reader import ARRAYS, NAME, TEXTS, VERSION
from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.storage import is_remote, reaching, save_text

if TYPE_CHECKING:
    import apache_beam as beam

Made = dict[str, Any] | Skipped
# About 80 MB at 256 pixels.
RECORDS_PER_FILE = 512
# array_record opens all files of a split at once, and most systems allow 1,024.
MOST_FILES = 500


def file_ends(count: int) -> list[int]:
    """The limits of the files of a split with `count` records: 0, the end of the first one, ..., `count`."""
    files = min(-(-count // RECORDS_PER_FILE), MOST_FILES)
    return [count * number // files for number in range(files + 1)]


class _DeterministicWriter(ExampleWriter):
    """Writes the fields of a record in the order of their names; protocol buffers leave the order undefined."""

    def write(self, path: str, examples: Iterator[tuple[Any, bytes]]) -> None:
        """Writes serialized examples to a file, local or in a cloud, completely or not at all: Beam may repeat it.

        Raises:
          UserError: it cannot be written.
        """
        if is_remote(path):  # array_record writes local files only.
            with tempfile.TemporaryDirectory() as folder:
                local = epath.Path(folder) / "file"
                self.write(str(local), examples)
                with reaching(path):
                    local.copy(path, overwrite=True)
            return
        parsed = ((key, tf_example_pb2.Example.FromString(example)) for key, example in examples)
        ordered = ((key, example.SerializeToString(deterministic=True)) for key, example in parsed)
        try:
            with replacing(path) as temporary:
                super().write(temporary, ordered)
        except RuntimeError as error:  # From array_record.
            raise UserError(
                f"cannot write the data set ({str(error).partition(';')[0]}); check the disk's free space"
            ) from error


class Builder(tfds.core.ShardBasedBuilder):
    """Pairs of faces with and without a mask.

    A builder by shards, as TFDS's usual one keeps more than 1 GB on disk to shuffle it, which takes TensorFlow. The records
    given come in random order already.

    Attributes:
      tally: of the records, once they are stored.
    """

    name = NAME
    # Where TFDS looks for the files beside this one; its own way there takes a package that it does not install.
    code_path = epath.Path(__file__)
    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES = {"1.0.0": "First version.", "2.0.0": "Pictures as they are, no longer PNG."}

    def __init__(self, *, size: int, splits: Mapping[str, tuple[int, Iterator[Made]]], **kwargs):
        """Sets up the builder.

        Args:
          size: side of the images in pixels.
          splits: for each split, the number of its records and the records, in the order they are stored in, or why one of
            them could not be made.
          **kwargs: as for every TFDS builder; `data_dir` among them.
        """
        self._size = size
        self._splits = splits
        self.tally = Tally()
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        def tensor(shape: tuple[int | str, ...], dtype: type) -> tfds.features.Tensor:
            # As it is: array_record compresses the record as a whole, so that `masked` takes little space beside `real`. Only
            # float32 has a list of its own in TFDS's records.
            encoding = "none" if dtype is np.float32 else "bytes"
            return tfds.features.Tensor(
                shape=tuple(self._size if axis == "S" else axis for axis in shape), dtype=dtype, encoding=encoding
            )

        arrays = {name: tensor(*array) for name, array in ARRAYS.items()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(arrays | {name: tfds.features.Text() for name in TEXTS}),
            supervised_keys=("masked", "real"),
            metadata=tfds.core.MetadataDict(),
        )

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        self._write_splits(dl_manager, download_config)
        self.info.metadata["digest"] = self.tally.digest()

    def _write_splits(self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig) -> None:
        super()._download_and_prepare(dl_manager, download_config)

    def _example_writer(self) -> ExampleWriter:
        return _DeterministicWriter(self.info.file_format)

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, Sequence[Any]]:
        def file(split: str, records: Iterator[Made], start: int, end: int) -> Iterator[tuple[str, dict[str, Any]]]:
            yield from _counted(split, enumerate(itertools.islice(records, end - start), start), self.tally)

        return {
            split: [functools.partial(file, split, records, *span) for span in itertools.pairwise(file_ends(count))]
            for split, (count, records) in self._splits.items()
        }


class BeamBuilder(Builder, skip_registration=True):
    """The same data set, made by an Apache Beam pipeline: whichever worker writes a file makes its records, too.

    TFDS's own pipelines bring finished records into order, which sends them from worker to worker, and through the memory of
    the machine with the DirectRunner. Here only what they are made from is sent, about a hundredth of it.
    """

    name = NAME

    def __init__(
        self,
        *,
        size: int,
        counts: Mapping[str, int],
        items: beam.PTransform,
        make: Callable[[Any], Made],
        **kwargs,
    ):
        """Sets up the builder.

        Args:
          size: side of the images in pixels.
          counts: the number of records in each split.
          items: gives ((split, number in the split), item) for each of them, in any order.
          make: gives the record for an item, or why there is none; it is called by the workers.
          **kwargs: as for every TFDS builder; `data_dir` among them.
        """
        self._counts, self._items, self._make = counts, items, make
        super().__init__(size=size, splits={}, **kwargs)

    def _write_splits(self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig) -> None:
        import apache_beam as beam

        serializer = ExampleSerializer(self.info.features.get_serialized_info())
        templates = {split: self._get_filename_template(split_name=split) for split in self._counts}
        ends = {split: file_ends(count) for split, count in self._counts.items()}
        write = functools.partial(
            _write_file,
            writer=ShardWriter(self.info.features, serializer, self._example_writer()),
            templates=templates,
            ends=ends,
            make=self._make,
        )
        written = self.data_path / "written.json"
        with beam.Pipeline(download_config.beam_runner, download_config.beam_options) as pipeline:
            _ = (
                pipeline
                | "items" >> self._items
                | "file of each" >> beam.Map(_to_file, ends=ends)
                | "by file" >> beam.GroupByKey()
                | "write files" >> beam.Map(write)
                | "what was written" >> beam.combiners.ToList()
                | "note it" >> beam.Map(lambda files: save_text(written, json.dumps(files)))
            )
        files = {split: [] for split in self._counts}
        for split, _, length, size, tally in sorted(json.loads(written.read_text()), key=lambda file: file[:2]):
            files[split].append((length, size))
            self.tally.merge(Tally(**tally))
        written.unlink()
        infos = []
        for split, of_split in files.items():
            lengths, sizes = zip(*of_split, strict=True)
            infos.append(SplitInfo(split, list(lengths), sum(sizes), templates[split]))
        self.info.set_splits(SplitDict(infos))


def _counted(split: str, made: Iterable[tuple[int, Made]], tally: Tally) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records among what was made, as TFDS takes them; all of it is added to the tally."""
    for number, record in made:
        tally.add(split, number, record)
        if not isinstance(record, Skipped):
            yield record["id"], record
            record.clear()  # It is written; TFDS would keep it until the file is complete.


def prepare(builder: Builder, config: tfds.download.DownloadConfig | None = None) -> None:
    """Makes a builder write its data set."""
    # TFDS prints about downloads, and needs a folder for them.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=folder, download_config=config)


def _to_file(item: tuple[tuple[str, int], Any], ends: Mapping[str, Sequence[int]]) -> tuple[tuple[str, int], tuple[int, Any]]:
    """((split, number of the file), (number of the record, what it is made from))."""
    (split, number), what = item
    return (split, bisect.bisect_right(ends[split], number) - 1), (number, what)


def _write_file(
    file: tuple[tuple[str, int], Iterable[tuple[int, Any]]],
    *,
    writer: ShardWriter,
    templates: Mapping[str, ShardedFileTemplate],
    ends: Mapping[str, Sequence[int]],
    make: Callable[[Any], Made],
) -> tuple[str, int, int, int, dict[str, Any]]:
    """Makes the records of one file and writes it; returns its split and number, its records and bytes, and their tally."""
    (split, file_number), items = file
    tally = Tally()

    made = ((number, make(what)) for number, what in sorted(items, key=lambda item: item[0]))
    path = templates[split].sharded_filepath(shard_index=file_number, num_shards=len(ends[split]) - 1)
    length = writer.write(_counted(split, made, tally), path)
    return split, file_number, length, path.stat().length, tally.as_json()
