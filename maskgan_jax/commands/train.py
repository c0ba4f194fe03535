"""`maskgan train`: trains a mask remover, the landmark network or the segmentation network."""

from __future__ import annotations

import argparse

from ml_collections import ConfigDict

from maskgan_jax.config import load_config
from maskgan_jax.errors import UserError
from maskgan_jax.runtime import signals
from maskgan_jax.runtime.allocator import compute_in_main_thread
from maskgan_jax.runtime.chips import CHIPS, chip_of
from maskgan_jax.runtime.supervision import run_supervised


def main(arguments: list[str]) -> int:
    """Reads the flags, trains, says where the results are."""
    parser = argparse.ArgumentParser(
        prog="maskgan train",
        description="Trains the network that the config names; resumes from the last checkpoint if the workdir has one. "
        "Settings can be changed with --config.KEY=VALUE. SIGTERM or SIGUSR1 ends the run after a checkpoint, with exit code "
        "75: the same command goes on.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="a file such as configs/cpu.py")
    parser.add_argument("--data_dir", metavar="DIR", help="data set made by `maskgan build`; a folder or a URL")
    parser.add_argument("--workdir", metavar="DIR", help="folder or URL for checkpoints, metrics and images")
    parser.add_argument(
        "--check",
        metavar="DEVICES",
        type=int,
        help="only check the config, and print what so many accelerators need for it, in seconds: memory, arithmetic, traffic",
    )
    parser.add_argument("--chip", metavar="NAME", help=f"for --check: what they are; {', '.join(chip.name for chip in CHIPS)}")
    several = parser.add_argument_group("several processes", "one run by several processes, each started with the same flags")
    several.add_argument(
        "--distributed", action="store_true", help="this is one of them; SLURM, Open MPI, Cloud TPU or Kubernetes tells which"
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="without any of those: where process 0 listens")
    several.add_argument("--processes", type=int, metavar="N", help="how many there are")
    several.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")
    flags, overrides = parser.parse_known_args(arguments)
    config = load_config(flags.config, overrides)
    if flags.check is not None:
        _check(flags, config)
        return 0
    if flags.chip:
        raise UserError("--chip is for --check; give both or neither")
    if missing := [flag for flag in ("data_dir", "workdir") if getattr(flags, flag) is None]:
        parser.error(f"the following arguments are required: {', '.join(f'--{flag}' for flag in missing)}")
    membership = (flags.coordinator, flags.processes, flags.process)
    if None in membership and set(membership) != {None}:
        raise UserError("--coordinator, --processes and --process belong together; give all of them or none")

    run = (config, flags.data_dir, flags.workdir)
    if flags.distributed or flags.coordinator is not None:
        return run_supervised(parser.prog, flags.workdir, _join_and_train, membership, *run)
    signals.stop_on_sigterm()
    _train(*run)
    return 0


def _check(flags: argparse.Namespace, config: ConfigDict) -> None:
    if flags.distributed or any(
        given is not None for given in (flags.data_dir, flags.workdir, flags.coordinator, flags.processes, flags.process)
    ):
        raise UserError(
            "--check reads no data and starts no run; leave out --data_dir, --workdir, and flags of several processes"
        )
    if flags.check < 1:
        raise UserError(f"--check is {flags.check}; it must be a number of devices, at least 1")
    chip = chip_of(flags.chip) if flags.chip else None
    if flags.chip and not chip:
        raise UserError(f"there is no chip {flags.chip!r} in the table; give one of {', '.join(chip.name for chip in CHIPS)}")
    from maskgan_jax.training.check import check, lines_of

    print("\n".join(lines_of(check(config, flags.check, chip))))


def _join_and_train(membership: tuple[str | None, int | None, int | None], *run: ConfigDict | str) -> None:
    from maskgan_jax.runtime.distributed import join

    join(*membership)
    _train(*run)


def _train(config: ConfigDict, data_dir: str, workdir: str) -> None:
    # JAX takes seconds to start; the answer to a mistyped flag should not.
    import jax

    from maskgan_jax.training.loop import train

    compute_in_main_thread()
    train(config, data_dir, workdir)
    if jax.process_index() == 0:
        print(f"checkpoints, metrics and images are in {workdir}")
