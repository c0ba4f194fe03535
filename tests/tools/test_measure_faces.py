import types

import cv2
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("measure_faces")


@pytest.mark.parametrize("name", ["none", "turned by 45 degrees", "turned by 180 degrees", "cut at 8 % inside the face"])
def test_a_point_is_where_the_map_of_a_change_says(name, tool):
    photo = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(photo, (180, 140), 8, (0, 255, 0), cv2.FILLED)
    face = types.SimpleNamespace(box=np.array([100, 80, 260, 280.0]))
    changed, matrix = tool.CHANGES[name](photo, face)
    y, x = np.nonzero((changed[..., 1].astype(int) - changed[..., 0]) > 127)
    np.testing.assert_allclose([x.mean(), y.mean()], matrix[:, :2] @ [180, 140] + matrix[:, 2], atol=2)


def test_a_face_in_a_large_photo_has_the_width_asked_for(tool):
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[80:280, 100:260] = 255
    changed, matrix = tool.shrunk(56)(photo, types.SimpleNamespace(box=np.array([100, 80, 260, 280.0])))
    assert changed.shape == (4000, 6000, 3)
    y, x = np.nonzero(changed[..., 0] > 200)
    assert np.ptp(x) == pytest.approx(55, abs=1)
    np.testing.assert_allclose([x.mean(), y.mean()], matrix[:, :2] @ [179.5, 179.5] + matrix[:, 2], atol=1)


class Unmasker:
    """Stands in for a mask remover: a photo with green has a masked face, one with red a bare one, others none."""

    def find(self, photo):
        landmarks = np.random.default_rng(0).uniform(10, 90, (68, 2))
        red, green, _ = photo.max(axis=(0, 1))
        face = types.SimpleNamespace(box=np.array([10, 10, 90, 90.0]), landmarks=landmarks, masked=green > 200, left_out="")
        return [face] if max(red, green) > 200 else []


@pytest.fixture
def photos(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool.Unmasker, "from_pretrained", lambda **_: Unmasker())
    for name, colour in (("a", (0, 255, 0)), ("b", (255, 0, 0)), ("c", (0, 0, 255))):
        write_png(tmp_path / f"{name}.png", np.full((100, 100, 3), colour, np.uint8))
    return tmp_path


def test_photos_are_squeezed(photos, tool, monkeypatch):
    shapes = []
    monkeypatch.setattr(Unmasker, "find", lambda self, photo: shapes.append(photo.shape) or [])
    tool.main([str(photos), "--height=0.8"])
    assert shapes == [(80, 100, 3)] * 3
    with pytest.raises(UserError, match="--height=-1 is not from 0.1 to 10"):
        tool.main([str(photos), "--height=-1"])
    with pytest.raises(UserError, match="--first=0: give at least 1"):
        tool.main([str(photos), "--first=0"])
    with pytest.raises(UserError, match="leave out --height"):
        tool.main([str(photos), "--height=0.8", "--changed"])


def test_some_of_the_changes(photos, tool, capsys, monkeypatch):
    tool.main([str(photos), "--changed=sepia"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["change", "in sepia"]
    with pytest.raises(UserError, match="no change has that in its name; there are none, turned by 45"):
        tool.main([str(photos), "--changed=blue"])
    monkeypatch.setattr(Unmasker, "find", lambda self, photo: [])
    with pytest.raises(UserError, match="no face is found in the photos"):
        tool.main([str(photos), "--changed=sepia"])


def test_faces_are_counted(photos, tool, capsys):
    tool.main([str(photos)])
    printed = capsys.readouterr().out
    assert dict(line.rsplit(maxsplit=1) for line in printed.splitlines()[:4]) == {
        "photos": "3",
        "photos without a face": "1",
        "faces": "2",
        "masks to be removed": "1",
    }
    assert printed.endswith("masked: a.png\n")


def test_faces_are_found_again(photos, tool, capsys, monkeypatch):
    monkeypatch.setattr(tool, "CHANGES", {"none": tool.CHANGES["none"], "away": lambda photo, _: (0 * photo, np.eye(2, 3))})
    tool.main([str(photos), "--changed", "--first=1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["none", "1", "1", "1"] and lines[2].split()[:4] == ["away", "1", "0", "0"]
