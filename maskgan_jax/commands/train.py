"""`maskgan train`: trains a mask remover, or the landmark network."""

from __future__ import annotations

import argparse

from maskgan_jax.config import load_config


def main(arguments: list[str]) -> None:
    """Reads the flags, trains, says where the results are."""
    parser = argparse.ArgumentParser(
        prog="maskgan train",
        description="Trains what the config names, and goes on from the last checkpoint if the workdir has one. "
        "Settings can be changed with --config.KEY=VALUE.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="a file such as configs/cpu.py")
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="data set made by `maskgan build`")
    parser.add_argument("--workdir", required=True, metavar="DIR", help="folder for checkpoints, metrics and pictures")
    flags, overrides = parser.parse_known_args(arguments)
    config = load_config(flags.config, overrides)

    from maskgan_jax.training.loop import train  # JAX takes seconds to start; a mistyped flag should not.

    train(config, flags.data_dir, flags.workdir)
    print(f"checkpoints, metrics and pictures are in {flags.workdir}")
