import errno
import functools
import os

import cv2
import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.config import save_config
from maskgan_jax.data.align import FaceSquare, align
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import find_images, read_image, write_png
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.training.checkpoints import open_best, save_best
from maskgan_jax.unmasking import aligned
from maskgan_jax.unmasking.aligned import find_mask, redraw, unmask_aligned
from maskgan_jax.unmasking.outputs import Outputs

from .conftest import MASK_COLOUR, SIDE, Green, Painter


def blotches(side, seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (side, side, 3))
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), side / 16), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.fixture
def faces(tmp_path):
    """A folder of three faces: the network's size, larger, and smaller in a folder of its own."""
    folder = tmp_path / "faces"
    for seed, (name, side) in enumerate({"same.png": 64, "large.png": 150, "inner/small.png": 40}.items()):
        write_png(folder / name, blotches(side, seed))
    return folder


@pytest.fixture
def masks(tmp_path, faces):
    """The masks of these faces: their lower halves."""
    folder = tmp_path / "masks"
    for path in find_images(faces):
        mask = np.zeros(read_image(path).shape[:2], np.uint8)
        mask[len(mask) // 2 :] = 255
        write_png(folder / path.relative_to(faces), mask)
    return folder


def written(folder):
    return sorted(path.relative_to(folder).as_posix() for path in find_images(folder))


# A network is loaded and compiled once.
load_network = functools.cache(FaceNetwork)


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    monkeypatch.setattr(aligned, "FaceNetwork", load_network)


@pytest.fixture(scope="module")
def generator(generator_file):
    return load_network(generator_file, "unmask", batch_size=1)


def test_results_have_the_names_and_sizes_of_the_inputs(faces, tmp_path, generator_file, generator):
    out = tmp_path / "out"
    assert unmask_aligned([faces], Outputs(out), generator_file) == 0
    assert written(out) == ["inner/small.png", "large.png", "same.png"]
    for name in written(out):
        assert read_image(out / name).shape == read_image(faces / name).shape
    same = read_image(faces / "same.png")
    np.testing.assert_array_equal(read_image(out / "same.png"), generator(same[None])[0])
    assert (read_image(out / "same.png") != same).any()


def test_a_full_disk_ends_it(faces, tmp_path, generator_file, monkeypatch):
    """What is advised goes with --aligned: there are no descriptions, by which --resume goes."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(aligned, "write_drawn_png", full)
    with pytest.raises(UserError, match="No space left on device; free some space, and go on with --overwrite"):
        unmask_aligned([faces], Outputs(tmp_path / "out"), generator_file)


def test_another_size_goes_through_the_network_at_its_own(tmp_path, generator_file, generator):
    large = cv2.resize(blotches(64), (128, 128), interpolation=cv2.INTER_CUBIC)
    write_png(tmp_path / "large.png", large)
    unmask_aligned([tmp_path / "large.png"], Outputs(tmp_path / "out"), generator_file)
    small = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(generator(small[None])[0], (128, 128), interpolation=cv2.INTER_CUBIC)
    difference = np.abs(read_image(tmp_path / "out" / "large.png").astype(int) - expected)
    assert difference.mean() < 2 < np.abs(expected.astype(int) - large).mean()


def test_known_pixels_are_put_back_exactly(faces, masks, tmp_path, generator_file):
    unmask_aligned([faces], Outputs(tmp_path / "raw"), generator_file)
    unmask_aligned([faces], Outputs(tmp_path / "out"), generator_file, masks)
    for name in written(faces):
        hidden = read_image(masks / name, grey=True) > 127
        result, raw, face = (read_image(folder / name) for folder in (tmp_path / "out", tmp_path / "raw", faces))
        np.testing.assert_array_equal(result[~hidden], face[~hidden])
        np.testing.assert_array_equal(result[hidden], raw[hidden])


def test_files_and_folders_together_and_other_formats(faces, tmp_path, generator_file):
    cv2.imwrite(str(tmp_path / "photo.JPEG"), blotches(64))
    assert unmask_aligned([tmp_path / "photo.JPEG", faces / "inner"], Outputs(tmp_path / "out"), generator_file) == 0
    assert written(tmp_path / "out") == ["photo.png", "small.png"]


def test_more_faces_than_go_through_at_once(tmp_path, generator_file, generator):
    pictures = {f"{i:02}.png": blotches(64, i) for i in range(11)}
    for name, picture in pictures.items():
        write_png(tmp_path / "faces" / name, picture)
    unmask_aligned([tmp_path / "faces"], Outputs(tmp_path / "out"), generator_file)
    for name, picture in pictures.items():
        np.testing.assert_array_equal(read_image(tmp_path / "out" / name), generator(picture[None])[0])


def test_bad_files_are_reported_and_the_rest_is_done(faces, masks, tmp_path, generator_file, capsys):
    (faces / "broken.png").write_bytes(b"no picture")
    write_png(faces / "oblong.png", blotches(64)[:40])
    write_png(faces / "maskless.png", blotches(64))
    write_png(faces / "misfit.png", blotches(64))
    write_png(masks / "misfit.png", np.zeros((32, 32), np.uint8))
    write_png(faces / "ones.png", blotches(64))
    write_png(masks / "ones.png", np.ones((64, 64), np.uint8))
    write_png(faces / "transparent.png", blotches(64))
    cv2.imwrite(str(masks / "transparent.png"), np.full((64, 64, 4), (0, 0, 0, 255), np.uint8))
    out = tmp_path / "out"
    arguments = ["unmask", "--aligned", str(faces), f"--out={out}", f"--weights={generator_file}", f"--mask={masks}"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    for message in (
        "broken.png is not a readable picture",
        "oblong.png is 64 x 40; an aligned face is square",
        "maskless.png has no mask of the same name",
        "misfit.png is 64 x 64 but its mask is 32 x 32",
        f"ones.png: its mask {masks / 'ones.png'} hides nothing (no pixel above 127); hidden pixels must be 255",
        f"transparent.png: its mask {masks / 'transparent.png'} hides nothing",
    ):
        assert message in captured.err
    assert "6 inputs could not be used" in captured.out
    assert written(out) == ["inner/small.png", "large.png", "same.png"]


def test_all_good_is_exit_code_0(faces, tmp_path, generator_file, capsys):
    assert main(["unmask", "--aligned", str(faces), f"--out={tmp_path / 'out'}", f"--weights={generator_file}"]) == 0
    assert capsys.readouterr().out == f"unmasked faces are in {tmp_path / 'out'}\n"


def test_two_inputs_with_one_name(faces, tmp_path, generator_file):
    cv2.imwrite(str(faces / "same.jpg"), blotches(64))
    with pytest.raises(UserError, match="same.* and .*same.* would both be written to"):
        unmask_aligned([faces], Outputs(tmp_path / "out"), generator_file)
    assert not (tmp_path / "out").exists()


def test_input_given_twice_is_done_once(faces, tmp_path, generator_file):
    assert unmask_aligned([faces / "same.png", faces / "same.png"], Outputs(tmp_path / "out"), generator_file) == 0
    assert written(tmp_path / "out") == ["same.png"]


@pytest.mark.parametrize("as_file", [False, True])
def test_inputs_are_never_overwritten(faces, generator_file, as_file):
    before = (faces / "same.png").read_bytes()
    with pytest.raises(UserError, match="same.png would be overwritten|large.png would be overwritten|small.png would be"):
        unmask_aligned([faces / "same.png" if as_file else faces], Outputs(faces), generator_file)
    assert (faces / "same.png").read_bytes() == before


def test_masks_and_other_inputs_are_never_overwritten(faces, masks, tmp_path, generator_file):
    other = tmp_path / "out" / "inner" / "small.png"
    write_png(other, blotches(64))
    before = {path: path.read_bytes() for path in (other, *find_images(masks))}
    with pytest.raises(UserError, match="masks.*png would be overwritten by the result of"):
        unmask_aligned([faces], Outputs(masks), generator_file, masks)
    with pytest.raises(UserError, match="out/inner/small.png would be overwritten by the result of .*faces/inner/small.png"):
        unmask_aligned([faces, other], Outputs(tmp_path / "out"), generator_file)
    assert {path: path.read_bytes() for path in before} == before


def test_nothing_that_can_be_used(tmp_path, generator_file, landmark_file, faces):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is nothing to unmask"):
        unmask_aligned([tmp_path / "empty"], Outputs(tmp_path / "out"), generator_file)
    with pytest.raises(UserError, match="trained for 'landmarks'"):
        unmask_aligned([faces], Outputs(tmp_path / "out"), landmark_file)
    with pytest.raises(UserError, match="there is no network at"):
        unmask_aligned([faces], Outputs(tmp_path / "out"), tmp_path / "nowhere")


def test_file_that_is_not_there_is_reported(faces, tmp_path, generator_file, capsys):
    assert unmask_aligned([faces / "same.png", tmp_path / "gone.png"], Outputs(tmp_path / "out"), generator_file) == 1
    assert "cannot read" in capsys.readouterr().err
    assert written(tmp_path / "out") == ["same.png"]


def test_run_and_exported_file_give_the_same_images(faces, tmp_path, generator_file, generator_variables, config, generator):
    workdir = tmp_path / "run"
    workdir.mkdir()
    save_config(workdir / "config.json", config)
    with open_best(workdir) as best:
        save_best(best, 1, {"batch_stats": {}, **generator_variables}, {"mse_masked": 1.0})
    exported = tmp_path / "network.safetensors"
    assert main(["export", f"--workdir={workdir}", f"--out={exported}"]) == 0
    same = read_image(faces / "same.png")[None]
    expected = generator(same)
    for weights in (workdir, exported):
        np.testing.assert_array_equal(FaceNetwork(weights, "unmask", batch_size=1)(same), expected)


def test_two_masks_of_one_name(faces, masks, tmp_path, generator_file):
    cv2.imwrite(str(masks / "same.bmp"), np.zeros((64, 64), np.uint8))
    with pytest.raises(UserError, match="same.bmp and .*same.png have the same name"):
        unmask_aligned([faces], Outputs(tmp_path / "out"), generator_file, masks)


def test_nothing_that_was_unmasked_is_reported(tmp_path, generator_file, capsys):
    (tmp_path / "empty.png").touch()
    flags = [f"--out={tmp_path / 'out'}", f"--weights={generator_file}"]
    assert main(["unmask", "--aligned", str(tmp_path / "empty.png"), *flags]) == 1
    captured = capsys.readouterr()
    assert "empty.png is not a readable picture (an empty file)" in captured.err
    assert "no input that was tried could be used" in captured.err
    assert captured.out == "" and not (tmp_path / "out").exists()


def test_result_that_cannot_be_written_is_reported_and_the_rest_is_done(faces, tmp_path, generator_file, capsys):
    (tmp_path / "out" / "same.png").mkdir(parents=True)
    flags = f"--out={tmp_path / 'out'}", f"--weights={generator_file}", "--overwrite"
    assert main(["unmask", "--aligned", str(faces), *flags]) == 1
    captured = capsys.readouterr()
    assert "skipped: cannot write" in captured.err and "same.png" in captured.err
    assert "1 inputs could not be used" in captured.out
    assert written(tmp_path / "out") == ["inner/small.png", "large.png"]


def test_whatever_one_face_raises_the_others_are_done(faces, tmp_path, generator_file, monkeypatch, capsys):
    def read(path):
        if path.name == "large.png":
            raise ValueError("of all things")
        return read_image(path)

    monkeypatch.setattr(aligned, "read_image", read)
    assert main(["unmask", "--aligned", str(faces), f"--out={tmp_path / 'out'}", f"--weights={generator_file}"]) == 1
    lines = capsys.readouterr().err.replace("\r", "\n").split("\n")
    assert any(line.endswith(f"maskgan unmask: skipped: {faces / 'large.png'}: ValueError: of all things") for line in lines)
    assert written(tmp_path / "out") == ["inner/small.png", "same.png"]


class Gradient(Painter):
    """Draws a gradient, so that the place of each pixel shows."""

    def __call__(self, pictures, masks):
        y, x = np.mgrid[:SIDE, :SIDE]
        drawn = np.stack([2 * x + 60, 2 * y + 60, x + y + 60], axis=-1).astype(np.uint8)
        return np.where(masks > 127, drawn, pictures)


@pytest.mark.parametrize(("side", "zoom"), [(64, 1.0), (64, 4 / 3), (256, 1.0), (256, 4 / 3), (48, 1.0)])
def test_generators_square_within_another(side, zoom):
    generator = Gradient()
    generator.zoom = zoom
    image = np.zeros((side, side, 3), np.uint8)
    mask = np.full((side, side), 255, np.uint8)
    result = redraw(generator, image, mask)
    square = FaceSquare.within_aligned(side, SIDE, zoom)
    place = np.array([[20.0, 12.0], [50.0, 40.0]])
    for (x, y), (column, row) in zip(place, np.rint(square.to_photo(place)).astype(int), strict=True):
        np.testing.assert_allclose(result[row, column], [2 * x + 60, 2 * y + 60, x + y + 60], atol=5)
    above = int(side * (1 - 1 / zoom))
    assert not result[: max(above - 1, 0)].any() and result[above + 1 :, side // 2].all()


def test_mask_of_an_aligned_face():
    face = render_face(3, seed=0, size=256)
    landmarks = align(face.image, face.landmarks, 200).landmarks
    left, right = landmarks[36:42], landmarks[42:48]
    image = np.random.default_rng(0).integers(60, 120, (200, 200, 3), np.uint8)
    image[round(left[:, 1].mean()) : 160, 60:140] = MASK_COLOUR  # Up to the middle of the eyes.
    network = Green()
    network.zoom = 4 / 3

    class Landmarks:
        """Stands in for a landmark network."""

        size, zoom = SIDE, 4 / 3

        def __call__(self, images):
            points = FaceSquare.within_aligned(200, SIDE, 4 / 3).to_aligned(landmarks)
            return np.repeat(points[None], len(images), axis=0).astype(np.float32)

    mask = find_mask(network, Landmarks(), image)
    assert set(np.unique(mask)) == {0, 255}
    for eye in (left, right):
        x, y = np.rint(eye.mean(axis=0)).astype(int)
        assert not mask[y - 1 : y + 2, x - 3 : x + 4].any()
    assert mask[125:159, 61:139].all()
    assert not mask[166:].any() and not mask[:, :52].any() and not mask[:, 148:].any()
