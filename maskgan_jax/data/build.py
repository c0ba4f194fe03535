"""The whole way from photos to a finished data set."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import functools
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.config import save_config
from maskgan_jax.data import masked_faces
from maskgan_jax.data.card import Tally, data_card
from maskgan_jax.data.contact_sheet import contact_sheet
from maskgan_jax.data.face_lists import ITEMS_PER_LIST, FaceLists, Usable
from maskgan_jax.data.masked_faces.masked_faces_dataset_builder import Builder, prepare
from maskgan_jax.data.masks import check_masks
from maskgan_jax.data.records import find_face, make_record, mapped
from maskgan_jax.data.sources import Photo, Skipped, list_all_photos
from maskgan_jax.data.splits import check_splits, split_photos
from maskgan_jax.data.storage import is_remote, reaching
from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing, write_json, write_png

# Folders with this prefix are builds under way, or builds that were killed.
UNFINISHED = ".unfinished-"
# What lies beside the records.
CARD, CONFIG, SKIPPED, SHEET = "card.json", "config.json", "skipped.csv", "contact_sheet.png"


def build_data_set(
    sources: Sequence[str],
    config: ConfigDict,
    data_dir: str | os.PathLike,
    workers: int = 0,
    overwrite: bool = False,
    runner: str = "",
    runner_options: Sequence[str] = (),
) -> dict[str, Any]:
    """Makes a data set of faces with and without masks, the same for any number of workers and any runner.

    `data_dir` then holds the data set (`masked_faces/`), `config.json`, `card.json`, `skipped.csv` and `contact_sheet.png`.
    Nothing of it is there before all of it is done. (In a cloud: the data set cannot be opened before.)

    What the build knows of each photo lies in files meanwhile; of a usable one, its id, person and place stay in memory.

    Args:
      sources: as for `list_photos`.
      config: the settings; `data` and `seed` are used.
      data_dir: where the data set goes, here or in a cloud.
      workers: number of processes; 0 for one per core.
      overwrite: replace a data set that is there already.
      runner: run the build as an Apache Beam pipeline by this runner, and not by processes of this machine.
      runner_options: Beam's pipeline options: 'key=value', or 'key' for a switch.

    Returns:
      The data card: numbers of records by split, source and mask type, of skipped photos by reason and of usable ones in no
      split, and the splits that nothing fell to although they should have a share.

    Raises:
      UserError: there is a data set already, or something else of the same names, a source or setting is wrong, no photo is
        usable, the disk cannot be written, the cloud cannot be reached, or the pipeline failed.
    """
    if workers < 0:
        raise UserError(f"--workers={workers}: give a number of processes, or 0 for one per core")
    workers = workers or len(os.sched_getaffinity(0))
    beam_build = _beam_build() if runner else None
    how = beam_build.beam_config(runner, runner_options) if runner else None
    data_dir = epath.Path(data_dir)
    if runner == "DataflowRunner":
        folders = [source.partition("=")[2] for source in sources if not source.startswith("rendered")]
        if here := [folder for folder in (data_dir, *folders) if not is_remote(folder)]:
            raise UserError(f"{here[0]} is on this machine, out of DataflowRunner's reach; give a folder in a cloud (gs://...)")
    with reaching(data_dir):
        _check_room(data_dir, overwrite)
    check_masks(config.data)
    with reaching(data_dir), _unfinished(data_dir) as folder:
        lists = FaceLists(folder / "lists")
        photos, skipped, of_sources = _list_photos(sources, config, lists)
        count = -(-photos // ITEMS_PER_LIST)
        check_splits(config.data.splits, of_sources)
        if runner:
            beam_build.find_faces(lists, count, config, how)
        else:
            _find_faces(lists, count, photos, config, workers)
        usable, faceless = _read_found(lists, count)
        skipped += faceless
        splits = split_photos(usable, config.data.splits, config.seed)
        used = {photo.place for part in splits.values() for photo in part}
        unused = [Skipped(photo.id, photo.source, "not in any split") for photo in usable if photo.place not in used]
        if not used:
            example = (skipped + unused)[0]
            raise UserError(f"none of the photos is usable; {example.id}, for one: {example.reason}")
        empty = [split for split, rules in config.data.splits.items() if any(rules.values()) and split not in splits]
        if runner:
            tally = beam_build.write_records(folder / "built", splits, lists, count, config, how)
        else:
            tally = _write_records(folder / "built", splits, lists, config, workers)
        card = data_card(splits, tally, skipped, len(unused), empty)
        with tempfile.TemporaryDirectory() as name:
            beside = Path(name)
            write_json(beside / CARD, card)
            save_config(beside / CONFIG, config)
            _write_skipped(beside / SKIPPED, skipped + unused)
            shown = [splits[split][number] for split, number in tally.examples(splits)]
            write_png(beside / SHEET, contact_sheet(_records_of(shown, lists, config)))
            for path in beside.iterdir():
                epath.Path(path).copy(folder / "built" / path.name)
    return card


def _beam_build() -> ModuleType:
    try:
        from maskgan_jax.data import beam_build
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "apache_beam":
            raise
        raise UserError("--runner needs Apache Beam, which is not installed; pip install 'maskgan_jax[beam]'") from error
    return beam_build


def _check_room(data_dir: epath.Path, overwrite: bool) -> None:
    """Raises UserError if a data set in `data_dir` would replace anything but another one that may be replaced."""
    there = [name for name in (masked_faces.NAME, CARD, CONFIG, SKIPPED, SHEET) if (data_dir / name).exists()]
    if any((data_dir / masked_faces.NAME).glob("*.*.*")):  # The folder of its version.
        if not overwrite:
            raise UserError(f"{data_dir} holds a data set already; give --overwrite to replace it, or another --data_dir")
    elif there:
        raise UserError(f"{data_dir} holds {there[0]} but no data set, and it would be lost; give another --data_dir")


def _unfinished(data_dir: epath.Path) -> contextlib.AbstractContextManager[epath.Path]:
    """A folder to work in; what is in its subfolder `built` takes its place in `data_dir` when the block ends well."""
    return _unfinished_in_cloud(data_dir) if is_remote(data_dir) else _unfinished_here(Path(data_dir))


@contextlib.contextmanager
def _unfinished_here(data_dir: Path) -> Iterator[epath.Path]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # Absolute, as a runner's workers may have another working directory.
        with _locked(data_dir), tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=data_dir.absolute()) as name:
            for left in set(data_dir.absolute().glob(f"{UNFINISHED}*")) - {Path(name)}:
                shutil.rmtree(left)
            built, replaced = Path(name, "built"), Path(name, "replaced")
            built.mkdir()
            yield epath.Path(name)
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
def _unfinished_in_cloud(data_dir: epath.Path) -> Iterator[epath.Path]:
    """The same where a folder is moved file by file, and cannot be locked.

    The file without which TFDS opens no data set is the first to go and the last to come.
    """
    folder = data_dir / f"{UNFINISHED}{uuid.uuid4().hex}"
    built, finished = folder / "built", data_dir / masked_faces.NAME
    last = Path(masked_faces.VERSION, "dataset_info.json")
    try:
        built.mkdir(parents=True)
        yield folder
        for path in finished.glob(f"*/{last.name}"):
            path.unlink()
        if finished.exists():
            finished.rmtree()
        for name in (CARD, CONFIG, SKIPPED, SHEET):
            (built / name).replace(data_dir / name)
        (built / finished.name / last).replace(folder / last.name)
        (built / finished.name).rename(finished)
        (folder / last.name).replace(finished / last)
    finally:
        folder.rmtree(missing_ok=True)


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


def _list_photos(sources: Sequence[str], config: ConfigDict, lists: FaceLists) -> tuple[int, list[Skipped], set[str]]:
    """Writes down the photos; returns their number, those left out by their names, and the sources of all of them."""
    skipped, of_sources = [], set()

    def photos() -> Iterator[Photo]:
        for item in list_all_photos(sources, config):
            of_sources.add(item.source)
            if isinstance(item, Photo):
                yield item
            else:
                skipped.append(item)

    total = 0
    for number, batch in enumerate(_batched(photos())):
        lists.write_photos(number, batch)
        total += len(batch)
    return total, skipped, of_sources


def _batched(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, ITEMS_PER_LIST)):
        yield batch


def _find_faces(lists: FaceLists, count: int, photos: int, config: ConfigDict, workers: int) -> None:
    """Finds the faces in the photos of `count` lists, by processes of this machine."""
    listed = (photo for number in range(count) for photo in lists.read_photos(number))
    search = functools.partial(find_face, data=config.data, seed=config.seed)
    with contextlib.closing(mapped(search, listed, workers)) as found:
        for number, batch in enumerate(_batched(iter(tqdm(found, "finding faces", photos, unit=" photos")))):
            lists.write_found(number, batch)


def _read_found(lists: FaceLists, count: int) -> tuple[list[Usable], list[Skipped]]:
    """Of the usable photos what the splits must know, and the photos without a usable face."""
    usable, faceless = [], []
    for number in range(count):
        for offset, item in lists.read_found(number):
            if isinstance(item, Skipped):
                faceless.append(item)
            else:
                photo = item.photo
                usable.append(Usable(photo.id, photo.source, photo.identity, (number, offset)))
    return usable, faceless


def _write_records(
    folder: epath.Path, splits: Mapping[str, Sequence[Usable]], lists: FaceLists, config: ConfigDict, workers: int
) -> Tally:
    """Writes the TFDS data set by processes of this machine; returns the tally of its records."""
    faces = (lists.read_face(photo.place) for part in splits.values() for photo in part)
    make = functools.partial(make_record, data=config.data, seed=config.seed)
    total = sum(map(len, splits.values()))
    with contextlib.closing(mapped(make, faces, workers)) as made:
        records = iter(tqdm(made, "drawing masks", total, unit=" faces"))
        builder = Builder(
            size=config.data.size, splits={split: (len(part), records) for split, part in splits.items()}, data_dir=folder
        )
        prepare(builder)
    return builder.tally


def _records_of(photos: Sequence[Usable], lists: FaceLists, config: ConfigDict) -> list[dict[str, Any]]:
    """The records of a few photos as they are read from a data set."""
    records = (make_record(lists.read_face(photo.place), config.data, config.seed) for photo in photos)
    with tempfile.TemporaryDirectory() as folder:
        prepare(Builder(size=config.data.size, splits={"train": (len(photos), records)}, data_dir=folder))
        return list(masked_faces.load_split(folder, "train"))


def _write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["photo", "source", "reason"])
        table.writerows((photo.id, photo.source, photo.reason) for photo in sorted(skipped, key=lambda photo: photo.id))
