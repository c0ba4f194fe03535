"""Draws masks on faces and shows them in one image, optionally among real ones; prints the CPU time of drawing.

    python tools/show_masks.py --source=folder=PHOTOS --faces=60 --out=masks.png [--config=default] [--real=FOLDER]

FOLDER has photos of people wearing masks: as many of them as there are drawn ones are mixed in, in random order. Which is which
is written beside the image (`masks.txt`: one word per face, row by row).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.config import load_config
from maskgan_jax.data.align import align
from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.data.build.make_record import FoundFace, draw_on, find_face
from maskgan_jax.data.build.sources import Photo, list_photos
from maskgan_jax.data.masks import check_masks
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import find_images, read_image, write_png, write_text

COLUMNS = 10


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, draws, writes the image, prints the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, metavar="KIND=FOLDER", help="as for maskgan build")
    parser.add_argument("--config", default="default")
    parser.add_argument("--real", metavar="FOLDER", help="photos of people in masks to mix in")
    parser.add_argument("--faces", type=int, default=60, help="masks to draw (default: 60)")
    parser.add_argument("--side", type=int, default=128, help="side of a face in the image, in pixels (default: 128)")
    parser.add_argument("--out", required=True, metavar="FILE.png")
    options, overrides = parser.parse_known_args(arguments)
    if options.faces < 1 or options.side < 1:
        raise UserError(f"--faces={options.faces} --side={options.side}: give at least 1 each")
    if Path(options.out).suffix.lower() != ".png":
        raise UserError(f"--out={options.out}: give a name that ends in .png, as FILE.txt is written beside it")
    config = load_config(options.config, overrides)
    check_masks(config.data)
    faces, times = drawn_faces(options.source, options.faces, config)
    if options.real:
        faces += real_faces(options.real, len(faces), config)
    order = np.random.default_rng(config.seed).permutation(len(faces))
    faces = [faces[i] for i in order]
    write_png(options.out, grid([image for image, _ in faces], options.side))
    write_text(Path(options.out).with_suffix(".txt"), "".join(f"{name}\n" for _, name in faces))
    print("type        masks  median ms")
    for name, spent in sorted(times.items()):
        print(f"{name:10} {len(spent):6} {1e3 * np.median(spent):10.1f}")
    print(f"masks in {options.out}")


def drawn_faces(source: str, count: int, config: ConfigDict) -> tuple[list[tuple[np.ndarray, str]], dict[str, list[float]]]:
    """Faces `[S, S, 3]` with a mask and its type, from random photos of a source, and the CPU seconds per mask by type."""
    photos = [item for item in list_photos(source, config) if isinstance(item, Photo)]
    order = np.random.default_rng(config.seed).permutation(len(photos))
    faces, times = [], defaultdict(list)
    cv2.setNumThreads(1)
    with tqdm(desc="drawing masks", total=count, unit=" faces") as bar:
        for index in order:
            if len(faces) == count:
                break
            face = find_face(photos[index], config.data, config.seed)
            if not isinstance(face, FoundFace):
                continue
            aligned = align(face.photo.read(), face.landmarks, config.data.size, config.data.zoom)
            # Once before timing, to fill the caches.
            draw_on(face, aligned, config.data, config.seed)
            start = time.process_time()
            drawn = draw_on(face, aligned, config.data, config.seed)
            times[drawn.mask_type].append(time.process_time() - start)
            faces.append((drawn.image, drawn.mask_type))
            bar.update()
    if not faces:
        raise UserError(f"there is no face to draw on in {source}")
    return faces, times


def real_faces(folder: str, count: int, config: ConfigDict) -> list[tuple[np.ndarray, str]]:
    """At most `count` aligned faces `[S, S, 3]` of people in masks, each with the word 'real'."""
    paths = find_images(folder)
    faces = []
    for index in np.random.default_rng(config.seed).permutation(len(paths)):
        try:
            photo = read_image(paths[index])
            landmarks = largest_face_landmarks(photo, config.data.shape_predictor)
            faces.append((align(photo, landmarks, config.data.size, config.data.zoom).image, "real"))
        except UserError as error:
            print(f"skipped {paths[index]}: {error}", file=sys.stderr)
        if len(faces) == count:
            break
    return faces


def grid(faces: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Faces in rows of `COLUMNS`."""
    small = [cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA) for face in faces]
    small += [np.full_like(small[0], 255)] * (-len(small) % COLUMNS)
    return np.vstack([np.hstack(small[start : start + COLUMNS]) for start in range(0, len(small), COLUMNS)])


if __name__ == "__main__":
    sys.exit(exit_code("show_masks", main))
