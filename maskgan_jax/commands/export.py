"""`maskgan export`: a trained network as one file."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> None:
    """Reads the flags, writes the file, says where it is."""
    parser = argparse.ArgumentParser(
        prog="maskgan export", description="Writes the best network of a run to one file.", allow_abbrev=False
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder of a `maskgan train` run")
    parser.add_argument("--format", default="safetensors", choices=["safetensors"], help="format of the file")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write")
    flags = parser.parse_args(arguments)

    from maskgan_jax.export.safetensors import save_safetensors
    from maskgan_jax.models.stored import load_network, stored_config

    network = load_network(flags.workdir, stored_config(flags.workdir).task)
    save_safetensors(flags.out, network.variables, network.config)
    print(f"the network is in {flags.out}")
