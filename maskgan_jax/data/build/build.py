"""From photos to a finished data set."""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.config import save_config
from maskgan_jax.data.build.card import Tally, data_card
from maskgan_jax.data.build.contact_sheet import contact_sheet
from maskgan_jax.data.build.face_file import KnownFaces, kept_faces, read_face_file
from maskgan_jax.data.build.face_lists import ITEMS_PER_LIST, FaceLists, Usable
from maskgan_jax.data.build.make_record import FoundFace, check_fit, detect_face, try_record
from maskgan_jax.data.build.sources import BESIDE, CARD, CONFIG, SHEET, SKIPPED, Photo, Skipped, list_all_photos
from maskgan_jax.data.build.splits import check_splits, fill_empty, split_photos
from maskgan_jax.data.masked_faces import reader as masked_faces
from maskgan_jax.data.masked_faces.masked_faces_dataset_builder import Builder, prepare
from maskgan_jax.data.masks import check_masks
from maskgan_jax.errors import UserError, one_line
from maskgan_jax.files import replacing, write_json, write_png
from maskgan_jax.runtime.lock import locked
from maskgan_jax.runtime.workers import mapped, number_of_workers
from maskgan_jax.storage import copy_files, is_remote, move, path_of, reaching

# Prefix of the folders of unfinished builds, running or killed.
UNFINISHED = ".unfinished-"


def build_data_set(
    sources: Sequence[str],
    config: ConfigDict,
    data_dir: str | os.PathLike,
    *,
    workers: int = 0,
    overwrite: bool = False,
    runner: str = "",
    runner_options: Sequence[str] = (),
    faces: str | os.PathLike | None = None,
    keep_faces: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Builds a data set of faces with and without masks, the same for any number of workers and any runner.

    `data_dir` then holds the data set (`masked_faces/`), `config.json`, `card.json`, `skipped.csv` and `contact_sheet.png`.
    They appear together when the build has succeeded. (In a cloud, the data set cannot be opened until then.)

    A photo of which no record can be made is skipped, whatever the error. If the photo itself is not the cause, the error is
    also printed on stderr and counted as `unexpected` in the card. If that happens to more than half of the photos, the build
    fails.

    Memory holds only id, person and place of each usable photo; the rest is kept in files.

    Args:
      sources: as for `list_photos`.
      config: the settings; `data` and `seed` are used.
      data_dir: where to write the data set, local or in a cloud.
      workers: number of processes if there is no runner; 0 for one per core.
      overwrite: replace an existing data set.
      runner: run the build as an Apache Beam pipeline with this runner instead of by local processes.
      runner_options: Beam's pipeline options: 'key=value', or 'key' for a switch.
      faces: a file that an earlier build wrote as `keep_faces`: faces are taken from it, and dlib is not needed. Photos that it
        does not name are left out.
      keep_faces: where to write the faces that are found, with their landmarks.

    Returns:
      The data card: numbers of records by split, source and mask type, of skipped photos by reason and of usable ones in no
      split; the splits that should have records but got none; the number of unexpected errors; and the digest.

    Raises:
      UserError: there is already a data set, or something else of these names; a source or setting is wrong; no photo is
        usable; most led to unexpected errors; the disk cannot be written; the cloud cannot be reached; or the pipeline failed.
    """
    # Not an `epath.Path` if it is local: its `glob` takes brackets in the folder's name for a pattern.
    workers, data_dir = number_of_workers(workers), path_of(data_dir)
    _check_name(data_dir)
    if runner:
        if faces or keep_faces:
            raise UserError("face files are for builds without Beam; leave out --runner, or --faces and --keep_faces")
        find_faces, write_records = _stages_by_beam(sources, data_dir, runner, runner_options)
    else:
        known = read_face_file(faces) if faces else None
        find_faces = functools.partial(_find_faces, workers=workers, known=known, keep=keep_faces)
        write_records = functools.partial(_write_records, workers=workers, known=known is not None)
    check_masks(config.data)
    with _unfinished(data_dir, overwrite) as folder, tempfile.TemporaryDirectory() as temporary:
        # In a cloud only if Beam's workers need it there: every access is a request.
        work = epath.Path(temporary) if is_remote(data_dir) and not runner else folder
        lists = FaceLists(work / "lists")
        splits, skipped, unused = _divide_photos(sources, config, lists, find_faces)
        tally = write_records(work / "built", splits, lists, config)
        count = sum(map(len, splits.values()))
        _report(tally.left_out.values(), count)
        _check_any(range(count - len(tally.left_out)), list(tally.left_out.values()))
        skipped += tally.left_out.values()
        card = _card(splits, tally, skipped, unused, config)
        shown = [lists.read_face(splits[split][number].place) for split, number in tally.examples(splits)]
        _write_beside(Path(temporary), card, config, skipped + unused, shown)
        for name in BESIDE:
            epath.Path(temporary, name).copy(work / "built" / name)
        if work != folder:
            with reaching(data_dir):
                copy_files(work / "built", folder / "built")
    return card


def _stages_by_beam(
    sources: Sequence[str], data_dir: epath.Path, runner: str, options: Sequence[str]
) -> tuple[Callable[..., None], Callable[..., Tally]]:
    """The same two steps as `_find_faces` and `_write_records`, as pipelines of Apache Beam."""
    beam_build = _beam_build()
    folders = [source.partition("=")[2] for source in sources if not source.startswith("rendered")]
    how = beam_build.beam_config(runner, options, [data_dir, *filter(None, folders)])
    return functools.partial(beam_build.find_faces, how=how), functools.partial(beam_build.write_records, how=how)


def _divide_photos(
    sources: Sequence[str], config: ConfigDict, lists: FaceLists, find_faces: Callable[..., None]
) -> tuple[dict[str, list[Usable]], list[Skipped], list[Skipped]]:
    """Finds the faces; returns the photos of each split, those that cannot be used, and usable ones in no split."""
    photos, skipped, of_sources = _list_photos(sources, config, lists)
    check_splits(config.data.splits, of_sources)
    _check_any(photos, skipped)
    find_faces(lists, photos, config)
    usable, faceless = _read_found(lists, len(photos))
    _report(faceless, sum(photos))
    skipped += faceless
    splits = split_photos(usable, config.data.splits, config.seed)
    for moved in fill_empty(splits, config.data.splits, config.seed):
        print(f"maskgan build: {moved}; data.splits can say otherwise", file=sys.stderr)
    used = {photo.place for part in splits.values() for photo in part}
    unused = [Skipped(photo.id, photo.source, "not in any split") for photo in usable if photo.place not in used]
    _check_any(splits, skipped + unused)
    return splits, skipped, unused


def _card(
    splits: Mapping[str, Sequence[Usable]],
    tally: Tally,
    skipped: Sequence[Skipped],
    unused: Sequence[Skipped],
    config: ConfigDict,
) -> dict[str, Any]:
    """The data card of the photos of each split of which a record was made."""
    written = {
        split: [photo for number, photo in enumerate(part) if (split, number) not in tally.left_out]
        for split, part in splits.items()
    }
    written = {split: part for split, part in written.items() if part}
    empty = [split for split, rules in config.data.splits.items() if any(rules.values()) and split not in written]
    return data_card(written, tally, skipped, len(unused), empty)


def _write_beside(
    folder: Path, card: dict[str, Any], config: ConfigDict, left_out: Sequence[Skipped], shown: Sequence[FoundFace]
) -> None:
    """Writes the files beside the records; `shown` are the faces of the contact sheet."""
    write_json(folder / CARD, card)
    save_config(folder / CONFIG, config)
    _write_skipped(folder / SKIPPED, left_out)
    examples = [try_record(face, config.data, config.seed) for face in shown]
    records = [record for record in examples if not isinstance(record, Skipped)]
    _check_any(records, examples)
    write_png(folder / SHEET, contact_sheet(records))


def _beam_build() -> ModuleType:
    try:
        from maskgan_jax.data.build import beam as beam_build
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "apache_beam":
            raise
        raise UserError(
            "--runner needs Apache Beam, which is not installed; pip install 'maskgan_jax[beam]', or [dask] for Dask"
        ) from error
    return beam_build


def _check_name(data_dir: Path | epath.Path) -> None:
    """Raises UserError if the name of `data_dir` is not UTF-8, which TFDS cannot write to."""
    try:
        os.path.abspath(data_dir).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the name of {data_dir} is not UTF-8; give another --data_dir") from error


def _check_room(data_dir: Path | epath.Path, overwrite: bool) -> None:
    """Raises UserError if a data set in `data_dir` would replace anything but a data set that may be overwritten."""
    if any((data_dir / masked_faces.NAME).glob("*.*.*")):  # The folder of its version.
        if not overwrite:
            raise UserError(f"{data_dir} holds a data set already; give --overwrite to replace it, or another --data_dir")
        if there := [name for name in BESIDE if (data_dir / name).is_dir()]:
            raise UserError(f"{data_dir} holds a folder {there[0]}, and it would be lost; give another --data_dir")
    elif there := [name for name in (masked_faces.NAME, *BESIDE) if (data_dir / name).exists()]:
        raise UserError(f"{data_dir} holds {there[0]} but no data set, and it would be lost; give another --data_dir")


@contextlib.contextmanager
def _unfinished(data_dir: Path | epath.Path, overwrite: bool) -> Iterator[epath.Path]:
    """A folder to work in; the content of its subfolder `built` moves into `data_dir` when the block ends without an error."""
    try:
        if is_remote(data_dir):
            folder = _unfinished_in_cloud(data_dir, overwrite)
        else:  # Absolute, as a runner's workers may have another working directory.
            folder = _unfinished_here(Path(os.path.abspath(data_dir)), overwrite)
        with folder as unfinished:
            yield unfinished
    except OSError as error:
        raise UserError(
            f"cannot write to {data_dir} ({error.strerror or error}); check its permissions and free space"
        ) from error


@contextlib.contextmanager
def _unfinished_here(data_dir: Path, overwrite: bool) -> Iterator[epath.Path]:
    new = not data_dir.exists()
    data_dir.mkdir(parents=True, exist_ok=True)
    busy = f"another maskgan build is writing to {data_dir}; wait for it, or give another --data_dir"
    try:
        with locked(data_dir, busy) as alone:
            _check_room(data_dir, overwrite)
            with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=data_dir) as name:
                for left in data_dir.glob(f"{UNFINISHED}*/"):
                    if alone and left != Path(name):
                        shutil.rmtree(left)
                built, replaced = Path(name, "built"), Path(name, "replaced")
                built.mkdir()
                replaced.mkdir()
                yield epath.Path(name)
                _check_room(data_dir, overwrite)  # Without locks, another build may have finished first.
                _swap(built, data_dir, replaced)
    except BaseException:
        if new:
            with contextlib.suppress(OSError):  # Another build may have written to it.
                data_dir.rmdir()
        raise


def _swap(built: Path, data_dir: Path, replaced: Path) -> None:
    """Moves a data set from `built` to `data_dir`, and what it replaces to `replaced`; undoes all moves if one fails."""
    moves = []
    for name in (*BESIDE, masked_faces.NAME):  # The data set last: where it is, everything is.
        if (data_dir / name).exists():
            moves.append((data_dir / name, replaced / name))
        moves.append((built / name, data_dir / name))
    try:
        for source, target in moves:
            source.rename(target)
    except BaseException:
        for source, target in reversed(moves):
            if not source.exists():
                target.rename(source)
        raise


@contextlib.contextmanager
def _unfinished_in_cloud(data_dir: epath.Path, overwrite: bool) -> Iterator[epath.Path]:
    """The same where folders are moved file by file and cannot be locked.

    The file without which TFDS cannot open a data set is deleted first and written last.
    """
    folder = data_dir / f"{UNFINISHED}{uuid.uuid4().hex}"
    built, finished = folder / "built", data_dir / masked_faces.NAME
    last = Path(masked_faces.VERSION, "dataset_info.json")
    with reaching(data_dir):
        _check_room(data_dir, overwrite)
    try:
        with reaching(data_dir):
            built.mkdir(parents=True)
        yield folder
        with reaching(data_dir):
            _check_room(data_dir, overwrite)
            for path in finished.glob(f"*/{last.name}"):
                path.unlink()
            if finished.exists():
                finished.rmtree()
            for name in BESIDE:
                (built / name).replace(data_dir / name)
            (built / finished.name / last).replace(folder / last.name)
            move(built / finished.name, finished)
            (folder / last.name).replace(finished / last)
    finally:
        with reaching(data_dir):
            folder.rmtree(missing_ok=True)


def _list_photos(sources: Sequence[str], config: ConfigDict, lists: FaceLists) -> tuple[list[int], list[Skipped], set[str]]:
    """Writes the lists of photos; returns the length of each, the photos left out because of their names, and all sources."""
    skipped, of_sources = [], set()

    def photos() -> Iterator[Photo]:
        for item in list_all_photos(sources, config):
            of_sources.add(item.source)
            if isinstance(item, Photo):
                yield item
            else:
                skipped.append(item)

    counts = []
    for number, batch in enumerate(_batched(photos())):
        lists.write_photos(number, batch)
        counts.append(len(batch))
    return counts, skipped, of_sources


def _batched(items: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(items, ITEMS_PER_LIST)):
        yield batch


def _find_faces(
    lists: FaceLists,
    photos: Sequence[int],
    config: ConfigDict,
    workers: int,
    known: KnownFaces | None,
    keep: str | os.PathLike | None,
) -> None:
    """Finds the faces in the photos of the lists by local processes; `photos` has the length of each list."""
    listed = (photo for number in range(len(photos)) for photo in lists.read_photos(number))
    items = listed if known is None else map(known.face_in, listed)
    search = functools.partial(_find_and_fit, data=config.data, seed=config.seed)
    with contextlib.closing(mapped(search, items, workers)) as results, kept_faces(keep) as keeper:
        progress = iter(tqdm(results, "finding faces" if known is None else "fitting masks", sum(photos), unit=" photos"))
        for number, batch in enumerate(_batched(progress)):
            for found, _ in batch:
                keeper(found)
            lists.write_found(number, [fitted for _, fitted in batch])


def _find_and_fit(
    item: Photo | FoundFace | Skipped, data: ConfigDict, seed: int
) -> tuple[FoundFace | Skipped, FoundFace | Skipped]:
    """What was found in a photo, and the same if a mask can be drawn on it; a known face is not detected again."""
    found = detect_face(item, data) if isinstance(item, Photo) else item
    return found, check_fit(found, data, seed)


def _read_found(lists: FaceLists, count: int) -> tuple[list[Usable], list[Skipped]]:
    """The usable photos, as needed to assign them to splits, and the photos without a usable face."""
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
    folder: epath.Path,
    splits: Mapping[str, Sequence[Usable]],
    lists: FaceLists,
    config: ConfigDict,
    workers: int,
    known: bool,
) -> Tally:
    """Writes the TFDS data set by local processes; returns the tally of its records."""
    faces = (lists.read_face(photo.place) for part in splits.values() for photo in part)
    make = functools.partial(try_record, data=config.data, seed=config.seed, known=known)
    total = sum(map(len, splits.values()))
    with contextlib.closing(mapped(make, faces, workers)) as made:
        records = iter(tqdm(made, "drawing masks", total, unit=" faces"))
        builder = Builder(
            size=config.data.size, splits={split: (len(part), records) for split, part in splits.items()}, data_dir=folder
        )
        prepare(builder)
        next(records, None)  # Ends the progress bar.
    return builder.tally


def _report(skipped: Iterable[Skipped], count: int) -> None:
    """Prints the photos with unexpected errors on stderr. Raises UserError if they are more than half of `count`."""
    unexpected = [photo for photo in skipped if photo.unexpected]
    if 2 * len(unexpected) > count:
        photo = unexpected[0]
        raise UserError(f"{len(unexpected)} of {count} photos led to unexpected errors; {photo.id}, for one: {photo.reason}")
    for photo in unexpected:
        tqdm.write(one_line(f"left out {photo.id}: {photo.reason}"), file=sys.stderr)


def _check_any(made: Collection[Any], left_out: Sequence[Skipped]) -> None:
    """Raises UserError if everything was left out."""
    if not made:
        raise UserError(f"none of the photos is usable; {left_out[0].id}, for one: {left_out[0].reason}")


def _write_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    # A reason may hold the name of a file, which on Linux need not be UTF-8.
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file)
        table.writerow(["photo", "source", "reason"])
        table.writerows((photo.id, photo.source, photo.reason) for photo in sorted(skipped, key=lambda photo: photo.id))
