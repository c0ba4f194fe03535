"""Records to batches: shuffled over the whole split, augmented, and divided among processes, with grain."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from maskgan_jax.data.augmentation import Record, change_both, degrade, vary_light, vary_mask
from maskgan_jax.data.masked_faces.reader import readable
from maskgan_jax.data.occluders import occlude
from maskgan_jax.data.points import MIRRORED, dilated

ARRAYS = ("real", "masked", "mask", "landmarks")
# For how many seconds processes that read go on after a signal to stop.
SECONDS_TO_SAVE = 30


def mirror(record: Record) -> Record:
    """The record as in a mirror: images and mask flipped, landmarks moved and renumbered."""
    side = record["real"].shape[1]
    # OpenCV takes a thirtieth of the time that NumPy takes to copy pixels in reverse; it drops an axis of one channel.
    flipped = {name: cv2.flip(record[name], 1).reshape(record[name].shape) for name in ("real", "masked", "mask")}
    landmarks = record["landmarks"][MIRRORED] * np.float32([-1, 1]) + np.float32([side - 1, 0])
    return {**flipped, "landmarks": landmarks}


def enlarge_and_crop(record: Record, factor: float, rng: np.random.Generator) -> Record:
    """pix2pix's jitter: everything enlarged by `factor` and cropped back to its size at a random place."""
    side = record["real"].shape[0]
    enlarged = round(side * factor)
    left, top = (int(v) for v in rng.integers(0, enlarged - side + 1, 2))
    window = np.s_[top : top + side, left : left + side]
    scale = enlarged / side
    resized = {
        n: cv2.resize(record[n], (enlarged, enlarged), interpolation=cv2.INTER_LINEAR)[window] for n in ("real", "masked")
    }
    # The mask must hold every pixel that the interpolation mixed with the mask.
    mask = cv2.resize(record["mask"], (enlarged, enlarged), interpolation=cv2.INTER_LINEAR)[window]
    resized["mask"] = cv2.threshold(mask, 0, 255, cv2.THRESH_BINARY)[1][..., None]
    # Pixel centres are at integers: the left edge of the image is at -0.5.
    landmarks = (record["landmarks"] + 0.5) * scale - 0.5 - np.float32([left, top])
    return {**resized, "landmarks": landmarks.astype(np.float32)}


def misalign(record: Record, most: float, rng: np.random.Generator) -> Record:
    """The record as if its face had been badly aligned: turned, scaled and shifted at random about its middle.

    Args:
      record: as `training_batches` gives it, of one face.
      most: the largest angle in radians, change of scale, and shift as a fraction of the side.
      rng: draws them.
    """
    side = record["real"].shape[0]
    angle, growth, *shift = rng.uniform(-most, most, 4)
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), np.degrees(angle), 1 + growth)
    matrix[:, 2] += np.multiply(shift, side)

    def move(image: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    # A pixel mixes four in a row and in a column; the mask must hold all that has any of the mask.
    wider = cv2.dilate(record["mask"], np.ones((3, 3), np.uint8))
    mask = cv2.warpAffine(wider, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.threshold(mask, 0, 255, cv2.THRESH_BINARY)[1][..., None]
    landmarks = record["landmarks"] @ matrix[:, :2].T + matrix[:, 2]
    return {**change_both(record, move), "mask": mask, "landmarks": landmarks.astype(np.float32)}


def grow_mask(record: Record, most: int, rng: np.random.Generator) -> Record:
    """The record with its mask grown on all sides by a random number of pixels, up to `most`."""
    by = int(rng.integers(0, most + 1))
    return {**record, "mask": dilated(record["mask"], by)[..., None]}


def training_batches(
    source: Sequence[dict[str, Any]], config: ConfigDict, *, start: int = 0, process_index: int = 0, process_count: int = 1
) -> grain.DatasetIterator:
    """An endless iterator over this process's share of the training batches.

    The batches of all processes are the same, in records and augmentation, however many processes share them, and however many
    threads or processes read: a run goes on exactly where it was, whatever changes of that. In place of a damaged record comes
    the next one of the split that is not.

    Args:
      source: the records of a split, as `load_split` gives them.
      config: `input` and `seed` are read.
      start: how many batches of the run came before.
      process_index: which of the processes this is.
      process_count: how many there are; their shares, one after the other, form batches of `config.input.batch_size`.

    Returns:
      An iterator of dicts: `real`, `masked` `[b, S, S, 3]` and `mask` `[b, S, S, 1]` uint8, `landmarks` `[b, 68, 2]` float32,
      `index` `[b]` int32, the numbers of the records in `source`,
      where b is the batch size divided by the number of processes.
    """
    settings = config.input

    def read(number: int, rng: np.random.Generator) -> Record:
        index, record = _next_readable(source, number)
        record = {name: record[name] for name in ARRAYS}
        if settings.flip and rng.random() < 0.5:
            record = mirror(record)
        if settings.vary_region and rng.random() < settings.vary_region:
            record = vary_mask(record, rng)
        if settings.occlude and rng.random() < settings.occlude:
            record = occlude(record, rng)
        if settings.jitter != 1.0:
            record = enlarge_and_crop(record, settings.jitter, rng)
        if settings.misalignment:
            record = misalign(record, settings.misalignment, rng)
        if settings.grow_region:
            record = grow_mask(record, settings.grow_region, rng)
        if settings.light:
            record = vary_light(record, settings.light, rng)
        if settings.degrade and rng.random() < settings.degrade:
            record = degrade(record, rng)
        return {**record, "index": np.int32(index)}

    numbers = grain.MapDataset.range(len(source)).seed(config.seed).shuffle().repeat()
    shares = numbers.random_map(read).batch(settings.batch_size // process_count, drop_remainder=True)
    batches = shares[process_index + start * process_count :: process_count]
    # Batches, not records, are read ahead, each by a thread: array_record, OpenCV and NumPy leave the interpreter free.
    ahead = max(settings.threads, settings.prefetch // (settings.batch_size // process_count))
    if not settings.processes:
        return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=settings.threads, prefetch_buffer_size=ahead)))
    # Threads share what the interpreter does itself. Where an accelerator outruns them, processes read.
    options = grain.MultiprocessingOptions(settings.processes, per_worker_buffer_size=max(1, ahead // settings.processes))
    if not flags.FLAGS.is_parsed():  # grain has flags of its own and asks for them.
        flags.FLAGS.mark_as_parsed()
    one_thread = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    return iter(batches.to_iter_dataset(one_thread).mp_prefetch(options, worker_init_fn=_set_up_worker))


def _set_up_worker(number: int, count: int) -> None:
    del number, count
    cv2.setNumThreads(1)
    # SLURM sends such signals to all processes. The training may need a last batch before it saves, and then ends this one.
    for sent in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(sent, lambda *_: signal.alarm(SECONDS_TO_SAVE))


def evaluation_batches(
    source: Sequence[dict[str, Any]], batch_size: int, *, limit: int = 0, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """This process's share of a split, in order, once.

    The last batch is filled up, and the place of a damaged record is taken, by copies of other records. `weight` `[b]` is 1.0
    for a record and 0.0 for such a copy; the rest is as in `training_batches`. At most `limit` records are read (0: all).
    """
    count = min(limit, len(source)) if limit else len(source)
    for start in range(0, count, batch_size):
        share = range(start + process_index, start + batch_size, process_count)
        numbers, records = zip(*(_next_readable(source, min(i, count - 1)) for i in share), strict=True)
        batch = {name: np.stack([record[name] for record in records]) for name in ARRAYS}
        batch["weight"] = np.array([number == i < count for number, i in zip(numbers, share, strict=True)], np.float32)
        yield batch


def _next_readable(source: Sequence[dict[str, Any]], number: int) -> tuple[int, dict[str, Any]]:
    """The first record that is not damaged from `number` on (the first follows the last), after its own number."""
    return next(readable(source, itertools.chain(range(number, len(source)), range(number))))
