"""The images that raters judge: one of each face by each method, the real one among them."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.files import images_by_name, read_image
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.study.design import EXPRESSIONS, REAL

# Smaller ones can hardly be judged; larger ones fit on no screen.
SIDES = (32, 2048)
# What makes a spreadsheet take a cell of the report's answers.csv for a formula.
_FORMULA = ("=", "+", "-", "@")


@dataclasses.dataclass(frozen=True)
class Images:
    """Where the images are.

    Attributes:
      folders: {method: {face: file}}; all have the same faces. `real` is the first method.
      mask: {face: file} of the masks with which `telea` is drawn where it has no folder, else empty.
      expected: {(face, method): SHA-256 of the pixels} as they were when the study began, or empty.
    """

    folders: Mapping[str, Mapping[str, Path]]
    mask: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    expected: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)

    @property
    def faces(self) -> list[str]:
        """The names of all faces, sorted."""
        return sorted(self.folders[REAL])

    @property
    def methods(self) -> list[str]:
        """The names of all methods: `real`, those that were given, and the anchors."""
        return [*self.folders, *(["telea"] if self.mask else [])]

    def read(self, face: str, method: str) -> np.ndarray:
        """One image, `[H, W, 3]` RGB uint8. Raises UserError if it cannot be read, or is not the `expected` one."""
        image = self._read(face, method)
        if self.expected and self.expected[face, method] != _digest(image):
            raise UserError(f"{face} of '{method}' is another image than when the study began; put the former one back")
        return image

    def _read(self, face: str, method: str) -> np.ndarray:
        if method in self.folders:
            return read_image(self.folders[method][face])
        masked, mask = self.read(face, "masked"), read_image(self.mask[face], grey=True)
        if mask.shape != masked.shape[:2]:
            raise UserError(f"the mask {self.mask[face]} has another size than its image; save both at one size")
        return telea(masked, mask)

    def digests(self) -> dict[tuple[str, str], str]:
        """{(face, method): SHA-256 of the pixels}.

        Raises:
          UserError: an image cannot be read, or they are not all of one size.
        """
        size, digests = None, {}
        for face in tqdm(self.faces, desc="images", unit="face"):
            for method in self.methods:
                image = self.read(face, method)
                size = size or image.shape
                if image.shape != size:
                    raise UserError(
                        f"{face} of '{method}' has {image.shape[1]} x {image.shape[0]} px, others have {size[1]} x {size[0]}; "
                        "save all images at one size, so that the size tells raters nothing"
                    )
                digests[face, method] = _digest(image)
        if not SIDES[0] <= min(size[:2]) <= max(size[:2]) <= SIDES[1]:
            raise UserError(f"the images have {size[1]} x {size[0]} px; give images of {SIDES[0]} to {SIDES[1]} px a side")
        return digests


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def find_images(
    methods: Mapping[str, str | os.PathLike],
    real: str | os.PathLike,
    masked: str | os.PathLike | None = None,
    mask: str | os.PathLike | None = None,
) -> Images:
    """Finds the images of all methods; files belong together by their names, whatever the suffix.

    Args:
      methods: {name: folder}. The names `masked` and `telea` are the anchors.
      real: the folder of the real faces.
      masked: the folder of faces with masks on, the anchor `masked`.
      mask: the folder of the masks, above 127 = hidden: with `masked`, the anchor `telea` is drawn.

    Raises:
      UserError: a folder has no images or other names than the first, an image is a link to elsewhere, or a name is unfit.
    """
    for method in methods:
        if not method.isprintable():
            raise UserError(f"the name {method!r} of a method has characters that cannot be shown; give it another name")
    if REAL in methods:
        raise UserError("the name 'real' is for the real faces; give them with --real, and another name to the method")
    if masked and "masked" in methods:
        raise UserError("'masked' is given twice, by --images and by --masked; leave one of them out")
    if mask and not (masked or "masked" in methods):
        raise UserError("--mask is for drawing the anchor 'telea' on the masked faces; give --masked, too")
    if mask and "telea" in methods:
        raise UserError("'telea' has a folder already and is not drawn; leave out --mask")
    given = {REAL: real, **methods, **({"masked": masked} if masked else {})}
    if len(given) < 2:
        raise UserError("there is nothing to compare with the real faces; give --images=METHOD=DIR or --masked=DIR")
    folders = {method: _inside(folder) for method, folder in given.items()}
    masks = _inside(mask) if mask else {}
    for method, files in {**folders, **({"mask": masks} if mask else {})}.items():
        of_real = folders[REAL].keys()
        for lacking, other, missing in ((method, REAL, of_real - files.keys()), (REAL, method, files.keys() - of_real)):
            if missing:
                more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
                raise UserError(
                    f"the folder of '{lacking}' lacks faces that the folder of '{other}' has: "
                    f"{', '.join(sorted(missing)[:5])}{more}; every face must be there by every method"
                )
    for name in (*methods, *folders[REAL]):
        if name.startswith(_FORMULA):
            raise UserError(f"the name {name!r} begins with {name[0]!r}: spreadsheets would compute it; give it another name")
    return Images(folders, masks)


def _inside(folder: str | os.PathLike) -> dict[str, Path]:
    """The images in a folder by their names, as resolved paths. Raises UserError if one leads out of it."""
    root = Path(os.path.realpath(folder))
    files = {name: Path(os.path.realpath(path)) for name, path in images_by_name(folder).items()}
    for name, path in files.items():
        if not name.isprintable():
            raise UserError(f"the name {name!r} in {folder} has characters that cannot be shown; rename the file")
        if not path.is_relative_to(root):
            raise UserError(f"{name} in {folder} is a link to a file elsewhere; only files in the given folders are shown")
    return files


def read_expressions(path: str | os.PathLike, faces: Iterable[str]) -> dict[str, str]:
    """The true expression of each face from a table with the columns `file` and `expression`.

    Names match without suffixes, as those of images do; rows of other files, and other columns, do not matter.

    Raises:
      UserError: the table cannot be read, has not these columns, lacks a face, or an expression is none of the five.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if not {"file", "expression"} <= set(rows.fieldnames or ()):
                raise UserError(
                    f"{path} needs a first line that names the columns `file` and `expression`, separated by commas"
                )
            table = {}
            for row in rows:
                if not (row["file"] or "").strip():  # Spreadsheets write such rows after the last one.
                    continue
                name, expression = Path(row["file"]).with_suffix("").as_posix(), (row["expression"] or "").strip().lower()
                if table.setdefault(name, expression) != expression:
                    raise UserError(f"{path}, line {rows.line_num}: {row['file']} has two expressions; keep one")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"{path} is not a table of comma-separated values in UTF-8 ({error})") from error
    for face in faces:
        if table.get(face) not in EXPRESSIONS:
            what = f"calls {face} {table[face]!r}" if table.get(face) else f"has no expression for {face}"
            raise UserError(f"{path} {what}; each face needs one of {', '.join(EXPRESSIONS)}")
    return {face: table[face] for face in faces}
