"""Where photos come from: face data sets by their file names, any folder, and faces rendered here."""

from __future__ import annotations

import collections
import csv
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.data.rendered_faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import find_pictures, read_picture

RENDERED_FACES = 1000
KDEF_ANGLES = ("FL", "HL", "S", "HR", "FR")
KDEF_EXPRESSIONS = {
    "AF": "afraid",
    "AN": "angry",
    "DI": "disgusted",
    "HA": "happy",
    "NE": "neutral",
    "SA": "sad",
    "SU": "surprised",
}


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo of a face, not yet read.

    Attributes:
      id: names the photo in its data set: the source and the path below the source's folder.
      source: the data set it comes from; splits are set by source.
      identity: the person, unique over all sources.
      expression: '' if not known.
      path: the file; for a rendered face, its number and seed.
    """

    id: str
    source: str
    identity: str
    expression: str
    path: Path | tuple[int, int]

    def read(self) -> np.ndarray:
        """The picture, `[H, W, 3]` RGB, uint8. Raises UserError if the file cannot be read."""
        return read_picture(self.path) if isinstance(self.path, Path) else render_face(*self.path).picture


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A photo that does not get into the data set, and why."""

    id: str
    source: str
    reason: str


def _photo(source: str, folder: Path, path: Path, identity: str = "", expression: str = "") -> Photo:
    """A photo below `folder`; without `identity`, a person of its own."""
    name = path.relative_to(folder).as_posix()
    # A folder that holds several sources often has one subfolder for each: do not say it twice.
    name = name if name.startswith(f"{source}/") else f"{source}/{name}"
    return Photo(name, source, identity or name, expression, path)


def _skipped(source: str, folder: Path, path: Path, reason: str) -> Skipped:
    return Skipped(_photo(source, folder, path).id, source, reason)


def each_its_own(source: str, folder: Path) -> Iterator[Photo]:
    """A folder of photos (with subfolders), each of another person: FFHQ, UTKFace, or anything else."""
    for path in find_pictures(folder):
        yield _photo(source, folder, path)


def kdef(folder: Path, angles: Sequence[str] = ("S",)) -> Iterator[Photo | Skipped]:
    """KDEF, with names such as AF01HAS.JPG: session, sex and number of the person, expression, angle.

    A person is the same one in both sessions, A and B.
    """
    if unknown := set(angles) - set(KDEF_ANGLES):
        raise UserError(f"data.kdef_angles has {', '.join(sorted(unknown))}; the angles are {', '.join(KDEF_ANGLES)}")
    name = re.compile(rf"[AB]([FM]\d\d)({'|'.join(KDEF_EXPRESSIONS)})({'|'.join(KDEF_ANGLES)})", re.IGNORECASE)
    for path in find_pictures(folder):
        parts = name.fullmatch(path.stem)
        if not parts:
            yield _skipped("kdef", folder, path, "not named as KDEF's photos are (AF01HAS.JPG)")
            continue
        person, expression, angle = parts.group(1).upper(), parts.group(2).upper(), parts.group(3).upper()
        if angle in angles:
            yield _photo("kdef", folder, path, f"kdef_{person}", KDEF_EXPRESSIONS[expression])
        else:
            yield _skipped("kdef", folder, path, f"angle {angle} is not in data.kdef_angles")


def celeba(folder: Path) -> Iterator[Photo | Skipped]:
    """CelebA's photos, named `<identity>_<n>.jpg`, or as they are distributed, with the table identity_CelebA.txt.

    The table is looked for in the folder and the two above it, each with its subfolder Anno: CelebA's own layout has
    Anno/identity_CelebA.txt and Img/img_align_celeba/000001.jpg.
    """
    above = [folder, *folder.absolute().parents[:2]]
    places = [place / anno / "identity_CelebA.txt" for place in above for anno in ("", "Anno")]
    table = next(filter(Path.is_file, places), None)
    identities = {}
    if table:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
        # By the name without .jpg, as one of CelebA's packages has .png.
        identities = {Path(words[0]).stem: words[1] for line in lines if len(words := line.split()) == 2}
    for path in find_pictures(folder):
        named = re.fullmatch(r"(\d+)_\d+", path.stem)
        if path.stem in identities:
            yield _photo("celeba", folder, path, f"celeba_{identities[path.stem]}")
        elif named:
            yield _photo("celeba", folder, path, f"celeba_{named[1]}")
        elif table:
            # Its person may be another photo's too, so that it could end up in another split.
            yield _skipped("celeba", folder, path, f"not in {table.name}")
        elif re.fullmatch(r"\d{6}", path.stem):
            raise UserError(
                f"{path} is named as CelebA names its photos, which tells nobody's identity; put CelebA's identity_CelebA.txt "
                f"into {folder}, so that each person gets into one split only"
            )
        else:
            yield _photo("celeba", folder, path)


def expressions(folder: Path) -> Iterator[Photo | Skipped]:
    """Acted expressions, named `<performer>_<expression>_<n>`."""
    for path in find_pictures(folder):
        parts = re.fullmatch(r"([^_]+)_([^_]+)_\d+", path.stem)
        if parts:
            yield _photo("expressions", folder, path, f"performer_{parts.group(1)}", parts.group(2))
        else:
            yield _skipped("expressions", folder, path, "not named <performer>_<expression>_<n>")


def any_folder(folder: Path) -> Iterator[Photo | Skipped]:
    """Any folder of photos, as its faces.csv says or each of another person.

    faces.csv has the columns file (below the folder) and, if known, source, identity and expression; others are ignored.
    """
    table = folder / "faces.csv"
    if not table.is_file():
        yield from each_its_own("folder", folder)
        return
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {table} ({error}); it must be a comma-separated table in UTF-8") from error
    if not rows or "file" not in rows[0]:
        raise UserError(f"{table} has no rows with a column 'file'; give one row per photo, with its path below {folder}")
    for row in rows:
        name, source, identity, expression = (row.get(key) or "" for key in ("file", "source", "identity", "expression"))
        path, source = folder / name, source or "folder"
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            yield Skipped(f"{source}/{name}", source, f"not a file below {folder}")
        elif not path.is_file():
            yield _skipped(source, folder, path, "the file is missing")
        else:
            yield _photo(source, folder, path, identity, expression)


def rendered(count: int, seed: int) -> Iterator[Photo]:
    """Faces rendered here; who they are is known once they are rendered."""
    for index in range(count):
        yield Photo(f"rendered/{index:06}", "rendered", "", "", (index, seed))


KINDS = {
    "ffhq": lambda folder, config: each_its_own("ffhq", folder),
    "kdef": lambda folder, config: kdef(folder, config.data.kdef_angles),
    "utkface": lambda folder, config: each_its_own("utkface", folder),
    "celeba": lambda folder, config: celeba(folder),
    "expressions": lambda folder, config: expressions(folder),
    "folder": lambda folder, config: any_folder(folder),
}


def list_photos(source: str, config: ConfigDict) -> Iterator[Photo | Skipped]:
    """The photos of one source.

    Args:
      source: `KIND=FOLDER` with one of `KINDS`, or `rendered=N` for N rendered faces (`rendered`: 1000).
      config: the settings; `data.kdef_angles` and `seed` are used.

    Raises:
      UserError: no such kind or folder, no photos in it, or a faulty table of them.
    """
    kind, _, where = source.partition("=")
    if kind == "rendered":
        if where and not (where.isdecimal() and int(where) > 0):
            raise UserError(f"source {source}: give the number of faces to render, as in rendered={RENDERED_FACES}")
        yield from rendered(int(where or RENDERED_FACES), config.seed)
    elif kind not in KINDS:
        raise UserError(f"source {source}: there is no kind {kind!r}; the kinds are {', '.join(KINDS)} and rendered")
    elif not where:
        raise UserError(f"source {source}: give a folder, as in {kind}=FOLDER")
    else:
        yield from KINDS[kind](Path(where), config)


def list_all_photos(sources: Sequence[str], config: ConfigDict) -> tuple[list[Photo], list[Skipped]]:
    """The photos of several sources, and those left out by their names; sources as for `list_photos`.

    Raises:
      UserError: as `list_photos`, or two photos have the same id.
    """
    found = list(itertools.chain.from_iterable(list_photos(source, config) for source in sources))
    (id_, times), *_ = collections.Counter(item.id for item in found).most_common(1)
    if times > 1:
        raise UserError(
            f"{times} photos are called {id_}; give every photo once, two folders of one kind as one with subfolders"
        )
    return [item for item in found if isinstance(item, Photo)], [item for item in found if isinstance(item, Skipped)]
