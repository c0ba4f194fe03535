"""`maskgan score`: scores any method's pictures against the real ones."""

from __future__ import annotations

import argparse

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_json
from maskgan_jax.metrics.scoring import score_folders
from maskgan_jax.models.lpips import load_lpips


def main(arguments: list[str]) -> None:
    """Scores three folders, prints the means and writes everything to a JSON file."""
    parser = argparse.ArgumentParser(
        prog="maskgan score",
        description="Scores pictures against the real ones. Files are matched by name, whatever the suffix; all three "
        "folders must hold the same names.",
    )
    parser.add_argument("--pred", required=True, metavar="DIR", help="the pictures to score")
    parser.add_argument("--real", required=True, metavar="DIR", help="the same faces without masks")
    parser.add_argument("--mask", required=True, metavar="DIR", help="the hidden regions: brighter than 127 = hidden")
    parser.add_argument("--out", required=True, metavar="FILE.json", help="where the scores are written")
    parser.add_argument("--lpips_alexnet", metavar="FILE", help="torchvision's alexnet-owt-7be5be79.pth, for LPIPS itself")
    parser.add_argument("--lpips_heads", metavar="FILE", help="weights/v0.1/alex.pth of the PyPI package lpips, for LPIPS")
    options = parser.parse_args(arguments)
    if bool(options.lpips_alexnet) != bool(options.lpips_heads):
        raise UserError("LPIPS needs both files: give --lpips_alexnet and --lpips_heads, or neither")
    lpips_weights = load_lpips(options.lpips_alexnet, options.lpips_heads) if options.lpips_alexnet else None
    scores = score_folders(options.pred, options.real, options.mask, lpips_weights=lpips_weights)
    write_json(options.out, scores)
    for key, value in scores.items():
        if key != "images":
            print(f"{key:12}{value:12.4f}" if isinstance(value, float) else f"{key:12}{value:12}")
    print(f"scores, with those of each picture, are in {options.out}")
