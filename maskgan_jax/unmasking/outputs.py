"""What is written of each input, where it goes, and what may be replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskgan_jax.errors import UserError
from maskgan_jax.runtime import lock

if TYPE_CHECKING:
    from maskgan_jax.unmasking.inputs import Job
    from maskgan_jax.unmasking.labels import Credentials

# What is also written if it is asked for, each in a folder of this name.
EXTRAS = ("side_by_side", "crops", "regions")
# So long a file's name may be.
MOST_BYTES = 255
# How the names of crops end: they have the numbers of the faces.
_NUMBER = re.compile(r"\.\d+_(before|after)\.png$")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What is written of each input: the result, a JSON beside it, and extras in folders of their own.

    Attributes:
      folder: of all results, which have the names of the inputs.
      side_by_side: whether to write before and after in one image or video, in `side_by_side/`.
      crops: whether to write each unmasked face of photos before and after, aligned, in `crops/`.
      regions: whether to write the mask of what was redrawn in photos, 255 where, in `regions/`.
      keep_metadata: as for `photo_bytes`.
      label: as for `photo_bytes`.
      credentials: signs redrawn results, if given.
      mark: whether they have a visible mark.
      overwrite: whether files that are there may be replaced.
      resume: whether inputs with a complete result are left out.
      suffix: of the results; '' keeps that of each input.
    """

    folder: Path
    side_by_side: bool = False
    crops: bool = False
    regions: bool = False
    keep_metadata: bool = True
    label: bool = True
    credentials: Credentials | None = None
    mark: bool = False
    overwrite: bool = False
    resume: bool = False
    suffix: str = ""

    def result(self, job: Job, suffix: str = "") -> Path:
        """Where the result of an input goes; with a suffix, if it is written in that format whatever the input is."""
        path = self.folder / job.name
        # Instead of its own suffix, it may be the name of another photo.
        return path if path.suffix.lower() == suffix else path.with_name(f"{path.name}{suffix}")

    def json_of(self, result: Path) -> Path:
        """Where a result is described."""
        return result.with_name(f"{result.name}.json")

    def extra(self, result: Path, folder: str, ending: str = ".png") -> Path:
        """Where an extra of a result goes: into a folder of `EXTRAS`, under the name of the result with an ending."""
        name = result.relative_to(self.folder)
        return self.folder / folder / name.with_name(f"{name.name}{ending}")

    def crop_of(self, result: Path, number: int, when: str) -> Path:
        """Where the crop of face `number` goes; `when` is 'before' or 'after'."""
        return self.extra(result, "crops", f".{number}_{when}.png")

    def contact_sheet(self, inputs: Sequence[str | os.PathLike], jobs: Sequence[Job]) -> Path | None:
        """Where all faces are shown, if there is a folder among the inputs and no file of a job has that path.

        Raises:
          UserError: there is such a file already; if the run resumes another one, that stays.
        """
        sheet = self.folder / "contact_sheet.png"
        if not any(map(os.path.isdir, inputs)) or any(sheet in (job.path, job.mask, *self._results(job)) for job in jobs):
            return None
        if self.resume and sheet.exists():
            return None
        self.refuse_to_replace([sheet])
        return sheet

    def camera(self, number: int) -> Path:
        """Where what a camera sees goes. Raises UserError if there is such a file already."""
        path = self.folder / f"camera_{number}.mp4"
        self.refuse_to_replace([path])
        return path

    def is_done(self, job: Job) -> bool:
        """Whether there is a complete result of an input, and its description, which is written last."""
        there = (path for path in self._results(job) if os.path.exists(self.json_of(path)))
        return any(os.path.isfile(path) and os.path.getsize(path) for path in there)

    @contextlib.contextmanager
    def in_folder(self) -> Iterator[None]:
        """Makes the folder of all results, if it is not there; if the block fails, no new folder is left empty.

        Raises:
          UserError: it cannot be made, or nothing can be written into it.
        """
        new = [path for path in (self.folder, *self.folder.parents) if not os.path.exists(path)]
        try:
            self._make_folder()
            yield
        except BaseException:
            if self.folder in new:
                new = [*(Path(below) for below, _, _ in os.walk(self.folder, topdown=False)), *new]
            for path in new:
                with contextlib.suppress(OSError):  # There are results in it.
                    path.rmdir()
            raise

    @contextlib.contextmanager
    def writing(self, job: Job) -> Iterator[None]:
        """Keeps other runs from writing into the folder during the block: what is written of an input is then of one run.

        What an earlier run has written of the input, and this one has not, is deleted after the block.

        Raises:
          UserError: as `check_one`, such as for what another run has written meanwhile; or as `in_folder`.
        """
        self._make_folder()
        with lock.locked(self.folder):
            earlier = {path: _version(path) for path in self.check_one(job)}
            yield
            for path, version in earlier.items():
                if version and version == _version(path):
                    path.unlink()

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror or error
            raise UserError(f"cannot write into {self.folder} ({reason}); give another folder as --out") from error

    def refuse_to_replace(self, paths: Iterable[Path]) -> None:
        """Raises UserError if there are any of these files, unless they may be replaced."""
        there = [] if self.overwrite else [path for path in paths if os.path.exists(path)]
        if there:
            more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
            if self.resume:
                raise UserError(f"{there[0]}{more} is there already; delete it, or give another folder as --out")
            raise UserError(f"{there[0]}{more} is there already; give another folder as --out, or --overwrite")

    def check(self, jobs: Sequence[Job], masks: Iterable[Path]) -> None:
        """Checks, before the work, that nothing will be lost.

        Args:
          jobs: all that is to be unmasked.
          masks: all that were given.

        Raises:
          UserError: two inputs would be written to one file, an input or a mask would be overwritten, or any file that may not
            be replaced; of a run that goes on, such a file only stops the input itself, in `check_one`.
        """
        written = [(job, path) for job in jobs for path in self._written(job)]
        self._refuse_shared(written)
        self._refuse_sources(written, [*(job.path for job in jobs), *masks])
        if not self.resume:
            names = [path for _, path in written]
            self.refuse_to_replace([*names, *self._crops_of(names)])

    def check_one(self, job: Job) -> list[Path]:
        """All that may be written of an input, and its earlier crops.

        Raises:
          UserError: the input's name is too long for these files, or they may not be replaced.
        """
        names = list(self._written(job))
        if any(len(os.fsencode(path.name.replace(".*.", ".99_before."))) > MOST_BYTES for path in names):
            raise UserError(f"{job.path}: the names of its results would have more than {MOST_BYTES} bytes; rename it")
        paths = [*names, *self._crops_of(names)]
        self.refuse_to_replace(paths)
        return paths

    def _results(self, job: Job) -> list[Path]:
        """Where a result may be written: as it is named, or, if it is redrawn, in another format."""
        return list(dict.fromkeys([self.result(job), self.result(job, job.redrawn_suffix)]))

    def _written(self, job: Job) -> Iterator[Path]:
        """All that may be written of an input; one name, that of `_unnumbered`, stands for its crops."""
        for result in self._results(job):
            yield result
            # A run that goes on may replace the description of a result that was deleted.
            if os.path.exists(result) or not (self.resume and os.path.exists(self.json_of(result))):
                yield self.json_of(result)
            for folder in EXTRAS:
                if getattr(self, folder):
                    yield self.extra(result, folder, "" if job.is_video else ".*.png" if folder == "crops" else ".png")

    def _crops_of(self, names: Sequence[Path]) -> Iterator[Path]:
        """The crops that are there, of those that names of `_unnumbered` stand for. Each folder is listed once."""
        wanted = {name for name in names if name.name.endswith(".*.png") and name.is_relative_to(self.folder / "crops")}
        for folder in sorted({name.parent for name in wanted}):
            yield from (path for path in folder.glob("*.png") if _unnumbered(path, self.folder) in wanted)

    def _refuse_shared(self, written: Sequence[tuple[Job, Path]]) -> None:
        """Raises UserError if two inputs may be written to one file."""
        owners: dict[Path, Path] = {}
        for job, path in (*written, *written):  # Whether a result has the name of another's crop is known only once all are.
            owner = owners.setdefault(path, job.path)
            if owner == job.path:
                owner = owners.get(_unnumbered(path, self.folder), owner)
            if owner != job.path:
                raise UserError(f"{owner} and {job.path} would both be written to {path}; unmask them into different folders")

    def _refuse_sources(self, written: Sequence[tuple[Job, Path]], sources: Iterable[Path]) -> None:
        """Raises UserError if an input or a mask may be overwritten."""
        real_folder = Path(os.path.realpath(self.folder))
        owners = {}
        for source in sources:
            path = Path(os.path.realpath(source))  # Unlike `Path.resolve`, it accepts links that lead to themselves.
            owners |= {path: source, _unnumbered(path, real_folder): source}
        for job, path in written:
            if taken := owners.get(Path(os.path.realpath(path))):
                raise UserError(f"{taken} would be overwritten by the result of {job.path}; give another folder as --out")


def _unnumbered(path: Path, folder: Path) -> Path:
    """The name that stands for all crops of a photo, whose number is not known beforehand; of any other file, its own."""
    return path.with_name(_NUMBER.sub(".*.png", path.name)) if path.is_relative_to(folder / "crops") else path


def _version(path: Path) -> tuple[int, int] | None:
    """What tells whether a file has been replaced; None if there is no file."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        return (status.st_ino, status.st_mtime_ns) if not path.is_dir() else None
    return None
