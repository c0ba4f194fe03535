"""`maskgan javascript`: fetches the JavaScript libraries of `maskgan study` and `maskgan page`."""

from __future__ import annotations

import argparse

from maskgan_jax.javascript.packages import fetch_packages


def main(arguments: list[str]) -> None:
    """Fetches what is missing; prints where it is."""
    parser = argparse.ArgumentParser(
        prog="maskgan javascript",
        allow_abbrev=False,
        description="Fetches the JavaScript libraries that `maskgan study` and `maskgan page` serve, with npm: pinned, "
        "checked by SHA-512, into $MASKGAN_CACHE (by default ~/.cache/maskgan). Needs to be run once; nothing else needs them.",
    )
    parser.parse_args(arguments)
    print(f"the JavaScript libraries, each with its licence, are in {fetch_packages()}")
