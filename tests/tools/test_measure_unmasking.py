import functools
import re
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_png
from maskgan_jax.unmasking.detection import detect_faces
from maskgan_jax.unmasking.unmasker import Unmasker

FRAMES = 5
PARTS = {
    *("face detector", "cutting the faces out", "landmark network"),
    *("segmentation network", "generator", "putting them back"),
}


@pytest.fixture(scope="module")
def tool(load_tool):
    """Its networks are loaded, and compiled, once for all tests but those that change them."""
    tool = load_tool("measure_unmasking")
    tool.FRAMES = FRAMES
    tool.Unmasker = SimpleNamespace(from_pretrained=functools.cache(Unmasker.from_pretrained))
    return tool


def numbers(printed):
    """{what a line of a table is of: its number}."""
    return {name: float(value) for name, value in re.findall(r"^(\S.*?)  +([\d.]+)$", printed, re.MULTILINE)}


def tables(printed):
    """Those of the two videos on which flicker is measured."""
    moving, still = re.split(r"^still, 1920 x 1080:.*$", printed, flags=re.MULTILINE)
    return numbers(moving), numbers(still)


def test_photos_are_counted_and_drawn(tool, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_png(photos / "masked.png", tool.masked_portrait().image)
    write_png(photos / "bare.png", read_image(tool.PORTRAIT))
    write_png(photos / "nobody.png", np.full((200, 200, 3), 128, np.uint8))
    tool.main(["photos", str(photos), f"--out={tmp_path}"])
    counts = numbers(capsys.readouterr().out)
    assert 0 < counts.pop("seconds a photo, median") < 60
    for squares in (0, 1):  # That of the bare face, and of the masked one.
        assert 0 < counts.pop(f"one face, drawn in {squares} squares, 1 of the photos: median of seconds") < 60
    total = counts.pop("all")
    assert 0 < sum(counts.pop(part) for part in PARTS) <= total
    assert counts == {
        "photos": 3,
        "with a face found": 2,
        "with a mask found": 1,
        "faces": 2,
        "faces with a mask found": 1,
    }
    assert read_image(tmp_path / "sheet_1.png").shape[1] >= 2 * tool.SHEET_SIDE


def test_no_call_is_counted_twice(tool):
    """A large photo is searched closer where something was, by the same function."""
    unmasker = tool.Unmasker.from_pretrained()
    with tool.watched(unmasker) as calls:
        begun = time.perf_counter()
        tool.detection._search_closer(np.full((900, 900, 3), 128, np.uint8), 1.0, np.array([[200.0, 200.0], [700.0, 700.0]]))
        total = time.perf_counter() - begun
    assert len(calls["face detector"]) >= 1 and sum(calls["face detector"]) <= total


def test_bare_faces_are_masked_and_compared(tool, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_png(photos / "bare.png", read_image(tool.PORTRAIT))
    write_png(photos / "nobody.png", np.full((200, 200, 3), 128, np.uint8))
    (photos / "broken.jpg").touch()
    tool.main(["bare", str(photos), f"--out={tmp_path}"])
    printed = capsys.readouterr().out
    assert "nobody.png: left out, " in printed and "broken.jpg: left out, " in printed
    rows = re.findall(r"^ *0 px  mask (given|found) +1 +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
    assert [row[0] for row in rows] == ["found", "given"]
    for _, skin, everything, error, seam in rows:
        assert 0.5 < float(skin) < 2 and 0.5 < float(everything) < 2
        assert 0 < float(error) < 3000 and 0 < float(seam) < 30
    assert read_image(tmp_path / "0000_bare.png").shape[1] >= 4 * tool.SHEET_SIDE


def test_a_result_like_the_real_face_scores_as_such(tool):
    portrait = read_image(tool.PORTRAIT)
    masked = tool.masked_portrait()
    landmarks = tool.largest_face_landmarks(portrait)
    redrawn = masked.mask * np.uint8(255)
    assert tool._compared(portrait, portrait, landmarks, masked.mask, redrawn) == (1, 1, 0, 0)
    smooth = np.where(masked.mask[..., None], cv2.GaussianBlur(portrait, (0, 0), 2), portrait)
    skin, everything, error, seam = tool._compared(smooth, portrait, landmarks, masked.mask, redrawn)
    assert max(skin, everything) < 0.5 and error > 0 and seam > 0


def test_a_still_face_without_noise_does_not_flicker(tool, tmp_path, monkeypatch, capsys):
    still = np.eye(2, 3)
    for film in ("moving_portrait", "still_portrait"):
        monkeypatch.setattr(tool, film, lambda image: ((image, still) for _ in range(FRAMES)))
    tool.main(["flicker", f"--out={tmp_path}"])
    for table in tables(capsys.readouterr().out):
        assert table["bare face (noise alone)"] == table["each frame by itself"] == 0
        assert table["as a video"] < 1  # The landmarks come to rest within these frames.


def test_flicker_is_what_changes_but_for_the_motion(tool, tmp_path, capsys):
    tool.main(["flicker", f"--out={tmp_path}"])
    for table in tables(capsys.readouterr().out):
        # The difference of two frames' noise, of which each is interpolated twice, which takes more than a half away.
        assert 0.2 * tool.NOISE < table["bare face (noise alone)"] < 2 * tool.NOISE / np.sqrt(np.pi)
        assert 0 < table["each frame by itself"] < table["bare face (noise alone)"]
        assert 0 < table["as a video"] < table["bare face (noise alone)"]
    assert (tmp_path / "flicker_moving.png").exists() and (tmp_path / "flicker_still.png").exists()


def test_the_still_face_is_far_from_the_corner(tool):
    portrait = read_image(tool.PORTRAIT)
    frames = list(tool.still_portrait(portrait))
    assert len(frames) == FRAMES and frames[0][0].shape == (1080, 1920, 3)
    (found,) = detect_faces(frames[0][0])
    np.testing.assert_allclose((found.box[:2] + found.box[2:]) / 2, (1400, 560), atol=60)


def test_speed_of_a_video_and_its_parts(tool, tmp_path, monkeypatch, capsys):
    pytest.importorskip("av")
    monkeypatch.setattr(tool, "Unmasker", Unmasker)
    search = tool.detection._search
    tool.main(["video", f"--out={tmp_path}"])
    assert tool.detection._search is search
    printed = capsys.readouterr().out
    assert re.search(rf"{FRAMES} of {FRAMES}", printed) and "frames per second" in printed
    spent = numbers(printed)
    total = spent.pop("all but decoding and encoding")
    assert spent.keys() == PARTS
    assert 0 < sum(spent.values()) <= total
    assert (tmp_path / "portrait.mp4").exists() and (tmp_path / "unmasked.mp4").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["photos"], "give the folder of photos"),
        (["flicker", "--size=64"], "--size makes up a generator for `video`"),
        (["video", "--size=64", "--weights=network.safetensors"], "leave it out, or --weights"),
    ],
)
def test_wrong_flags(tool, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        tool.main([*flags, f"--out={tmp_path}"])
