"""Compares encodings of the images of a record: bytes on disk, and time to write and to read.

Each goes through the complete pipeline: TFDS protocol buffer, array_record, and grain as in `training_batches`. Times are
CPU time of one process, so that other work on the machine counts little; of reading and training, the best of several rounds.
docs/data.md has results.

    python tools/measure_records.py --data_dir=data
    python tools/measure_records.py
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from maskgan_jax.config import load_config
from maskgan_jax.data.build.make_record import FoundFace, find_face, make_record
from maskgan_jax.data.build.sources import list_photos
from maskgan_jax.data.masked_faces.reader import TEXTS, load_split, readable
from maskgan_jax.data.pipeline import ARRAYS, training_batches
from maskgan_jax.errors import UserError, exit_code

BATCH = 16
ROUNDS = 5
# `input.flip` and `input.jitter`.
AUGMENTATIONS = ((False, 1.0), (True, 1.0), (True, 286 / 256))
FEATURES = tfds.features.FeaturesDict(
    {name: tfds.features.Text() for name in ("real", "masked", "mask", *TEXTS)}
    | {"landmarks": tfds.features.Tensor(shape=(68, 2), dtype=np.float32)}
    | {"alignment": tfds.features.Tensor(shape=(4, 2), dtype=np.float64, encoding="bytes")}
)


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How `real`, `masked` and `mask` are stored: functions from image to bytes and back, and options of array_record."""

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, tuple[int, int, int]], np.ndarray]
    file_options: str = "group_size:1"


def as_file(suffix: str, *settings: int) -> Encoding:
    """OpenCV's encoder of one image format."""

    def encode(image: np.ndarray) -> bytes:
        return cv2.imencode(suffix, image[..., ::-1] if image.shape[2] == 3 else image, settings)[1].tobytes()

    def decode(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
        if shape[2] == 1:
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)[..., None]
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)

    return Encoding(encode, decode)


def as_it_is(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The image in its own bytes."""
    return np.frombuffer(data, np.uint8).reshape(shape)


def row_differences(image: np.ndarray) -> bytes:
    """Each row minus the one above, as PNG's filter 'up' does before compression."""
    return np.concatenate([image[:1], image[1:] - image[:-1]]).tobytes()


def from_row_differences(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The inverse of `row_differences`."""
    rows = as_it_is(data, shape).copy()
    for above, row in zip(rows, rows[1:], strict=False):
        row += above
    return rows


def packed(image: np.ndarray) -> bytes:
    """A mask as one bit per pixel; an image as it is."""
    return np.packbits(image).tobytes() if image.shape[2] == 1 else image.tobytes()


def unpacked(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The inverse of `packed`, for masks of 0 and 255."""
    return np.unpackbits(np.frombuffer(data, np.uint8)).reshape(shape) * 255 if shape[2] == 1 else as_it_is(data, shape)


LEVEL, STRATEGY = cv2.IMWRITE_PNG_COMPRESSION, cv2.IMWRITE_PNG_STRATEGY
ENCODINGS = {
    "PNG, OpenCV's default": as_file(".png"),
    "PNG, level 0": as_file(".png", LEVEL, 0),
    "PNG, level 1": as_file(".png", LEVEL, 1),
    "PNG, level 1, Huffman codes only": as_file(".png", LEVEL, 1, STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    "PNG, level 6": as_file(".png", LEVEL, 6),
    "lossless WebP": as_file(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    "raw": Encoding(np.ndarray.tobytes, as_it_is),
    "raw, mask in bits": Encoding(packed, unpacked),
    "raw, array_record without compression": Encoding(np.ndarray.tobytes, as_it_is, "group_size:1,uncompressed"),
    "raw, array_record with Brotli": Encoding(np.ndarray.tobytes, as_it_is, "group_size:1,brotli:3"),
    "differences between rows": Encoding(row_differences, from_row_differences),
}


class StoredRecords(Sequence):
    """A file of records in one encoding."""

    def __init__(self, path: Path, encoding: Encoding, size: int):
        """Opens the file; `size` is the side of the images."""
        self._stored = ArrayRecordDataSource(str(path))
        self._decode = encoding.decode
        self._shapes = {"real": (size, size, 3), "masked": (size, size, 3), "mask": (size, size, 1)}

    def __len__(self) -> int:
        """The number of records."""
        return len(self._stored)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record number `index`, decoded."""
        record = FEATURES.deserialize_example_np(self._stored[index])
        return record | {name: self._decode(record[name], shape) for name, shape in self._shapes.items()}


def write(path: Path, records: Sequence[dict[str, Any]], encoding: Encoding) -> float:
    """Writes the records; returns the CPU time in seconds."""
    serializer = ExampleSerializer(FEATURES.get_serialized_info())
    start = time.process_time()
    writer = ArrayRecordWriter(str(path), encoding.file_options)
    for record in records:
        encoded = record | {name: encoding.encode(record[name]) for name in ("real", "masked", "mask")}
        writer.write(serializer.serialize_example(FEATURES.encode_example(encoded)))
    writer.close()
    return time.process_time() - start


def best_time(work: Callable[[], Any]) -> float:
    """The shortest CPU time of `work`, in seconds, over several rounds."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(ROUNDS))


def training_rate(source: Sequence[dict[str, Any]], **settings: Any) -> float:
    """Records per second of CPU time in training batches, with these settings of `config.input`."""
    config = load_config("default")
    # Without threads, which would read ahead before the measured time.
    config.input.update(batch_size=BATCH, threads=0, **settings)
    batches = training_batches(source, config)
    next(batches)
    count = len(source) // BATCH
    return count * BATCH / best_time(lambda: [next(batches) for _ in range(count)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all encodings and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", metavar="DIR", help="data set of `maskgan build` (default: rendered faces of 256 px)")
    parser.add_argument("--split", default="train")
    parser.add_argument("--count", type=int, default=128, help="number of records")
    flags = parser.parse_args(arguments)
    if flags.count < BATCH:
        raise UserError(f"--count={flags.count}: give at least {BATCH}, a batch")
    cv2.setNumThreads(1)
    if flags.data_dir:
        stored = load_split(flags.data_dir, flags.split)
        numbers = np.linspace(0, len(stored) - 1, min(flags.count, len(stored))).astype(int)
        records = [record for _, record in readable(stored, numbers.tolist())]
    else:
        config = load_config("default")
        faces = (find_face(photo, config.data, 0) for photo in list_photos(f"rendered={flags.count}", config))
        records = [make_record(face, config.data, 0) for face in faces if isinstance(face, FoundFace)]
    if len(records) < BATCH:
        raise UserError(f"only {len(records)} records to measure with, less than a batch of {BATCH}; give a larger data set")
    size = len(records[0]["real"])
    print(f"{len(records)} records of {size} px")
    print("| encoding | bytes / record | write, ms | read, ms | training, records / s | with mirroring | with jitter as well |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, encoding in ENCODINGS.items():
            path = Path(folder, "records")
            written = write(path, records, encoding) / len(records)
            source = StoredRecords(path, encoding, size)
            for number, record in enumerate(records):
                assert all(np.array_equal(source[number][key], record[key]) for key in ARRAYS), name
            read = best_time(lambda source=source: [source[i] for i in range(len(source))]) / len(source)
            rates = [training_rate(source, flip=flip, jitter=jitter) for flip, jitter in AUGMENTATIONS]
            numbers = [f"{path.stat().st_size / len(records):,.0f}", f"{written * 1e3:.2f}", f"{read * 1e3:.2f}"]
            print(" | ".join([f"| {name}", *numbers, *(f"{rate:,.0f}" for rate in rates)]) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(exit_code("measure_records", main))
