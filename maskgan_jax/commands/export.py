"""`maskgan export`: a trained network in the format of another program."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from maskgan_jax.errors import UserError

FORMATS = ("orbax", "safetensors", "stablehlo", "onnx", "savedmodel", "pytorch")


def main(arguments: list[str]) -> None:
    """Reads the flags, writes the network, says where it is."""
    parser = argparse.ArgumentParser(
        prog="maskgan export",
        description="Writes a trained network in the format of another program; docs/export.md shows how each is loaded.",
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--workdir", metavar="PATH", help="folder of a `maskgan train` run, or an exported .safetensors file")
    which.add_argument(
        "--pretrained",
        choices=["unmask", "unmask_fast", "landmarks", "segmentation"],
        help="a network that comes with the package",
    )
    parser.add_argument("--format", default="safetensors", choices=FORMATS, help="what is written (default: safetensors)")
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="the file, which is replaced if it is there; for orbax and savedmodel a folder, which must not be there yet",
    )
    parser.add_argument(
        "--step",
        default="best",
        metavar="best|last|N",
        help="of a run: the best checkpoint by validation, the latest, or that of step N (default: best)",
    )
    parser.add_argument("--batch", type=int, metavar="N", help="fixed size of the batch, for stablehlo, onnx and savedmodel")
    parser.add_argument("--half", action="store_true", help="float16 weights: half the size; for safetensors")
    flags = parser.parse_args(arguments)
    if flags.batch is not None and (flags.batch < 1 or flags.format not in ("stablehlo", "onnx", "savedmodel")):
        parser.error("--batch is at least 1, and for stablehlo, onnx and savedmodel")
    if flags.half and flags.format != "safetensors":
        parser.error("--half is for safetensors")

    # JAX takes seconds to start; a mistyped flag should not.
    from maskgan_jax.networks.description import describes
    from maskgan_jax.networks.face_network import pretrained
    from maskgan_jax.networks.stored import checkpoint_of, load_network, read_description, workdir_of
    from maskgan_jax.run_files import is_of_run
    from maskgan_jax.storage import is_remote, path_of

    path = pretrained(flags.pretrained) if flags.pretrained else path_of(flags.workdir)
    if is_remote(path) or path.is_dir():  # A file holds one network, whatever --step says.
        path = checkpoint_of(path, flags.step)
    network = load_network(path, read_description(path)[0].task)
    if not describes(network.config, network.description):
        raise UserError(f"the config in {path} does not describe its network, which can be used, but not exported")
    if not is_remote(path):
        out, workdir, own = (Path(os.path.realpath(each)) for each in (flags.out, workdir_of(path) or path, path))
        if out == own:
            raise UserError(f"{flags.out} is the network itself; give another --out")
        if is_of_run(out, workdir):
            raise UserError(f"{flags.out} is a part of the run itself; give another --out")
    # Each format's packages are imported only when it is asked for.
    room = "networks" if flags.format == "safetensors" else "export"
    save = getattr(importlib.import_module(f"maskgan_jax.{room}.{flags.format}"), f"save_{flags.format}")
    if flags.format == "safetensors":
        save(flags.out, network.variables, network.config, half=flags.half)
    else:
        save(flags.out, network, **({"batch": flags.batch} if flags.batch else {}))
    print(f"the network is in {flags.out}")
