"""A mask remover whose networks are simple functions, so that tests know what it must do."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from tqdm import tqdm

from maskgan_jax.__main__ import main
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.demo.run import PORTRAIT
from maskgan_jax.files import read_image
from maskgan_jax.unmasking.inputs import find_jobs
from maskgan_jax.unmasking.mask_finder import lower_face
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.photo_files import photo_bytes
from maskgan_jax.unmasking.unmasker import Unmasker

SIDE = 64
# Of the masks on the portraits: no colour that faces have.
MASK_COLOUR = (20, 220, 40)
# What the generator draws.
DRAWN = (200, 100, 150)


class MeanFace:
    """Stands in for a landmark network: it says of every face that it is aligned as it should be."""

    size, zoom, batch_size = SIDE, 1.0, 1

    def __init__(self):
        faces = [render_face(i, seed=0, size=256) for i in range(4)]
        from maskgan_jax.data.align import align

        self.points = np.mean([align(face.image, face.landmarks, SIDE).landmarks for face in faces], axis=0)

    def __call__(self, pictures):
        return np.repeat(self.points[None], len(pictures), axis=0).astype(np.float32)


class Green:
    """Stands in for a segmentation network: masks are what has the colour of masks."""

    size, zoom, batch_size = SIDE, 1.0, 1

    def __call__(self, pictures):
        return (np.abs(pictures.astype(int) - MASK_COLOUR).max(axis=-1) < 60).astype(np.float32)


class Painter:
    """Stands in for a generator that inpaints: one colour where it is hidden, the picture elsewhere."""

    size, zoom, batch_size, inpaints = SIDE, 1.0, 1, True

    def __call__(self, pictures, masks):
        return np.where(masks > 127, np.uint8(DRAWN), pictures)


@pytest.fixture(scope="session")
def unmasker() -> Unmasker:
    """A mask remover that paints over what is green."""
    return Unmasker(Painter(), MeanFace(), Green())


def is_green(image):
    """Where an image has the colour of the masks."""
    return (image == MASK_COLOUR).all(axis=-1)


def is_drawn(pixels, colour=DRAWN):
    """Where pixels have a drawn colour, but for grain: a few levels, the same in each channel."""
    grain = pixels.astype(int) - np.asarray(colour, int)
    return (np.ptp(grain, axis=-1) == 0) & (np.abs(grain[..., 0]) < 25)


def masked_face(number: int, size: int) -> np.ndarray:
    """A rendered face with a green mask, `[size, size, 3]`."""
    face = render_face(number, seed=0, size=size)
    mask = lower_face(face.landmarks, face.image.shape[:2])
    return np.where(mask[..., None] > 0, np.uint8(MASK_COLOUR), face.image)


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A face with a green mask, `[320, 320, 3]`, which is found at first sight."""
    return masked_face(22, 320)


@pytest.fixture(scope="session")
def uncertain_portrait() -> np.ndarray:
    """Another, of which a detection is less certain, so that turned faces are searched for, too."""
    return masked_face(3, 320)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """The package's photo of a person, `[512, 512, 3]`."""
    return read_image(PORTRAIT)


@pytest.fixture(scope="session")
def things() -> list[Path]:
    """scikit-image's pictures of things, drawings and animals, among them coins with heads and a cat from close by."""
    paths = sorted((Path(skimage.__file__).parent / "data").glob("*.[jp]*g"))
    paths = [path for path in paths if path.stem not in ("astronaut", "camera")]
    assert len(paths) >= 20 and {"chelsea", "coins", "horse", "logo"} <= {path.stem for path in paths}
    return paths


@pytest.fixture(scope="session")
def couple() -> np.ndarray:
    """Two faces beside each other, of which the larger one, on the right, wears a mask, `[400, 700, 3]`."""
    picture = np.full((400, 700, 3), 128, np.uint8)
    picture[:250, :250] = render_face(1, seed=0, size=250).image
    picture[:, 300:] = masked_face(0, 400)
    return picture


@pytest.fixture(scope="session")
def close_up() -> tuple[np.ndarray, np.ndarray]:
    """A face that is larger than its picture, `[H, W, 3]`, and where the tip of its nose is, (x, y)."""
    face = render_face(0, seed=0, size=900)
    (left, top), (right, bottom) = face.landmarks.min(axis=0).astype(int), face.landmarks.max(axis=0).astype(int)
    rim = (right - left) // 6
    close = np.ascontiguousarray(face.image[top : bottom - rim, left + rim : right - rim])
    return close, face.landmarks[30] - (left + rim, top)


@pytest.fixture(scope="session")
def beside_a_stranger(close_up) -> np.ndarray:
    """The same face, 150 pixels farther to the right, beside a small one: the only one that is found without a border."""
    close, _ = close_up
    photo = np.full((len(close), 150, 3), 128, np.uint8)
    photo[20:170] = cv2.resize(render_face(2, seed=0, size=300).image, (150, 150), interpolation=cv2.INTER_AREA)
    return np.concatenate([photo, close], axis=1)


@pytest.fixture(scope="session")
def crowd() -> np.ndarray:
    """200 small faces with masks, `[1000, 2000, 3]`."""
    faces = [cv2.resize(masked_face(i % 4, 200), (100, 100), interpolation=cv2.INTER_AREA) for i in range(4)]
    return np.concatenate([np.concatenate([faces[(i + j) % 4] for i in range(20)], axis=1) for j in range(10)])


@pytest.fixture
def run(unmasker, monkeypatch, capsys):
    """What runs `maskgan unmask` with that mask remover: arguments -> exit code, standard output, error output."""

    def load(weights=None, fast=False, **options):
        chosen = copy.copy(unmasker)
        vars(chosen).update(options)
        return chosen

    monkeypatch.setattr(Unmasker, "from_pretrained", load)

    def call(*arguments):
        tqdm._instances.clear()  # Bars of tests that failed on purpose would push this one's down.
        try:
            code = main(["unmask", *map(str, arguments)])
        except SystemExit as end:  # Of argparse.
            code = end.code
        captured = capsys.readouterr()
        # Without the progress bars.
        lines = (line.split("\r")[-1] for line in captured.err.split("\n"))
        return code, captured.out, "\n".join(line for line in lines if not line.startswith(("unmask", "camera")))

    return call


@pytest.fixture(scope="session")
def clip(portrait):
    """Ten frames of 320 x 240 pixels in which the portrait moves a little."""
    return moving(portrait)


@pytest.fixture(scope="session")
def uncertain_clip(uncertain_portrait):
    """The same of the other portrait."""
    return moving(uncertain_portrait)


def moving(portrait):
    small = cv2.resize(portrait, (220, 220), interpolation=cv2.INTER_AREA)
    pictures = [np.full((240, 320, 3), 100, np.uint8) for _ in range(10)]
    for number, picture in enumerate(pictures):
        picture[10:230, 20 + 2 * number : 240 + 2 * number] = small
    return pictures


def named_files(folder, *names):
    """A folder with empty files of these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder of two photos and a video, among other things."""
    return named_files(tmp_path / "in", "a.png", "inner/b.jpg", "c.mp4", "d.txt", ".hidden.png")


def write_photo(path, photo, result, **options):
    """Writes the result of a photo; what it does not keep."""
    data, notes = photo_bytes(path, photo, result, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return notes


def list_jobs(inputs, out, masks=None, *, folders=(), **options):
    """What `find_jobs` lists for results in `out` with extras in these folders."""
    return find_jobs(inputs, Outputs(out, **dict.fromkeys(folders, True), **options), masks)
