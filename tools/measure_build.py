"""Measures the time of `maskgan build` by stage and source, and its memory for increasing numbers of photos.

    python tools/measure_build.py --source=folder=FACES --count=200
    python tools/measure_build.py --memory 100 300 900

The first runs the build's own functions on `count` evenly spaced photos of each source, in one process and thread, and prints
medians of CPU time per photo. The second builds data sets of rendered faces with `maskgan build --workers=1` and prints peak
memory. docs/data.md has results.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from ml_collections import ConfigDict
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tqdm import tqdm

from maskgan_jax.config import load_config
from maskgan_jax.data.build import landmarks, sources
from maskgan_jax.data.build import make_record as records
from maskgan_jax.data.masked_faces.masked_faces_dataset_builder import Builder
from maskgan_jax.errors import UserError, exit_code

# The functions that do the work of each stage, where the build looks them up. None of them calls another.
STAGES = {
    "read": ((sources.Photo, "read_bytes"), (sources, "render_face"), (sources, "decode_image"), (records, "decode_image")),
    "detect": ((landmarks, "find_box"),),
    "landmarks": ((landmarks, "landmarks_in_box"), (records, "pose_face")),
    "fit": ((records, "fit_mask"),),
    "align": ((records, "align"),),
    "draw": ((records, "draw_mask"),),
}
COLUMNS = (*STAGES, "encode", "rest")


@contextlib.contextmanager
def timed_stages(times: collections.Counter) -> Iterator[None]:
    """Adds the CPU time of each stage, in seconds, to `times` while the block runs."""

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args, **kwargs):
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                times[stage] += time.process_time() - start

        return call

    with contextlib.ExitStack() as stack:
        for stage, functions in STAGES.items():
            for place, name in functions:
                stack.enter_context(mock.patch.object(place, name, timed(stage, getattr(place, name))))
        yield


def stage_times(
    photo: sources.Photo, config: ConfigDict, write: Callable[[dict[str, Any]], None]
) -> tuple[collections.Counter, bool]:
    """The CPU time of each of `COLUMNS` for one photo, in seconds, and whether there is a face; `write` stores its record."""
    times = collections.Counter()
    start = time.process_time()
    with timed_stages(times):
        face = records.find_face(photo, config.data, config.seed)
        usable = isinstance(face, records.FoundFace)
        record = records.make_record(face, config.data, config.seed) if usable else None
    if usable:
        before = time.process_time()
        write(record)
        times["encode"] = time.process_time() - before
    times["rest"] = time.process_time() - start - times.total()
    return times, usable


def measure_stages(photo_sources: list[str], count: int, overrides: list[str]) -> None:
    """Prints a table with a row for each source of photos. Raises UserError if there are no photos."""
    config = load_config("default", overrides)
    groups = collections.defaultdict(list)
    for photo in sources.list_all_photos(photo_sources, config):
        if isinstance(photo, sources.Photo):
            groups[photo.source].append(photo)
    if not groups:
        raise UserError(f"no photo can be read from {', '.join(photo_sources)}; give other sources")
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        features = Builder(size=config.data.size, splits={}, data_dir=folder).info.features
        serializer = ExampleSerializer(features.get_serialized_info())
        writer = ArrayRecordWriter(str(Path(folder, "records")), "group_size:1")

        def write(record: dict[str, Any]) -> None:
            writer.write(serializer.serialize_example(features.encode_example(record)))

        print(f"| source | faces / photos | {' | '.join(COLUMNS)} | photos / s |\n|---|---|{'--:|' * (len(COLUMNS) + 1)}")
        for source, photos in sorted(groups.items()):
            chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, min(count, len(photos))).astype(int)]
            stage_times(chosen[0], config, write)  # To load dlib's files and fill caches.
            results = [stage_times(photo, config, write) for photo in tqdm(chosen, source, leave=False)]
            measured, faces = [times for times, _ in results], sum(usable for _, usable in results)
            medians = [f"{statistics.median(times[column] for times in measured) * 1e3:.1f}" for column in COLUMNS]
            rate = len(measured) / sum(times.total() for times in measured)
            print(f"| {source} | {faces} / {len(measured)} | {' | '.join(medians)} | {rate:.1f} |", flush=True)
        writer.close()


def measure_memory(counts: list[int], overrides: list[str]) -> None:
    """Prints a table of peak memory by number of rendered faces."""
    print("| rendered faces | peak memory, MB | time, s |\n|--:|--:|--:|")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "maskgan_jax", "build", f"--source=rendered={count}", f"--data_dir={folder}"]
            command += ["--workers=1", *overrides]
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise UserError(f"the build failed; run it alone to see why: {' '.join(command)}")
            print(f"| {count} | {usage.ru_maxrss / 1024:.0f} | {time.monotonic() - start:.0f} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags and measures time or memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", action="append", metavar="KIND=FOLDER", help="as for `maskgan build`; default: rendered")
    parser.add_argument("--count", type=int, default=100, help="photos of each source (default: 100)")
    parser.add_argument("--memory", type=int, nargs="+", metavar="N", help="measure memory, with N rendered faces")
    flags, overrides = parser.parse_known_args(arguments)
    if min([flags.count, *(flags.memory or [])]) < 1:
        raise UserError("give --count and --memory at least 1")
    if flags.memory and flags.source:
        raise UserError("--memory is measured with rendered faces; leave out --source")
    if flags.memory:
        measure_memory(flags.memory, overrides)
    else:
        measure_stages(flags.source or ["rendered"], flags.count, overrides)


if __name__ == "__main__":
    sys.exit(exit_code("measure_build", main))
