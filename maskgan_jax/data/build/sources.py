"""Where photos come from: known face data sets, any folder, and rendered faces."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import (
    IMAGE_SUFFIXES,
    MOST_MEGABYTES,
    VIDEO_SUFFIXES,
    decode_image,
    is_endless,
    is_image_name,
    why_no_image,
)
from maskgan_jax.storage import is_remote, path_of, reaching, walk

RENDERED_FACES = 1000
# The files that a build writes beside its records.
BESIDE = CARD, CONFIG, SKIPPED, SHEET = "card.json", "config.json", "skipped.csv", "contact_sheet.png"
# Tables of photos, which are found by these names.
TABLES = CELEBA_TABLE, FOLDER_TABLE = "identity_CelebA.txt", "faces.csv"
_VIDEO = "a video; to use it, save frames of it as photos"
# How MaskTheFace names a photo with a mask: the photo's own name, the kind of mask, and perhaps its colour or pattern.
_MASKED_NAME = re.compile(r"(.+)_(surgical|n95|kn95|cloth|gas|inpaint|empty|mask|masked)(?:_\w+)?", re.IGNORECASE)
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


@dataclasses.dataclass(frozen=True, slots=True)
class Photo:
    """A photo of a face, not yet read.

    Attributes:
      id: names the photo in its data set: the source and the path below the source's folder.
      source: the data set it comes from; splits are set by source.
      identity: the person, unique over all sources.
      expression: '' if unknown.
      path: the file, local or in a cloud (`gs://...`); for a rendered face, its number and seed.
      masked: of a pair, the file of the same photo with a mask.
      region: of a pair, the file that says where the mask is (255), if there is one.
      mask_type: of a pair.
    """

    id: str
    source: str
    identity: str
    expression: str
    path: str | tuple[int, int]
    masked: str = ""
    region: str = ""
    mask_type: str = ""

    def read(self) -> np.ndarray:
        """The image, `[H, W, 3]` RGB, uint8. Raises UserError if it cannot be read."""
        return render_face(*self.path).image if isinstance(self.path, tuple) else decode_image(self.read_bytes())

    def read_bytes(self, path: str = "") -> bytes:
        """The file, or that of another path, of the pair.

        Raises:
          Unreachable: it is in a cloud that cannot be reached.
          UserError: it cannot be read.
        """
        path = path or self.path
        with reaching(path):
            try:
                if not is_remote(path) and is_endless(path):
                    raise UserError("cannot read (it is a pipe or a device, not a file)")
                if not is_remote(path) and os.path.getsize(path) > MOST_MEGABYTES * 1_000_000:
                    raise UserError(f"not a readable picture (more than {MOST_MEGABYTES} megabytes)")
                return epath.Path(path).read_bytes()
            except FileNotFoundError as error:
                raise UserError("cannot read (No such file or directory)") from error
            except OSError as error:
                if is_remote(path):
                    raise
                raise UserError(f"cannot read ({error.strerror})") from error


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """A photo that does not get into the data set, and why.

    Attributes:
      id: of the photo, as is `source`.
      reason: one line.
      unexpected: it is not the photo's own fault: an error of the program, or a photo that changed during the build.
    """

    id: str
    source: str
    reason: str
    unexpected: bool = False


def _photo(source: str, folder: epath.Path, path: epath.Path, identity: str = "", expression: str = "") -> Photo:
    """A photo below `folder`; without `identity`, a person of its own."""
    name = path.relative_to(folder).as_posix()
    # A folder of several sources often has a subfolder for each: do not repeat its name.
    name = name if name.startswith(f"{source}/") else f"{source}/{name}"
    # Linux allows names that are not UTF-8, but they are stored as text.
    name, identity, expression = (os.fsencode(text).decode(errors="backslashreplace") for text in (name, identity, expression))
    return Photo(name, source, identity or name, expression, os.fspath(path))


def _skipped(source: str, folder: epath.Path, path: epath.Path, reason: str) -> Skipped:
    return Skipped(_photo(source, folder, path).id, source, reason)


def _walk(folder: epath.Path) -> Iterator[tuple[epath.Path, list[str]]]:
    """As `walk`, without the files beside a data set that was built below `folder`: its contact sheet is no photo."""
    for below, names in walk(folder):
        yield below, [name for name in names if name not in BESIDE] if {CARD, SHEET} <= set(names) else names


def _find_images(folder: epath.Path) -> Iterator[epath.Path]:
    """The image files below `folder`, folder by folder. Unlike `files.find_images` it also works in a cloud.

    Raises:
      UserError: `folder` is not a folder or cannot be read, or there is no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the images")
    empty = True
    for below, names in _walk(folder):
        for name in names:
            if is_image_name(PurePosixPath(name)):
                empty = False
                yield below / name
    if empty:
        raise UserError(f"no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in {folder}")


def _other_files(source: str, folder: epath.Path, used: Container[str]) -> Iterator[Skipped]:
    """The files below `folder` that are no images, but for tables of photos and hidden files, and why they are not used.

    Links to folders, which are not followed, are among them, but no files whose paths are in `used`.
    """
    for below, names in _walk(folder):
        entries = () if is_remote(folder) else below.iterdir()
        links = [path.name for path in entries if os.path.islink(path) and path.is_dir()]
        for name in (*names, *links):
            path = PurePosixPath(name)
            if not (is_image_name(path) or name.startswith(".") or name in TABLES or os.fspath(below / name) in used):
                is_video = path.suffix.lower() in VIDEO_SUFFIXES
                yield _skipped(source, folder, below / name, _VIDEO if is_video else why_no_image(below / name))


def each_its_own(source: str, folder: epath.Path) -> Iterator[Photo]:
    """A folder of photos (with subfolders), each of another person: FFHQ, UTKFace, or anything else."""
    for path in _find_images(folder):
        yield _photo(source, folder, path)


def kdef(folder: epath.Path, angles: Sequence[str] = ("S",)) -> Iterator[Photo | Skipped]:
    """KDEF, with names such as AF01HAS.JPG: session, sex and number of the person, expression, angle.

    Sessions A and B show the same people.
    """
    if unknown := [str(angle) for angle in angles if angle not in KDEF_ANGLES]:
        raise UserError(f"data.kdef_angles has {', '.join(unknown)}; the angles are {', '.join(KDEF_ANGLES)}")
    name = re.compile(rf"[AB]([FM]\d\d)({'|'.join(KDEF_EXPRESSIONS)})({'|'.join(KDEF_ANGLES)})", re.IGNORECASE)
    for path in _find_images(folder):
        parts = name.fullmatch(path.stem)
        if not parts:
            yield _skipped("kdef", folder, path, "not named as KDEF's photos are (AF01HAS.JPG)")
            continue
        person, expression, angle = parts.group(1).upper(), parts.group(2).upper(), parts.group(3).upper()
        if angle in angles:
            yield _photo("kdef", folder, path, f"kdef_{person}", KDEF_EXPRESSIONS[expression])
        else:
            yield _skipped("kdef", folder, path, f"angle {angle} is not in data.kdef_angles")


def celeba(folder: epath.Path) -> Iterator[Photo | Skipped]:
    """CelebA's photos, named `<identity>_<n>.jpg`, or as they are distributed, with the table identity_CelebA.txt.

    The table is looked for in the folder and the two above it, each with its subfolder Anno: CelebA's own layout has
    Anno/identity_CelebA.txt and Img/img_align_celeba/000001.jpg.
    """
    above = [folder, *folder.parents[:2]]
    places = [place / anno / CELEBA_TABLE for place in above for anno in ("", "Anno")]
    table = next((place for place in places if place.exists()), None)
    identities = {}
    if table:
        lines = table.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
        # Without the suffix, as one of CelebA's packages has .png.
        identities = {PurePosixPath(words[0]).stem: words[1] for line in lines if len(words := line.split()) == 2}
    for path in _find_images(folder):
        named = re.fullmatch(r"(\d+)_\d+", path.stem)
        if path.stem in identities:
            yield _photo("celeba", folder, path, f"celeba_{identities[path.stem]}")
        elif named:
            yield _photo("celeba", folder, path, f"celeba_{named[1]}")
        elif table:
            # The same person may be in other photos, and so in another split.
            yield _skipped("celeba", folder, path, f"not in {table.name}")
        elif re.fullmatch(r"\d+", path.stem):  # CelebA-HQ: 0.jpg to 29999.jpg.
            raise UserError(
                f"{path} is named as CelebA names its photos, which tells nobody's identity; put CelebA's identity_CelebA.txt "
                f"into {folder}, so that each person gets into one split only"
            )
        else:
            yield _photo("celeba", folder, path)


def expressions(folder: epath.Path) -> Iterator[Photo | Skipped]:
    """Acted expressions, named `<performer>_<expression>_<n>`."""
    for path in _find_images(folder):
        parts = re.fullmatch(r"([^_]+)_([^_]+)_\d+", path.stem)
        if parts:
            yield _photo("expressions", folder, path, f"performer_{parts.group(1)}", parts.group(2))
        else:
            yield _skipped("expressions", folder, path, "not named <performer>_<expression>_<n>")


def any_folder(folder: epath.Path) -> Iterator[Photo | Skipped]:
    """Any folder of photos, as described by its faces.csv, else each of another person.

    faces.csv has the columns file (below the folder) and, if known, source, identity and expression; others are ignored. Photos
    that it does not list are left out.
    """
    table = folder / FOLDER_TABLE
    if not table.exists() and not os.path.islink(table):  # A link to nothing is to be reported.
        yield from each_its_own("folder", folder)
        return
    listed = set()
    for row in _rows(table):
        name, source, identity, expression = (row.get(key) or "" for key in ("file", "source", "identity", "expression"))
        path, source = folder / name, source or "folder"
        if PurePosixPath(name) in listed:
            yield Skipped(f"{source}/{name}", source, f"an earlier row of {FOLDER_TABLE} has it, too")
            continue
        listed.add(PurePosixPath(name))
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            yield Skipped(f"{source}/{name}", source, f"not a file below {folder}")
        elif not is_remote(folder) and not os.path.isfile(path):  # Not checked in a cloud, where each check is a request.
            yield _skipped(source, folder, path, "the file is missing")
        else:
            yield _photo(source, folder, path, identity, expression)
    if not listed:
        raise UserError(f"{table} has no rows; give one row per photo, with its path below {folder} in a column 'file'")
    for below, names in _walk(folder):
        for path in (below / name for name in names if is_image_name(PurePosixPath(name))):
            if PurePosixPath(path.relative_to(folder)) not in listed:
                yield _skipped("folder", folder, path, f"not in {FOLDER_TABLE}")


def pairs(folder: epath.Path) -> Iterator[Photo | Skipped]:
    """Photos of bare faces and the same with masks, each of another person, in one of two layouts.

    - Folders `real` and `masked` with the same names (but for suffixes), and perhaps `mask`: where the masks are, 255.
    - `x.jpg` and `x_surgical.jpg`, as MaskTheFace names them, in one folder, or those with masks in another (`in_masked`).
    """
    names: dict[str, epath.Path] = {}
    for path in _find_images(folder):
        other = names.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
        if other != path:
            yield _skipped("pairs", folder, path, f"has the name of {other.name}")
    if all((folder / name).is_dir() for name in ("real", "masked")):
        for name, path in names.items():
            kind, _, rest = name.partition("/")
            beside = "real" if kind == "masked" else "masked"
            partner = names.get(f"{beside}/{rest}")
            if kind == "masked" and partner:
                yield _pair(folder, partner, path, names.get(f"mask/{rest}"), "pair")
            elif kind not in ("real", "masked", "mask"):
                yield _skipped("pairs", folder, path, "in none of the folders real, masked and mask")
            elif not partner:
                yield _skipped("pairs", folder, path, f"there is none of this name in {beside}/")
        return
    paired = set()
    unpaired = []
    for name, path in names.items():
        named = _MASKED_NAME.fullmatch(name)
        bare = named and next((one for one in (named[1], named[1].replace("_masked/", "/")) if one in names), None)
        if bare:
            paired.add(bare)
            yield _pair(folder, names[bare], path, None, named[2].lower())
        else:
            unpaired.append(name)
    for name in unpaired:
        if name not in paired:
            yield _skipped("pairs", folder, names[name], "there is no other of its pair, such as x.jpg and x_surgical.jpg")


def _pair(folder: epath.Path, bare: epath.Path, masked: epath.Path, region: epath.Path | None, mask_type: str) -> Photo:
    identity = _photo("pairs", folder, bare).id  # One, though a photo may have several masks.
    photo = _photo("pairs", folder, masked, identity)
    files = {"path": os.fspath(bare), "masked": os.fspath(masked), "region": os.fspath(region) if region else ""}
    return dataclasses.replace(photo, **files, mask_type=mask_type)


def _rows(table: epath.Path) -> Iterator[dict[str, str]]:
    """The rows of a comma-separated table with a column 'file', by the names of its columns in lower case.

    Spaces around names and values are no part of them: ' anna' would be another person than 'anna'.
    """
    try:
        with io.TextIOWrapper(table.open("rb"), encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
            if "file" not in rows.fieldnames:
                raise UserError(f"{table} has no column 'file'; give one row per photo, with its path below {table.parent}")
            for row in rows:  # A row may have more values than there are columns, or fewer.
                named = {name: value.strip() for name, value in row.items() if name and value}
                if any("\n" in value for value in named.values()):  # It would swallow the rows that follow.
                    raise csv.Error(f"a quotation mark before line {rows.line_num} is not closed")
                yield named
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {table} ({error}); it must be a comma-separated table in UTF-8") from error


def rendered(count: int, seed: int) -> Iterator[Photo]:
    """Rendered faces; their identities are set when they are posed."""
    for index in range(count):
        yield Photo(f"rendered/{index:06}", "rendered", "", "", (index, seed))


KINDS = {
    "ffhq": lambda folder, config: each_its_own("ffhq", folder),
    "kdef": lambda folder, config: kdef(folder, config.data.kdef_angles),
    "utkface": lambda folder, config: each_its_own("utkface", folder),
    "celeba": lambda folder, config: celeba(folder),
    "expressions": lambda folder, config: expressions(folder),
    "folder": lambda folder, config: any_folder(folder),
    "pairs": lambda folder, config: pairs(folder),
}


def list_photos(source: str, config: ConfigDict) -> Iterator[Photo | Skipped]:
    """The photos of one source.

    Args:
      source: `KIND=FOLDER` with one of `KINDS`, the folder here or in a cloud, or `rendered=N` for N rendered faces
        (`rendered`: 1000).
      config: the settings; `data.kdef_angles` and `seed` are used.

    Raises:
      UserError: an unknown kind, a folder that is missing, unreadable or without photos, a faulty table of photos, or a cloud
        that cannot be reached.
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
        try:
            with reaching(where):
                # Absolute, as other processes may read the photos.
                folder = epath.Path(path_of(where if is_remote(where) else os.path.abspath(where)))
                used = set()
                for item in KINDS[kind](folder, config):
                    # faces.csv may name photos with other suffixes.
                    if isinstance(item, Photo) and not is_image_name(PurePosixPath(item.path)):
                        used.add(item.path)
                    yield item
                yield from _other_files(kind, folder, used)
        except OSError as error:
            raise UserError(
                f"cannot read {error.filename or where} ({error.strerror or error}); check its permissions"
            ) from error


def list_all_photos(sources: Sequence[str], config: ConfigDict) -> Iterator[Photo | Skipped]:
    """The photos of several sources, and those left out because of their names; sources as for `list_photos`.

    Raises:
      UserError: as for `list_photos`, or two photos have the same id.
    """
    ids: dict[str, int] = {}  # With the number of the source.
    for number, item in ((number, item) for number, source in enumerate(sources) for item in list_photos(source, config)):
        if isinstance(item, Photo):
            while ids.get(item.id) == number:  # ffhq/a.jpg beside a.jpg, as `_photo` does not repeat the source's name.
                name = f"{item.source}/{item.id}"
                item = dataclasses.replace(item, id=name, identity=name if item.identity == item.id else item.identity)
            if item.id in ids:
                raise UserError(
                    f"two photos are called {item.id}; give every photo once, two folders of one kind as one with subfolders"
                )
            ids[item.id] = number
        yield item
