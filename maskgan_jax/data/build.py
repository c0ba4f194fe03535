"""The whole way from photos to a finished data set."""

from __future__ import annotations

import collections
import contextlib
import csv
import fcntl
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.config import save_config
from maskgan_jax.data import masked_faces
from maskgan_jax.data.contact_sheet import contact_sheet
from maskgan_jax.data.landmarks import load_predictor
from maskgan_jax.data.masked_faces.masked_faces_dataset_builder import Builder
from maskgan_jax.data.masks import check_masks
from maskgan_jax.data.records import Face, find_face, make_record, mapped
from maskgan_jax.data.sources import Photo, Skipped, list_all_photos
from maskgan_jax.data.splits import check_splits, split_photos
from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing, write_json, write_png

SHEET_RECORDS = 12
# Folders with this prefix are builds under way, or builds that were killed.
UNFINISHED = ".unfinished-"
# What lies beside the records.
CARD, CONFIG, SKIPPED, SHEET = "card.json", "config.json", "skipped.csv", "contact_sheet.png"
# What the card counts.
DESCRIPTION = ("source", "mask_type", "identity")


def build_data_set(
    sources: Sequence[str], config: ConfigDict, data_dir: str | os.PathLike, workers: int = 0, overwrite: bool = False
) -> dict[str, Any]:
    """Makes a data set of faces with and without masks, the same for any number of workers.

    `data_dir` then holds the data set (`masked_faces/`), `config.json`, `card.json`, `skipped.csv` and `contact_sheet.png`.
    Nothing of it is there before all of it is done.

    Args:
      sources: as for `list_photos`.
      config: the settings; `data` and `seed` are used.
      data_dir: where the data set goes.
      workers: number of processes; 0 for one per core.
      overwrite: replace a data set that is there already.

    Returns:
      The data card: numbers of records by split, source and mask type, of skipped photos by reason and of usable ones in no
      split, and the splits that nothing fell to although they should have a share.

    Raises:
      UserError: there is a data set already, or something else of the same names, a source or setting is wrong, no photo is
        usable, or the disk cannot be written.
    """
    data_dir = Path(data_dir)
    if workers < 0:
        raise UserError(f"--workers={workers}: give a number of processes, or 0 for one per core")
    workers = workers or len(os.sched_getaffinity(0))
    _check_room(data_dir, overwrite)
    check_masks(config.data)
    photos, skipped = list_all_photos(sources, config)
    check_splits(config.data.splits, {photo.source for photo in (*photos, *skipped)})
    with _unfinished(data_dir) as folder:
        faces, faceless = _find_faces(photos, config, workers)
        skipped += faceless
        splits = split_photos([face.photo for face in faces.values()], config.data.splits, config.seed)
        used = {photo.id for part in splits.values() for photo in part}
        unused = [Skipped(id_, face.photo.source, "not in any split") for id_, face in faces.items() if id_ not in used]
        if not used:
            example = (skipped + unused)[0]
            raise UserError(f"none of the photos is usable; {example.id}, for one: {example.reason}")
        empty = [split for split, rules in config.data.splits.items() if any(rules.values()) and split not in splits]
        written = _write_records(folder, splits, faces, config, workers)
        card = _card(written, skipped, len(unused), empty)
        write_json(folder / CARD, card)
        save_config(folder / CONFIG, config)
        _write_skipped(folder / SKIPPED, skipped + unused)
        write_png(folder / SHEET, contact_sheet(_examples(folder, written)))
    return card


def _check_room(data_dir: Path, overwrite: bool) -> None:
    """Raises UserError if a data set in `data_dir` would replace anything but another one that may be replaced."""
    there = [name for name in (masked_faces.NAME, CARD, CONFIG, SKIPPED, SHEET) if (data_dir / name).exists()]
    if any((data_dir / masked_faces.NAME).glob("*.*.*/")):  # The folder of its version.
        if not overwrite:
            raise UserError(f"{data_dir} holds a data set already; give --overwrite to replace it, or another --data_dir")
    elif there:
        raise UserError(f"{data_dir} holds {there[0]} but no data set, and it would be lost; give another --data_dir")


@contextlib.contextmanager
def _unfinished(data_dir: Path) -> Iterator[Path]:
    """A folder to build in, whose contents take their places in `data_dir` when the block ends well."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _locked(data_dir), tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=data_dir) as name:
            for left in set(data_dir.glob(f"{UNFINISHED}*")) - {Path(name)}:
                shutil.rmtree(left)
            built, replaced = Path(name, "built"), Path(name, "replaced")
            built.mkdir()
            yield built
            finished = data_dir / masked_faces.NAME
            if finished.exists():
                finished.rename(replaced)
            # The data set last: where it is, the rest is.
            for path in sorted(built.iterdir(), key=lambda path: path.name == finished.name):
                path.replace(data_dir / path.name)
    except OSError as error:
        raise UserError(
            f"cannot write to {data_dir} ({error.strerror or error}); check its permissions and free space"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other builds out of a folder, until the block or the process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f"another maskgan build is writing to {folder}; wait for it, or give another --data_dir") from error
    except OSError:
        pass  # Some network file systems have no locks.
    try:
        yield
    finally:
        os.close(descriptor)


def _find_faces(photos: Sequence[Photo], config: ConfigDict, workers: int) -> tuple[dict[str, Face], list[Skipped]]:
    """The faces by their photos' ids, and the photos without a usable one."""
    if any(isinstance(photo.path, Path) for photo in photos):
        load_predictor(config.data.shape_predictor)  # A missing one is told once here, and not for every photo.
    search = functools.partial(find_face, data=config.data, seed=config.seed)
    found = list(tqdm(mapped(search, photos, workers), "finding faces", len(photos), unit=" photos"))
    return {one.photo.id: one for one in found if isinstance(one, Face)}, [one for one in found if isinstance(one, Skipped)]


def _write_records(
    folder: Path, splits: Mapping[str, Sequence[Photo]], faces: Mapping[str, Face], config: ConfigDict, workers: int
) -> list[dict[str, Any]]:
    """Writes the TFDS data set; returns where each record is, and its `DESCRIPTION`."""
    written: list[dict[str, Any]] = []
    places = [(split, number) for split, part in splits.items() for number in range(len(part))]
    inputs = (faces[photo.id] for part in splits.values() for photo in part)
    make = functools.partial(make_record, data=config.data, seed=config.seed)

    def noted(records: Iterable[dict[str, Any]], progress: tqdm) -> Iterator[dict[str, Any]]:
        for (split, number), record in zip(places, records, strict=True):
            written.append({"split": split, "number": number, **{key: record[key] for key in DESCRIPTION}})
            progress.update()
            yield record

    with (
        contextlib.closing(mapped(make, inputs, workers)) as made,
        tqdm(None, "drawing masks", len(places), unit=" faces") as bar,
    ):
        records = noted(made, bar)
        parts = {split: (len(part), records) for split, part in splits.items()}
        builder = Builder(size=config.data.size, splits=parts, data_dir=folder)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # TFDS talks of downloads.
            builder.download_and_prepare(download_dir=folder.parent / "downloads")
    return written


def _card(
    written: Sequence[Mapping[str, Any]], skipped: Sequence[Skipped], unused: int, empty: Sequence[str]
) -> dict[str, Any]:
    """The data card."""
    card: dict[str, Any] = {"records": len(written), "splits": {}}
    for split in dict.fromkeys(entry["split"] for entry in written):
        entries = [entry for entry in written if entry["split"] == split]
        card["splits"][split] = {
            "records": len(entries),
            "identities": len({entry["identity"] for entry in entries}),
            "sources": _counted(entry["source"] for entry in entries),
            "mask_types": _counted(entry["mask_type"] for entry in entries),
        }
    return {**card, "empty": list(empty), "skipped": _counted(photo.reason for photo in skipped), "unused": unused}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(values).items()))


def _examples(folder: Path, written: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records to show, of as many sources and mask types as there is room for."""
    groups = collections.defaultdict(list)
    for entry in written:
        groups[entry["source"], entry["mask_type"]].append(entry)
    sources, types = (sorted(set(column)) for column in zip(*groups, strict=True))
    # Down the diagonals of the table sources x types, so that both change from one record to the next.
    order = sorted(groups, key=lambda key: ((types.index(key[1]) - sources.index(key[0])) % len(types), key))
    turns = itertools.zip_longest(*(groups[key] for key in order))
    chosen = [entry for turn in turns for entry in turn if entry][:SHEET_RECORDS]
    splits = {split: masked_faces.load_split(folder, split) for split in {entry["split"] for entry in chosen}}
    return [splits[entry["split"]][entry["number"]] for entry in chosen]


def _write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["photo", "source", "reason"])
        table.writerows((photo.id, photo.source, photo.reason) for photo in sorted(skipped, key=lambda photo: photo.id))
