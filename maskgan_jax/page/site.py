"""Writes the site: pages, scripts, networks, samples, and what a service worker must know to keep them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from maskgan_jax import __version__
from maskgan_jax.configs import default
from maskgan_jax.data.masks import draw_mask
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.demo.run import PORTRAIT_MASKS, masked_portrait
from maskgan_jax.files import replacing_folder, write_json, write_png, write_text
from maskgan_jax.javascript.packages import package_file
from maskgan_jax.page.networks import export_networks
from maskgan_jax.page.server import HEADERS
from maskgan_jax.unmasking.metadata import LABEL, Metadata, packets

_STATIC = Path(str(importlib.resources.files("maskgan_jax"))) / "page" / "static"
# Of onnxruntime-web: for WebAssembly alone, and for WebGPU.
_RUNTIME = (
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
# Files that scripts load by themselves, with progress and in a cache of their own.
_LARGE = (".onnx", ".wasm")
# Two rendered people, and the masks on them.
_RENDERED = ((0, 5), (6, 1))
_RENDERED_SIZE = 480


def write_site(out: Path) -> None:
    """Writes the site to a new folder, completely or not at all.

    Raises:
      UserError: the JavaScript libraries, the package onnx or weights are missing, or the folder is there already or cannot be
        written.
    """
    runtime = [package_file(f"onnxruntime-web/dist/{name}") for name in _RUNTIME]
    with replacing_folder(out) as folder:
        shutil.copytree(_STATIC, folder, dirs_exist_ok=True)
        for name in ("runtime", "networks", "samples"):
            (folder / name).mkdir()
        for path in runtime:
            shutil.copyfile(path, folder / "runtime" / path.name)
        networks = export_networks(folder / "networks")
        described = {
            name: dataclasses.asdict(network) | _file(folder, folder / "networks" / f"{name}.onnx")
            for name, network in networks.items()
        }
        site = {
            "version": __version__,
            "networks": described,
            "runtime": {path.name: _file(folder, folder / "runtime" / path.name) for path in runtime},
            "samples": _write_samples(folder),
            "label": {"text": LABEL, "xmp": packets(Metadata().labelled())["xmp"].decode()},
        }
        write_json(folder / "site.json", site)
        _write_service_worker(folder)


def _file(folder: Path, path: Path) -> dict[str, Any]:
    """Where a file is, and what it must be."""
    data = path.read_bytes()
    return {
        "file": path.relative_to(folder).as_posix(),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _write_samples(folder: Path) -> list[dict[str, str]]:
    """The portrait and rendered faces, with drawn masks; none of them is a photo of the training data."""
    settings = default.get_config().data
    pictures = {f"portrait_{seed}": masked_portrait(seed).image for seed in PORTRAIT_MASKS}
    faces = []
    for index, seed in _RENDERED:
        face = render_face(index, 0, _RENDERED_SIZE)
        faces.append(draw_mask(face.image, face.landmarks, np.random.default_rng(seed), settings).image)
    pictures["rendered"] = np.concatenate(faces, axis=1)
    for name, picture in pictures.items():
        write_png(folder / "samples" / f"{name}.png", picture)
    titles = [f"Portrait, mask {number}" for number in range(1, len(PORTRAIT_MASKS) + 1)] + ["Two rendered people"]
    return [{"file": f"samples/{name}.png", "title": title} for name, title in zip(pictures, titles, strict=True)]


def _write_service_worker(folder: Path) -> None:
    """Tells the service worker which files there are, each with the digest that the browser checks."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in _LARGE]
    files = {path.relative_to(folder).as_posix(): _file(folder, path)["sha256"] for path in paths if path.name != "sw.js"}
    version = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]
    script = (folder / "sw.js").read_text(encoding="utf-8")
    headers = {name: value for name, value in HEADERS.items() if name != "Cache-Control"}
    constants = {"VERSION": version, "FILES": files, "HEADERS": headers}
    listed = "".join(f"const {name} = {json.dumps(value, indent=2)};\n" for name, value in constants.items())
    write_text(folder / "sw.js", listed + script)
