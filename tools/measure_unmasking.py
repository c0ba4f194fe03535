"""Measures `maskgan unmask`: on photos of people who really wear masks, and on a video; see docs/unmasking.md.

    python tools/measure_unmasking.py photos PHOTOS --out=DIR
    python tools/measure_unmasking.py video --out=DIR [--size=256]
    python tools/measure_unmasking.py flicker --out=DIR
    python tools/measure_unmasking.py bare PHOTOS --out=DIR

The first counts in how many photos a face, and on it a mask, is found, draws sheets to be judged by eye, and measures how
long a photo takes, by how often the generator draws in it, and where the time goes. The second makes a video of 640 x 480
pixels, in which the portrait of the demo wears a mask and moves, with a camera's noise, and measures the same of it. Speed
does not depend on weights: with --size, a generator for another size is made up. The third measures how much what is drawn
changes from frame to frame, on the same video with the face held still, and on one of 1920 x 1080 pixels in which the
portrait does not move; and draws the changes. The last draws a face mask on each photo of a bare face, removes it, both with
its mask given and with the mask found, and compares the result with the photo.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import jax
import numpy as np
from tqdm import tqdm

from maskgan_jax.config import load_config
from maskgan_jax.configs import default
from maskgan_jax.data.align import FaceSquare
from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.data.grid import labelled_grid
from maskgan_jax.data.masks import draw_mask
from maskgan_jax.demo.run import PORTRAIT, masked_portrait
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import find_images, read_image, write_png
from maskgan_jax.networks.safetensors import save_untrained
from maskgan_jax.unmasking import compositing, detection
from maskgan_jax.unmasking import unmasker as unmasking
from maskgan_jax.unmasking.inputs import Job
from maskgan_jax.unmasking.mask_finder import lower_face
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.tracking import Tracker
from maskgan_jax.unmasking.unmasker import Unmasker

# Faces on a sheet, and their side in pixels.
SHEET_FACES = 40
SHEET_SIDE = 192
# Least heights of faces that are counted together, in pixels, and what is drawn of each.
FACE_HEIGHTS = (400, 250, 120, 0)
BARE = ["real", "masked", "mask given", "mask found"]
FRAMES = 300
RATE = 30
# Standard deviation of the noise of the camera, in levels.
NOISE = 2.5
# The middle of the portrait's face, in its pixels.
NOSE = (225, 120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("what", choices=["photos", "video", "flicker", "bare"])
    parser.add_argument("photos", nargs="?", help="folder of photos, for `photos` and `bare`")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--weights", metavar="PATH", help="as for `maskgan unmask`")
    parser.add_argument("--size", type=int, help="video: of a made-up generator, in pixels")
    flags = parser.parse_args(arguments)
    out = Path(flags.out)
    if flags.size and (flags.what != "video" or flags.weights):
        raise UserError("--size makes up a generator for `video`; leave it out, or --weights")
    if flags.what in ("photos", "bare"):
        if not flags.photos:
            raise UserError("give the folder of photos")
        measure = measure_photos if flags.what == "photos" else measure_bare
        measure(find_images(flags.photos), out, Unmasker.from_pretrained(flags.weights))
    elif flags.what == "flicker":
        measure_flicker(out, Unmasker.from_pretrained(flags.weights, fast=True))
    else:
        measure_video(out, made_up(flags.size, out) if flags.size else Unmasker.from_pretrained(flags.weights, fast=True))


def measure_photos(photos: Sequence[Path], out: Path, unmasker: Unmasker) -> None:
    """Prints how many faces and masks are found, and the time; draws each photo's largest masked face, before and after."""
    counts: dict[str, int] = defaultdict(int)
    # By how many squares the generator draws, in photos with one face.
    by_squares: dict[int, list[float]] = defaultdict(list)
    parts: dict[str, list[float]] = defaultdict(list)
    seconds, rows = [], []
    unmasker(read_image(PORTRAIT))  # Compiles.
    for path in tqdm(photos, unit="photo"):
        photo = read_image(path)
        with watched(unmasker) as calls:
            begun = time.perf_counter()
            result, faces = unmasker.unmask(photo)
            seconds.append(time.perf_counter() - begun)
        for part, of_photo in calls.items():
            parts[part] += of_photo
        if len(faces) == 1:
            by_squares[len(calls["generator"])].append(seconds[-1])
        masked = [face for face in faces if face.redrawn]
        counts["photos"] += 1
        counts["with a face found"] += bool(faces)
        counts["with a mask found"] += bool(masked)
        counts["faces"] += len(faces)
        counts["faces with a mask found"] += len(masked)
        for face in masked[:1]:
            square = dataclasses.replace(face.square, size=SHEET_SIDE)
            row = [square.cut_out(image) for image in (photo, result)]
            cv2.putText(row[0], path.stem[-12:], (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 0, 0), 1, cv2.LINE_AA)
            rows.append(row)
    for name, count in counts.items():
        print(f"{name:26} {count:6}")
    print(f"{'seconds a photo, median':26} {np.median(seconds):6.2f}")
    for squares, of_photos in sorted(by_squares.items()):
        what = f"one face, drawn in {squares} squares, {len(of_photos)} of the photos: median of seconds"
        print(f"{what}  {np.median(of_photos):6.2f}")
    print_parts(parts, len(photos), sum(seconds), "a photo", "all")
    for start in range(0, len(rows), SHEET_FACES):
        path = out / f"sheet_{start // SHEET_FACES + 1}.png"
        write_png(path, labelled_grid(rows[start : start + SHEET_FACES], ["before", "after"], columns=5))
        print(path)


def measure_bare(photos: Sequence[Path], out: Path, unmasker: Unmasker) -> None:
    """Prints, for faces of each height from brows to chin, medians of what is under the mask compared with the real face.

    Fine detail is what a Gaussian blur with a standard deviation of one pixel takes away: the fraction of its RMS, on the skin
    (without nose and mouth) and on all of the lower face. MSE: of all that was hidden or redrawn. Seam: by how many levels the
    error changes from pixel to pixel at the outline of what was redrawn. Draws each face.
    """
    tables: dict[tuple[int, str], list[tuple[float, ...]]] = defaultdict(list)
    for number, path in enumerate(tqdm(photos, unit="photo")):
        try:
            photo = read_image(path)
            landmarks = largest_face_landmarks(photo)
            masked = draw_mask(photo, landmarks, np.random.default_rng(number), default.get_config().data)
        except UserError as error:
            print(f"{path}: left out, {error}")
            continue
        height = np.ptp(landmarks[:, 1])
        row = [masked.image]
        for kind, mask in (("mask given", masked.mask), ("mask found", None)):
            result, faces = unmasker.unmask(masked.image, mask)
            if not any(face.redrawn for face in faces):
                continue
            redrawn = mask * np.uint8(255) if mask is not None else compositing.redrawn_mask(photo.shape[:2], faces)
            group = next(least for least in FACE_HEIGHTS if height >= least)
            tables[group, kind].append(_compared(result, photo, landmarks, masked.mask, redrawn))
            row.append(result)
        if len(row) == 3:
            square = dataclasses.replace(faces[0].square, size=max(SHEET_SIDE, round(faces[0].square.side)))
            write_png(
                out / f"{number:04}_{path.stem}.png", labelled_grid([[square.cut_out(image) for image in (photo, *row)]], BARE)
            )
    print(f"{'face':>8}  {'mask':12}{'faces':>6}{'detail of skin':>16}{'of all':>8}{'MSE':>8}{'seam':>7}")
    for (group, kind), values in sorted(tables.items()):
        skin, everything, error, seam = np.median(values, axis=0)
        size = f"{group} px"
        print(f"{size:>8}  {kind:12}{len(values):6}{skin:16.2f}{everything:8.2f}{error:8.1f}{seam:7.2f}")


def _compared(
    result: np.ndarray, photo: np.ndarray, landmarks: np.ndarray, hidden: np.ndarray, redrawn: np.ndarray
) -> tuple[float, ...]:
    """The numbers of `measure_bare` for one face."""
    lower, skin = lower_face(landmarks, photo.shape[:2]), np.full(photo.shape[:2], 255, np.uint8)
    for part in (landmarks[27:36], landmarks[48:60]):  # Nose and mouth.
        cv2.fillConvexPoly(skin, cv2.convexHull(np.rint(part).astype(np.int32)), 0)
    margin = round(0.1 * np.ptp(landmarks[:17, 0]))
    inner = cv2.erode(hidden * np.uint8(255) & lower, np.ones((5, 5)))
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (result, photo)]
    detail, real_detail = ((image - cv2.GaussianBlur(image, (0, 0), 1)) ** 2 for image in grey)
    fractions = [
        np.sqrt(detail[part > 0].mean() / real_detail[part > 0].mean())
        for part in (inner & cv2.erode(skin, np.ones((margin, margin))), inner)
    ]
    error = result.astype(np.float32) - photo
    outline = cv2.morphologyEx(redrawn, cv2.MORPH_GRADIENT, np.ones((3, 3)))
    seam = cv2.morphologyEx(error, cv2.MORPH_GRADIENT, np.ones((3, 3)))[outline > 0].mean()
    return (*fractions, (error[(hidden > 0) | (redrawn > 0)] ** 2).mean(), seam)


def measure_video(out: Path, unmasker: Unmasker) -> None:
    """Prints speed, and where the time goes."""
    if not importlib.util.find_spec("av"):
        raise UserError("videos need PyAV: pip install 'maskgan_jax[video]'")
    from maskgan_jax.unmasking.video import unmask_video  # Photos are measured without PyAV.

    frames = [frame for frame, _ in moving_portrait(masked_portrait().image)]
    path = out / "portrait.mp4"
    write_video(path, frames)
    outputs = Outputs(out, overwrite=True)
    unmask_video(Job(path, Path("compiled.mp4")), unmasker, outputs)  # Compiles.
    print(unmask_video(Job(path, Path("unmasked.mp4")), unmasker, outputs))

    tracker = Tracker(unmasker, RATE)
    with watched(unmasker) as calls:
        begun = time.perf_counter()
        for frame in frames:
            compositing.composite(frame, tracker(frame))
        total = time.perf_counter() - begun
    print_parts(calls, len(frames), total, "a frame", "all but decoding and encoding")


def print_parts(calls: Mapping[str, Sequence[float]], count: int, total: float, each: str, everything: str) -> None:
    """Prints the mean time that each part takes of a photo or frame, in milliseconds, and that of all."""
    print(f"\n{'part':32} ms {each}")
    for name, of_part in sorted(calls.items(), key=lambda item: -sum(item[1])):
        print(f"{name:32} {1000 * sum(of_part) / count:6.2f}")
    print(f"{everything:32} {1000 * total / count:6.2f}")


def measure_flicker(out: Path, unmasker: Unmasker) -> None:
    """Prints the mean change of a pixel under the mask from one frame to the next, in levels, and draws the changes.

    How the portrait moves is known: frames are moved back by it, so that what is left is flicker and the camera's noise.
    """
    portrait, masked = read_image(PORTRAIT), masked_portrait()
    for name, film in (("moving, 640 x 480", moving_portrait), ("still, 1920 x 1080", still_portrait)):
        tracker = Tracker(unmasker, RATE)
        videos = {
            "bare face (noise alone)": (portrait, lambda frame: frame),
            "each frame by itself": (masked.image, unmasker),
            "as a video": (masked.image, lambda frame, tracker=tracker: compositing.composite(frame, tracker(frame))),
        }
        rows = []
        print(f"{name + ':':26} mean change of a pixel under the mask, levels")
        for kind, (image, unmask) in videos.items():
            back = [
                cv2.warpAffine(unmask(frame), motion, portrait.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
                for frame, motion in tqdm(film(image), total=FRAMES, unit="frame")
            ]
            changes = [np.abs(one.astype(np.int16) - other) for one, other in itertools.pairwise(back)]
            print(f"{kind:26} {np.mean([change[masked.mask].mean() for change in changes]):6.3f}")
            drawn = [np.clip(8 * change, 0, 255).astype(np.uint8) for change in changes[:: len(changes) // 4][:4]]
            rows.append([back[0], *drawn])
        path = out / f"flicker_{name.partition(',')[0]}.png"
        write_png(path, labelled_grid(rows, ["face", *4 * ["change x 8"]]))
        print(path)


def moving_portrait(image: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The frames of a video in which an image sways, with a camera's noise, and the `[2, 3]` map from the image to each."""
    rng = np.random.default_rng(0)
    for number in range(FRAMES):
        t = number / RATE
        matrix = cv2.getRotationMatrix2D(NOSE, 4 * np.sin(1.3 * t), 1.6 + 0.05 * np.sin(t))
        matrix[:, 2] += [95 + 15 * np.sin(2 * t), 100 + 8 * np.cos(1.7 * t)]
        frame = cv2.warpAffine(image, matrix, (640, 480), borderMode=cv2.BORDER_REFLECT)
        yield _noisy(frame, rng), matrix


def still_portrait(image: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same of a large video in which the image keeps still, its face far from the frame's corner, about (1400, 560)."""
    rng = np.random.default_rng(0)
    matrix = cv2.getRotationMatrix2D(NOSE, 0, 1.6)
    matrix[:, 2] += np.array([1400, 560]) - NOSE
    frame = cv2.warpAffine(image, matrix, (1920, 1080), borderMode=cv2.BORDER_REPLICATE)
    for _ in range(FRAMES):
        yield _noisy(frame, rng), matrix


def _noisy(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(0, NOISE, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def write_video(path: Path, frames: Sequence[np.ndarray]) -> None:
    """Writes frames `[H, W, 3]` as H.264."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@contextlib.contextmanager
def watched(unmasker: Unmasker) -> Iterator[dict[str, list[float]]]:
    """Seconds that each call of a part of unmasking takes during the block, by the part's name; they are added as it runs."""
    calls: dict[str, list[float]] = defaultdict(list)

    def watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            result = jax.block_until_ready(function(*arguments, **named))
            calls[name].append(time.perf_counter() - begun)
            return result

        return timed

    with contextlib.ExitStack() as stack:
        for owner, name, part in (
            (detection, "_search", "face detector"),
            (FaceSquare, "cut_out", "cutting the faces out"),
            *((module, "composite", "putting them back") for module in (compositing, unmasking)),
            (unmasker.aligner.network, "_run", "landmark network"),
            (unmasker.mask_finder.network, "_run", "segmentation network"),
            (unmasker.inpainter.generator, "_run", "generator"),
        ):
            stack.enter_context(mock.patch.object(owner, name, watch(part, getattr(owner, name))))
        yield calls


def made_up(size: int, out: Path) -> Unmasker:
    """The package's landmark and segmentation networks, and a generator for another size that was never trained."""
    path = out / f"made_up_{size}.safetensors"
    save_untrained(path, load_config("configs/fast_model.py", [f"--config.data.size={size}"]), "unmask", seed=0)
    return Unmasker.from_pretrained(path)


if __name__ == "__main__":
    sys.exit(exit_code("measure_unmasking", main))
