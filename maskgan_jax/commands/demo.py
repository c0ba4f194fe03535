"""`maskgan demo`: from nothing to a report in minutes."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskgan_jax.config import load_config
from maskgan_jax.demo.run import run_demo
from maskgan_jax.runtime.allocator import compute_in_main_thread


def main(arguments: list[str]) -> None:
    """Reads the flag, runs the demo, prints the scores and says where the report is."""
    parser = argparse.ArgumentParser(
        prog="maskgan demo",
        description="Renders faces, draws masks on them, trains the networks for a few minutes, scores them and writes a "
        "report. Run again with the same --out, it resumes.",
        allow_abbrev=False,
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for everything that the demo makes")
    out = Path(parser.parse_args(arguments).out)
    compute_in_main_thread()
    headings, *rows = run_demo(out, load_config("configs/demo.py"), load_config("configs/demo_landmarks.py"))
    print("\n" + "\n".join(f"{row[0]:28}" + "".join(f"{cell:>21}" for cell in row[1:]) for row in (headings, *rows)))
    print(f"\nexamples are in {out / 'examples.png'} and {out / 'portrait.png'}; the report is {out / 'report.html'}")
