"""`maskgan bench`: images per second of training and inference, by themselves and against PyTorch."""

from __future__ import annotations

import argparse
from typing import Any

from maskgan_jax.bench import MAX_DIFFERENCE, MAX_LOAD, ROWS, equal_outputs, format_table, measure
from maskgan_jax.errors import UserError
from maskgan_jax.files import check_writable, write_json


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
        default=",".join(row.name for row in ROWS),
        metavar="NAME,...",
        help="what is measured (default: everything, %(default)s)",
    )
    parser.add_argument("--compute", default="float32", choices=["float32", "bfloat16"], help="arithmetic in the networks")
    flags = parser.parse_args(arguments)
    if flags.pairs < 1:
        raise UserError(f"--pairs is {flags.pairs}; it must be at least 1")
    by_name = {row.name: row for row in ROWS}
    for name in flags.rows.split(","):
        if name not in by_name:
            raise UserError(f"--rows: there is no row {name!r}; choose among {', '.join(by_name)}")

    rows = [by_name[name] for name in dict.fromkeys(flags.rows.split(","))]
    check_writable(flags.out)

    def keep(result: dict[str, Any]) -> None:
        try:
            write_json(flags.out, result)
        except UserError:
            print(format_table(result))
            raise

    result = measure(rows, against=flags.against, compute=flags.compute, pairs=flags.pairs, keep=keep)
    print(format_table(result))
    if (load := result["machine"]["load_before"] or 0.0) > MAX_LOAD:
        print(f"the machine was busy with something else (load {load:.1f} at the start): the ratios mean little")
    print(f"the numbers are in {flags.out}")
    if not equal_outputs(result):
        raise UserError(
            f"the same weights gave outputs that differ by more than {MAX_DIFFERENCE}; see the table's last columns"
        )
