"""`maskgan score`: scores any method's images against the real ones."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from maskgan_jax.errors import UserError
from maskgan_jax.files import check_scores_file, write_json
from maskgan_jax.metrics.face_quality import FACE_METRICS, check_face_metrics
from maskgan_jax.metrics.scoring import score_folders
from maskgan_jax.models.lpips import PerceptualWeights, load_lpips
from maskgan_jax.runtime.workers import number_of_workers


def main(arguments: list[str]) -> None:
    """Scores three folders, prints the means and writes everything to a JSON file."""
    parser = argparse.ArgumentParser(
        prog="maskgan score",
        description="Scores images against the real ones. Files are matched by name, whatever the suffix; all three "
        "folders must hold the same names.",
        allow_abbrev=False,
    )
    parser.add_argument("--pred", required=True, metavar="DIR", help="the images to score")
    parser.add_argument("--real", required=True, metavar="DIR", help="the same faces without masks")
    parser.add_argument("--mask", required=True, metavar="DIR", help="the hidden regions: brighter than 127 = hidden")
    parser.add_argument("--out", required=True, metavar="FILE.json", help="where the scores are written")
    add_metric_flags(parser)
    options = parser.parse_args(arguments)
    check_scores_file(options.out)
    check_face_metrics(options.metrics)
    scores = score_folders(
        options.pred,
        options.real,
        options.mask,
        lpips_weights=lpips_weights(options),
        metrics=options.metrics,
        workers=number_of_workers(options.workers),
    )
    write_json(options.out, scores)
    print_scores(scores)
    print(f"scores, with those of each image, are in {options.out}")


def add_metric_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for more metrics, and those for the two files that LPIPS itself needs."""
    parser.add_argument(
        "--metrics",
        type=lambda names: names.split(","),
        default=[],
        metavar="A,B,...",
        help=f"more scores, some of {', '.join(FACE_METRICS)}; identity and expression need `maskgan weights --all`",
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes for --metrics (default: one per core)")
    parser.add_argument("--lpips_alexnet", metavar="FILE", help="torchvision's alexnet-owt-7be5be79.pth, for LPIPS itself")
    parser.add_argument("--lpips_heads", metavar="FILE", help="weights/v0.1/alex.pth of the PyPI package lpips, for LPIPS")


def lpips_weights(options: argparse.Namespace) -> PerceptualWeights | None:
    """The weights of LPIPS that the flags name, or None; raises UserError for one file without the other."""
    if bool(options.lpips_alexnet) != bool(options.lpips_heads):
        raise UserError("LPIPS needs both files: give --lpips_alexnet and --lpips_heads, or neither")
    return load_lpips(options.lpips_alexnet, options.lpips_heads) if options.lpips_alexnet else None


def print_scores(scores: Mapping[str, Any], indent: str = "") -> None:
    """Prints the means: one a line, groups (`put_back`, `left_out`) indented; not those by source or of single images."""
    for key, value in scores.items():
        if isinstance(value, Mapping) and not key.startswith("by_"):
            print(f"{indent}{key}")
            print_scores(value, indent + "  ")
        elif not isinstance(value, Mapping | list):
            print(f"{indent}{key:16}{f'{value:.4f}' if isinstance(value, float) else str(value):>12}")
