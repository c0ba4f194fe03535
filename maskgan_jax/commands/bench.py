"""`maskgan bench`: images per second of training and inference, by themselves and against PyTorch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from maskgan_jax.bench.measuring import MAX_DIFFERENCE, equal_outputs, measure
from maskgan_jax.bench.rows import GPU_ROWS, ROWS, Row
from maskgan_jax.bench.table import format_table
from maskgan_jax.errors import UserError
from maskgan_jax.files import check_writable, write_json

# Above this load average the machine is busy with something else. That slows PyTorch more than XLA, so ratios mean little.
MAX_LOAD = 0.5


def main(arguments: list[str]) -> None:
    """Reads the flags, measures, prints a table."""
    parser = argparse.ArgumentParser(
        prog="maskgan bench",
        description="Measures images per second of training steps and inference on this machine, which should be idle.",
        allow_abbrev=False,
    )
    parser.add_argument("--against", choices=["torch"], help="also measure the same in PyTorch, and compare")
    parser.add_argument("--out", required=True, metavar="FILE.json", help="where the numbers are written")
    parser.add_argument("--pairs", type=int, default=7, metavar="N", help="how often each is measured (default: 7)")
    parser.add_argument(
        "--rows",
        metavar="NAME,...",
        help=f"what is measured (default: {_names(ROWS)}; with --device=gpu: {_names(GPU_ROWS)})",
    )
    parser.add_argument(
        "--compute",
        default="float32",
        choices=["float32", "tf32", "bfloat16"],
        help="arithmetic in the networks; tf32, and inference in bfloat16, are for --device=gpu, where float32 is without tf32",
    )
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], help="default: cpu with --against, else the accelerator that JAX finds, if any"
    )
    parser.add_argument(
        "--upsampling",
        default="native",
        choices=["native", "phases"],
        help="transposed convolutions on a GPU: XLA's own, or four phases as one convolution (models/convolutions.py)",
    )
    parser.add_argument(
        "--peak", type=float, metavar="TFLOPS", help="of the GPU in this arithmetic, if runtime/chips.py does not know it"
    )
    flags = parser.parse_args(arguments)
    if flags.pairs < 1:
        raise UserError(f"--pairs is {flags.pairs}; it must be at least 1")
    if flags.device != "gpu" and (flags.compute == "tf32" or flags.upsampling != "native" or flags.peak):
        raise UserError("--compute=tf32, --upsampling and --peak are for GPUs; give --device=gpu too")
    if flags.peak is not None and not 0 < flags.peak < math.inf:
        raise UserError(f"--peak is {flags.peak:g}; give the TFLOP/s of the GPU, such as 989")
    by_name = {row.name: row for row in (*ROWS, *GPU_ROWS)}
    if flags.rows is None:
        flags.rows = _names(GPU_ROWS if flags.device == "gpu" else ROWS)
    for name in flags.rows.split(","):
        if name not in by_name:
            raise UserError(f"--rows: there is no row {name!r}; choose among {', '.join(by_name)}")

    rows = [by_name[name] for name in dict.fromkeys(flags.rows.split(","))]
    # Otherwise it is as in `maskgan unmask`, in float32.
    inference = _names([row for row in rows if row.is_inference])
    if inference and flags.compute == "bfloat16" and flags.device != "gpu":
        raise UserError(f"inference in bfloat16 is for GPUs; give --device=gpu too, or --rows without {inference}")
    check_writable(flags.out)

    def keep(result: dict[str, Any]) -> None:
        try:
            write_json(flags.out, result)
        except UserError:
            print(format_table(result))
            raise

    result = measure(
        rows,
        against=flags.against,
        compute=flags.compute,
        device=flags.device or "",
        upsampling=flags.upsampling,
        peak=1e12 * flags.peak if flags.peak else None,
        pairs=flags.pairs,
        keep=keep,
    )
    print(format_table(result))
    if (load := result["machine"]["load_before"] or 0.0) > MAX_LOAD:
        print(f"the machine was busy with something else (load {load:.1f} at the start): the ratios mean little")
    print(f"the numbers are in {flags.out}")
    if not equal_outputs(result):
        raise UserError(
            f"the same weights gave outputs that differ by more than {MAX_DIFFERENCE}; see the table's last columns"
        )


def _names(rows: Sequence[Row]) -> str:
    return ",".join(row.name for row in rows)
