"""Measures how well faces, and the masks on them, are found in photos; see docs/unmasking.md.

    python tools/measure_faces.py PHOTOS [--first=N] [--height=0.8]     # faces, and masks that would be removed
    python tools/measure_faces.py PHOTOS --changed [sepia] [--first=N]  # the largest face of each, after changes to the photo

With --changed, photos are turned, cut so close that the cheeks are cut off, squeezed, made sepia, and shrunk into a large one.
A face is found again if its landmarks are, on average, within a third of the distance between the eyes of where they must be.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from maskgan_jax.data.points import landmark_errors
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import find_images, read_image
from maskgan_jax.unmasking.face import Face
from maskgan_jax.unmasking.unmasker import Unmasker

GREY = (128, 128, 128)
# Longest side of a photo that was cut close, in pixels, and width and height of a large one.
CLOSE_SIDE = 900
LARGE = (6000, 4000)
SEPIA = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
# Of the distance between the eyes.
MOST_ERROR = 1 / 3

# Photo and face to the changed photo, and the `[2, 3]` map of points to it.
Change = Callable[[np.ndarray, Face], tuple[np.ndarray, np.ndarray]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("photos", help="folder of photos")
    parser.add_argument("--first", type=int, metavar="N", help="take only so many photos, by their names")
    parser.add_argument("--height", type=float, default=1.0, metavar="FACTOR", help="squeeze or stretch the photos first")
    parser.add_argument(
        "--changed",
        nargs="?",
        const="",
        metavar="WORD",
        help="change the photos; WORD takes only the changes with it in their names",
    )
    flags = parser.parse_args(arguments)
    if not 0.1 <= flags.height <= 10:
        raise UserError(f"--height={flags.height:g} is not from 0.1 to 10; give a factor such as 0.8")
    if flags.height != 1 and flags.changed is not None:
        raise UserError("--changed has changes of its own; leave out --height")
    if flags.first is not None and flags.first < 1:
        raise UserError(f"--first={flags.first}: give at least 1")
    photos = find_images(flags.photos)[: flags.first]
    unmasker = Unmasker.from_pretrained(fast=True)
    if flags.changed is not None:
        changes = {name: change for name, change in CHANGES.items() if flags.changed in name}
        if not changes:
            raise UserError(f"--changed={flags.changed}: no change has that in its name; there are {', '.join(CHANGES)}")
        measure_changed(photos, unmasker, changes)
    else:
        measure(photos, unmasker, flags.height)


def measure(photos: Sequence[Path], unmasker: Unmasker, height: float = 1.0) -> None:
    """Prints how many photos have no face, how many faces there are, and how many masks would be removed, from which photos.

    The photos are first scaled to `height` times their height.
    """
    counts = {"photos": len(photos), "photos without a face": 0, "faces": 0, "masks to be removed": 0}
    masked = []
    for path in tqdm(photos, unit="photo"):
        faces = unmasker.find(squeezed(read_image(path), height))
        counts["photos without a face"] += not faces
        counts["faces"] += len(faces)
        masked += [path.name for face in faces if face.masked and not face.left_out]
    counts["masks to be removed"] = len(masked)
    for name, count in counts.items():
        print(f"{name:24}{count:6}")
    if len(masked) < 20:
        print("masked:", ", ".join(masked) or "none")


def measure_changed(photos: Sequence[Path], unmasker: Unmasker, changes: Mapping[str, Change]) -> None:
    """Prints for each change how many of the faces are found again, how many of these count as masked, and the time."""
    found = [(photo, faces[0]) for photo in map(read_image, photos) if (faces := unmasker.find(photo))]
    if not found:
        raise UserError("no face is found in the photos; give others")
    print(f"{'change':36}{'photos':>8}{'found':>8}{'masked':>8}{'seconds':>9}")
    for name, change in changes.items():
        again, masked, seconds = 0, 0, []
        for photo, face in tqdm(found, desc=name, unit="photo", leave=False):
            changed, matrix = change(photo, face)
            begun = time.perf_counter()
            faces = unmasker.find(changed)
            seconds.append(time.perf_counter() - begun)
            expected = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
            errors = [landmark_errors(other.landmarks[None], expected[None]).mean() for other in faces]
            if errors and min(errors) < MOST_ERROR:
                again += 1
                masked += faces[int(np.argmin(errors))].masked
        print(f"{name:36}{len(found):8}{again:8}{masked:8}{np.median(seconds):9.2f}")


def turned(degrees: float) -> Change:
    """Turns a photo counterclockwise, on grey."""

    def change(photo: np.ndarray, _: Face) -> tuple[np.ndarray, np.ndarray]:
        height, width = photo.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        across, down = np.abs(matrix[:, :2]) @ (width, height)
        matrix[:, 2] += (across - width) / 2, (down - height) / 2
        size = int(across), int(down)
        return cv2.warpAffine(photo, matrix, size, flags=cv2.INTER_CUBIC, borderValue=GREY), matrix

    return change


def cut(fraction: float) -> Change:
    """Cuts the detector's box of the face out of a photo, less so much of its width on each side, and resizes that."""

    def change(photo: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray]:
        left, top, right, bottom = face.box
        inside = np.array([fraction * (right - left), fraction / 2 * (bottom - top)])
        low = np.maximum(face.box[:2] + inside, 0).astype(int)
        high = np.minimum(face.box[2:] - inside, photo.shape[1::-1]).astype(int)
        close = photo[low[1] : high[1], low[0] : high[0]]
        scale = CLOSE_SIDE / max(close.shape[:2])
        resized = cv2.resize(close, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return resized, np.column_stack([scale * np.eye(2), -scale * low])

    return change


def squeezed(photo: np.ndarray, height: float) -> np.ndarray:
    """A photo scaled to so many times its height."""
    return photo if height == 1 else cv2.resize(photo, None, fx=1, fy=height, interpolation=cv2.INTER_AREA)


def shrunk(width: int) -> Change:
    """Shrinks a photo until the face is so many pixels wide, and puts it into the middle of a large grey one."""

    def change(photo: np.ndarray, face: Face) -> tuple[np.ndarray, np.ndarray]:
        scale = width / (face.box[2] - face.box[0])
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[: LARGE[1], : LARGE[0]]
        large = np.full((LARGE[1], LARGE[0], 3), GREY, np.uint8)
        x, y = (LARGE[0] - small.shape[1]) // 2, (LARGE[1] - small.shape[0]) // 2
        large[y : y + small.shape[0], x : x + small.shape[1]] = small
        return large, np.array([[scale, 0, x], [0, scale, y]])

    return change


CHANGES: dict[str, Change] = {
    "none": lambda photo, _: (photo, np.eye(2, 3)),
    **{f"turned by {degrees} degrees": turned(degrees) for degrees in (45, 90, 135, 180)},
    **{f"cut at {100 * fraction:g} % inside the face": cut(fraction) for fraction in (0, 0.08, 0.15)},
    "squeezed to 0.8 of its height": lambda photo, _: (squeezed(photo, 0.8), np.array([[1, 0, 0], [0, 0.8, 0]])),
    "in sepia": lambda photo, _: (np.clip(photo @ SEPIA.T, 0, 255).astype(np.uint8), np.eye(2, 3)),
    **{f"{width} px wide in 6000 x 4000": shrunk(width) for width in (40, 56, 80)},
}


if __name__ == "__main__":
    sys.exit(exit_code("measure_faces", main))
