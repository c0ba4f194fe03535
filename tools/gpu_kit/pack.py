"""Packs all that a machine with a GPU and without a package registry needs, in parts that can be sent to it one by one.

python tools/gpu_kit/pack.py OUT --photos=PHOTOS --faces=faces.jsonl

OUT gets the parts, MANIFEST.json with their sizes and digests, and run.py, which does the rest on the other machine. Called
again, it makes only those parts whose contents have changed or that are missing or damaged.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import lzma
import math
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from etils import epath

from maskgan_jax.data.build.face_file import read_face_file
from maskgan_jax.data.build.sources import Photo, any_folder
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import replacing, write_json
from maskgan_jax.weights.fetch import weight_file

PROJECT = Path(__file__).parents[2]
# Of what constraints-py312.txt pins, what a machine with JAX, Flax, Optax and Orbax lacks; no test tools.
WHEELS = (
    *("array-record", "clu", "dlib-bin", "dm-tree", "docstring-parser", "exiv2", "googleapis-common-protos", "grain"),
    *("immutabledict", "ml-collections", "pillow-heif", "portpicker", "protobuf", "simple-parsing", "tensorboardx"),
    *("tensorflow-datasets", "tensorflow-metadata", "termcolor", "toml"),
)
# Published as source only; they are pure Python.
SOURCES = ("promise",)
# pip takes these literally: a platform does not include older ones.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
# Of losses and metrics.
NEEDED_WEIGHTS = (
    *("st_lpips_alex.safetensors", "st_lpips_vgg.safetensors", "shape_predictor_68_face_landmarks.dat"),
    *("dlib_face_recognition_resnet_model_v1.dat", "face_expression_model.bin"),
    "face_expression_model-weights_manifest.json",
)
# What tar adds to each file, at most, and to the whole.
TAR_OVERHEAD, TAR_END = 2048, 10240


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the kit, a tar file; all are unpacked into one folder.

    Attributes:
      name: of its file; one that ends with .xz is compressed.
      inputs: a digest of what it is made from. While it stays the same, the part need not be made again.
      contents: makes the files that go into it, by their paths in the tar; called with an empty folder for new ones.
    """

    name: str
    inputs: str
    contents: Callable[[Path], Mapping[str, Path]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, makes the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="folder for the parts; 0.5 GB for 25,000 photos")
    parser.add_argument("--photos", required=True, metavar="DIR", help="photos, with a faces.csv or without (docs/data.md)")
    parser.add_argument("--faces", required=True, metavar="FILE", help="their faces: maskgan build --keep_faces=FILE")
    parser.add_argument("--part_size", type=float, default=60.0, metavar="MB", help="the most a part may have (default: 60)")
    flags = parser.parse_args(arguments)
    if not 1 <= flags.part_size < math.inf:
        raise UserError(f"--part_size={flags.part_size:g}: give at least 1 (MB)")
    limit = int(flags.part_size * 1e6)
    if not Path(flags.photos).is_dir():
        raise UserError(f"--photos={flags.photos} is not a folder")
    read_face_file(flags.faces)
    # What is quick to check comes first.
    parts = [*weight_parts(limit), project_part(), wheel_part(), face_part(Path(flags.faces), Path(flags.photos))]
    parts += photo_parts(Path(flags.photos), limit)
    pack(parts, Path(flags.out), limit)


def pack(parts: Sequence[Part], out: Path, limit: int) -> None:
    """Makes those parts that are not there yet; writes MANIFEST.json after each, and run.py.

    Raises:
      UserError: a part is larger than `limit` bytes, or cannot be written.
    """
    known = _manifest(out)
    # Parts of an earlier call that this one does not have, such as a last part of photos.
    for name in known.keys() - {part.name for part in parts}:
        (out / name).unlink(missing_ok=True)
    made: dict[str, dict[str, str | int]] = {}
    for number, part in enumerate(parts, 1):
        path, entry = out / part.name, known.get(part.name, {})
        what = "already there"
        if entry.get("inputs") != part.inputs or not path.is_file() or digest(path) != entry.get("sha256"):
            with replacing(path) as temporary:
                _write(part, temporary)
                if (size := temporary.stat().st_size) > limit:
                    raise UserError(f"{part.name} has {size / 1e6:.1f} MB; give --part_size={size / 1e6 + 1:.0f} or more")
            entry, what = {"bytes": path.stat().st_size, "sha256": digest(path), "inputs": part.inputs}, "made"
        made[part.name] = entry
        write_json(out / "MANIFEST.json", {"parts": {**{n: e for n, e in known.items() if (out / n).is_file()}, **made}})
        print(f"{number}/{len(parts)} {part.name}, {entry['bytes'] / 1e6:.1f} MB: {what}", flush=True)
    write_json(out / "MANIFEST.json", {"parts": made})
    with replacing(out / "run.py") as temporary:
        shutil.copyfile(Path(__file__).with_name("run.py"), temporary)
    total = sum(entry["bytes"] for entry in made.values())
    print(f"{len(made)} parts, {total / 1e6:.0f} MB, in {out}; send them with MANIFEST.json and run.py, and there call run.py")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest(out: Path) -> dict[str, dict]:
    try:
        return json.loads((out / "MANIFEST.json").read_text())["parts"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / 'MANIFEST.json'} is damaged; delete it, and all parts are made again") from error


def _write(part: Part, path: Path) -> None:
    """Writes a part: for the same files the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        contents = part.contents(Path(folder))
        with lzma.open(path, "wb") if part.name.endswith(".xz") else path.open("wb") as stream:
            with tarfile.open(fileobj=stream, mode="w") as archive:
                for name, source in sorted(contents.items()):
                    entry = archive.gettarinfo(source, name)
                    entry.mtime = entry.uid = entry.gid = 0
                    entry.uname = entry.gname = ""
                    with source.open("rb") as file:
                        archive.addfile(entry, file)


def _inputs(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def project_part() -> Part:
    """The project as it is committed."""
    commit = _run(["git", "rev-parse", "HEAD"], "cannot read the project's commit").strip()
    if changed := _run(["git", "status", "--porcelain", "--untracked-files=no"], "cannot read the project's state"):
        print(f"changes in {len(changed.splitlines())} files are not committed: they are left out", file=sys.stderr)

    def contents(folder: Path) -> Mapping[str, Path]:
        _run(["git", "archive", "--format=tar", f"--output={folder / 'project.tar'}", commit], "cannot pack the project")
        with tarfile.open(folder / "project.tar") as archive:
            archive.extractall(folder / "project", filter="data")
        return _below(folder / "project", "project")

    return Part("project.tar.xz", commit, contents)


def wheel_part() -> Part:
    """The Python packages, for Python 3.12 on 64-bit Linux, in the versions of constraints-py312.txt."""
    constraints = PROJECT / "constraints-py312.txt"

    def contents(folder: Path) -> Mapping[str, Path]:
        pip = [sys.executable, "-m", "pip"]
        common = ["--quiet", "--disable-pip-version-check", "--no-deps", f"--constraint={constraints}"]
        target = [
            "--only-binary=:all:",
            "--python-version=3.12",
            "--implementation=cp",
            *(f"--platform={p}" for p in PLATFORMS),
        ]
        _run([*pip, "download", *common, *target, f"--dest={folder}", *WHEELS], "pip cannot download the wheels")
        _run([*pip, "wheel", *common, f"--wheel-dir={folder}", *SOURCES], "pip cannot build a wheel")
        return _below(folder, "wheels")

    return Part("wheels.tar", _inputs(constraints.read_text(), *WHEELS, *SOURCES, *PLATFORMS), contents)


def face_part(faces: Path, photos: Path) -> Part:
    """The list of faces, and the table of photos."""
    files = {"faces.jsonl": faces}
    if (table := photos / "faces.csv").is_file():
        files["photos/faces.csv"] = table
    return Part("faces.tar.xz", _inputs(*map(digest, files.values())), lambda folder: files)


def weight_parts(limit: int) -> list[Part]:
    """The weights of losses and metrics; a file larger than `limit` bytes in pieces, which run.py puts together.

    Raises:
      UserError: they are not in the cache folder.
    """
    parts = []
    for name in NEEDED_WEIGHTS:
        path = weight_file(name)
        stem, inputs = path.stem.replace("_", "-"), digest(path)
        pieces = -(-path.stat().st_size // (limit - TAR_OVERHEAD - TAR_END))
        if pieces == 1:
            parts.append(Part(f"{stem}.tar.xz", inputs, lambda folder, name=name, path=path: {f"cache/{name}": path}))
        else:
            for number in range(1, pieces + 1):
                piece, contents = f"{number}-of-{pieces}", functools.partial(_piece, path, number, pieces)
                parts.append(Part(f"{stem}.{piece}.tar.xz", _inputs(inputs, piece), contents))
    return parts


def _piece(path: Path, number: int, pieces: int, folder: Path) -> Mapping[str, Path]:
    """One of so many pieces of a file of the cache folder, counted from 1; written into a folder."""
    size = -(-path.stat().st_size // pieces)
    piece = folder / f"{path.name}.{number}-of-{pieces}"
    with path.open("rb") as file:
        file.seek((number - 1) * size)
        piece.write_bytes(file.read(size))
    return {f"cache/{piece.name}": piece}


def photo_parts(photos: Path, limit: int) -> Iterator[Part]:
    """The photos that faces.csv names, or all in the folder, in parts of at most `limit` bytes.

    Raises:
      UserError: there is none, faces.csv cannot be read, or one is too large by itself.
    """
    # The build tells what is missing.
    listed = (item for item in any_folder(epath.Path(photos)) if isinstance(item, Photo))
    names = sorted({Path(photo.path).relative_to(photos).as_posix() for photo in listed})
    if not names:
        raise UserError(f"there are no photos in {photos}")
    group: dict[str, Path] = {}
    size, number = TAR_END, 1
    for name in names:
        needed = (photos / name).stat().st_size + TAR_OVERHEAD
        if needed + TAR_END > limit:
            raise UserError(f"{photos / name} has {needed / 1e6:.1f} MB; leave it out, or raise --part_size")
        if group and size + needed > limit:
            yield _photo_part(number, group)
            group, size, number = {}, TAR_END, number + 1
        group[f"photos/{name}"] = photos / name
        size += needed
    yield _photo_part(number, group)


def _photo_part(number: int, files: dict[str, Path]) -> Part:
    inputs = _inputs(*(f"{name} {digest(path)}" for name, path in files.items()))
    return Part(f"photos-{number:03}.tar", inputs, lambda folder: files)


def _below(folder: Path, name: str) -> dict[str, Path]:
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}


def _run(command: Sequence[str], failure: str) -> str:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("WARNING")]
        raise UserError(f"{failure}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(exit_code("pack", main))
