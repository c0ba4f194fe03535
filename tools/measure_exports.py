"""Measures what `maskgan export` writes: the size of each format, and the speed of what runs it; see docs/export.md.

    python tools/measure_exports.py --out=DIR [--network=unmask] [--batch=8]

All formats are written to DIR and run in turn, in one process, on the same pictures. PyTorch and TensorFlow are left out where
they are not installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.export  # Not part of `import jax`.
import numpy as np
from safetensors import safe_open
from tqdm import tqdm

from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.export.functions import exported_function
from maskgan_jax.networks.face_network import FaceNetwork, pretrained
from maskgan_jax.networks.safetensors import save_safetensors
from maskgan_jax.networks.stored import StoredNetwork, load_network, read_description

Run = Callable[..., np.ndarray]

OURS = "this package"
# What runs a format, where it need not be there to write it.
RUNTIMES = {"onnx": "onnxruntime", "pytorch": "torch"}
ROUNDS = 15
# Seconds for which each format runs in a round, at least.
SECONDS = 0.3


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, exports, measures, prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the exports, which must not be there yet")
    parser.add_argument("--network", default="unmask", choices=["unmask", "unmask_fast", "landmarks", "segmentation"])
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="pictures at once (default: 8)")
    flags = parser.parse_args(arguments)
    if flags.batch < 1:
        raise UserError(f"--batch={flags.batch}: give at least 1")
    path = pretrained(flags.network)
    network = load_network(path, read_description(path)[0].task)
    out = Path(flags.out)
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out} ({error.strerror}); give another --out") from error
    paths = write_all(network, out)
    runs = {name: load(paths[name]) for name, load in LOADERS.items() if name in paths and is_installed(name)}
    side = network.description.size
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(-1, 1, (flags.batch, side, side, 3)).astype(np.float32)]
    if "mask" in network.description.inputs():
        inputs.append(
            np.broadcast_to(np.arange(side)[:, None, None] >= side // 2, (flags.batch, side, side, 1)).astype(np.float32)
        )
    expected = np.asarray(jax.jit(exported_function(network))(*inputs))
    levels = [np.rint(127.5 * (inputs[0] + 1)).astype(np.uint8), *((255 * mask).astype(np.uint8) for mask in inputs[1:])]
    ours = FaceNetwork(path, network.description.task, batch_size=flags.batch)
    seconds = measure({OURS: lambda: ours(*levels), **{name: lambda run=run: run(*inputs) for name, run in runs.items()}})

    print(f"{flags.network}, batch {flags.batch}")
    print(f"{'format':26} {'MB':>6} {'ms a picture':>13} {'speed':>6} {'difference':>11}")
    for name in (OURS, *paths):
        size = f"{size_of(paths[name]):6.1f}" if name in paths else f"{'':6}"
        if name not in seconds:
            print(f"{name:26} {size}")
            continue
        ratio = np.median(seconds[OURS] / seconds[name])
        difference = f"{np.abs(runs[name](*inputs) - expected).max():11.1e}" if name in runs else ""
        print(f"{name:26} {size} {1000 * np.median(seconds[name]) / flags.batch:13.2f} {ratio:6.2f} {difference}")


def write_all(network: StoredNetwork, out: Path) -> dict[str, Path]:
    """Writes every format that can be written here; its file or folder by its name."""
    paths = {"safetensors": out / "network.safetensors", "safetensors, float16": out / "half.safetensors"}
    for name, path in paths.items():
        save_safetensors(path, network.variables, network.config, half="float16" in name)
    for name in ("orbax", "stablehlo", "onnx", "pytorch", "savedmodel"):
        try:
            save = getattr(importlib.import_module(f"maskgan_jax.export.{name}"), f"save_{name}")
            save(out / f"network.{name}", network)
        except UserError as error:
            print(f"{name}: {error}")
        else:
            paths[name] = out / f"network.{name}"
    return paths


def is_installed(name: str) -> bool:
    """Whether a format can be run here."""
    return importlib.util.find_spec(RUNTIMES.get(name, "jax")) is not None


def load_stablehlo(path: Path) -> Run:
    """The function in a file of StableHLO, by JAX."""
    run = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    return lambda *inputs: np.asarray(run(*inputs))


def load_onnx(path: Path) -> Run:
    """The function in an ONNX file, by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [value.name for value in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


def load_savedmodel(path: Path) -> Run:
    """The function in a SavedModel, by TensorFlow."""
    import tensorflow as tf

    run = tf.saved_model.load(str(path)).signatures["serving_default"]

    def call(*inputs: np.ndarray) -> np.ndarray:
        (result,) = run(**dict(zip(("picture", "mask"), inputs, strict=False))).values()
        return result.numpy()

    return call


def load_pytorch(path: Path) -> Run:
    """The network of a state dict, by PyTorch."""
    import torch
    from safetensors.torch import load_file

    from maskgan_jax.config import parse_config
    from maskgan_jax.pytorch import networks

    with safe_open(path, framework="numpy") as file:
        config = parse_config(file.metadata()["config"])
    create = {
        "unmask": networks.create_generator,
        "landmarks": networks.create_landmark_net,
        "segmentation": networks.create_segmentation_net,
    }
    network = create[config.task](config)
    network.load_state_dict(load_file(path))
    network.eval().to(memory_format=torch.channels_last)

    def call(*inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            result = network(*(torch.from_numpy(array).permute(0, 3, 1, 2) for array in inputs)).numpy()
        if config.task == "segmentation":
            return 1 / (1 + np.exp(-result))  # There the network gives logits.
        return result.transpose(0, 2, 3, 1) if config.task == "unmask" else result

    return call


LOADERS = {"stablehlo": load_stablehlo, "onnx": load_onnx, "savedmodel": load_savedmodel, "pytorch": load_pytorch}


def measure(runs: dict[str, Callable[[], np.ndarray]]) -> dict[str, np.ndarray]:
    """Seconds of a call by name, `[ROUNDS]`; all run in turn in each round."""
    for run in runs.values():
        run()  # Compiles.
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(ROUNDS), unit="round"):
        for name, run in runs.items():
            calls, begun = 0, time.perf_counter()
            while (spent := time.perf_counter() - begun) < SECONDS:
                run()
                calls += 1
            seconds[name].append(spent / calls)
    return {name: np.array(values) for name, values in seconds.items()}


def size_of(path: Path) -> float:
    """Megabytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


if __name__ == "__main__":
    sys.exit(exit_code("measure_exports", main))
