"""Draws mask templates at random, as a folder for `data.mask_templates`: masks unlike those that networks are trained on.

python tools/draw_templates.py TEMPLATES
maskgan build --config=experiment_unseen --config.data.mask_templates=TEMPLATES ...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from maskgan_jax.data.masks.random_templates import write_templates
from maskgan_jax.errors import UserError, exit_code


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, draws, says where the templates are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="DIR", help="folder for masks.cfg and the images")
    parser.add_argument("--count", type=int, default=60, metavar="N", help="how many (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args(arguments)
    if flags.count < 1 or flags.seed < 0:
        raise UserError("--count must be at least 1, and --seed at least 0")
    if "://" in flags.out:
        raise UserError(f"{flags.out} is a URL; give a folder on a disk")
    if (Path(flags.out) / "masks.cfg").exists():
        raise UserError(f"{flags.out} has templates already (masks.cfg); give another folder")
    write_templates(flags.out, flags.count, flags.seed)
    print(f"{flags.count} templates are in {flags.out}")


if __name__ == "__main__":
    sys.exit(exit_code("draw_templates", main))
