"""Measures the page in headless Chromium beside the Python program, on the same photos; see docs/page.md.

    maskgan page --out=SITE
    python tools/measure_page.py SITE PHOTO_OR_FOLDER... [--times=5]

Prints for each photo the seconds that the page takes from its pixels to the result, of these in the networks, the seconds that
`Unmasker` takes, and the mean difference of the two results where Python redrew, in levels; then the medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskgan_jax.errors import UserError, describe, exit_code
from maskgan_jax.files import find_images, read_image, write_png
from maskgan_jax.page.server import create_server
from maskgan_jax.unmasking.compositing import redrawn_mask
from maskgan_jax.unmasking.unmasker import Unmasker

# The browser's names.
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# Milliseconds after which the page counts as stuck.
LONGEST = 120_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("site", type=Path)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--times", type=int, default=5, help="how often each photo is unmasked; medians count")
    flags = parser.parse_args(arguments)
    if flags.times < 1:
        raise UserError(f"--times={flags.times}: give at least 1")
    if not (flags.site / "site.json").is_file():
        raise UserError(f"{flags.site} is no site; write one with `maskgan page --out={flags.site}`")
    paths = [path for photos in flags.photos for path in (find_images(photos) if Path(photos).is_dir() else [Path(photos)])]
    photos = {path: read_image(path) for path in paths}
    chromium = os.environ.get("MASKGAN_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if not chromium:
        raise UserError("Chromium is missing; install it, or give its path in MASKGAN_CHROMIUM")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise UserError("this needs playwright: pip install 'maskgan_jax[test_browser]'") from error
    print(f"{'photo':24}{'page, s':>9}{'networks':>10}{'Python, s':>11}{'ratio':>7}{'difference':>12}")
    try:
        with create_server(flags.site, 0) as server, sync_playwright() as api:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = api.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
            page = browser.new_page()
            page.goto(f"http://localhost:{server.server_port}/?backend=wasm")
            page.wait_for_selector("body[data-state=ready]", timeout=LONGEST)
            measure_photos(page, photos, flags.times)
            browser.close()
            server.shutdown()
    except Error as error:
        raise UserError(
            f"{chromium} cannot show {flags.site} ({describe(error)}); check it, or write the site again"
        ) from error


def measure_photos(page: Any, photos: Mapping[Path, np.ndarray], times: int) -> None:
    """Prints a line for each photo, and the medians."""
    unmasker, rows = Unmasker.from_pretrained(), []
    for path, photo in photos.items():
        row = measure(page, photo, unmasker, times)
        if row is None:
            print(f"{path.name:24}  nothing is redrawn")
            continue
        rows.append(row)
        print(_line(path.name, row), flush=True)
    if rows:
        print(_line("median", np.median(rows, axis=0)))


def measure(page: Any, photo: np.ndarray, unmasker: Unmasker, times: int) -> tuple[float, ...] | None:
    """Seconds of the page, of its networks and of Python, the ratio, and the difference; None if Python redraws nothing."""
    expected, faces = unmasker.unmask(photo)
    redrawn = redrawn_mask(photo.shape[:2], faces) > 0
    if not redrawn.any():
        return None
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.png"
        write_png(path, photo)
        for _ in range(times):
            page.evaluate("document.body.dataset.photo = ''")
            page.set_input_files("#file", path)
            page.wait_for_selector("body[data-photo=done]", timeout=LONGEST)
            of_page, of_networks = (
                float(page.evaluate(f"document.body.dataset.{name}")) for name in ("milliseconds", "networks")
            )
            begun = time.perf_counter()
            unmasker.unmask(photo)
            seconds.append((of_page / 1000, of_networks / 1000, time.perf_counter() - begun))
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(Path(folder) / "result.png")
        result = read_image(Path(folder) / "result.png")
    of_page, of_networks, of_python = np.median(seconds, axis=0)
    difference = np.abs(result.astype(np.int16) - expected)[redrawn].mean()
    return of_page, of_networks, of_python, of_page / of_python, difference


def _line(name: str, row: Sequence[float]) -> str:
    of_page, of_networks, of_python, ratio, difference = row
    return f"{name:24}{of_page:9.2f}{of_networks:10.2f}{of_python:11.2f}{ratio:7.1f}{difference:12.2f}"


if __name__ == "__main__":
    sys.exit(exit_code("measure_page", main))
