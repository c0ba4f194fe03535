import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_png


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("show_masks")


def test_drawn_faces_in_rows(tool, tmp_path, config, capsys):
    out = tmp_path / "masks.png"
    tool.main(["--source=rendered=14", "--faces=12", "--side=48", f"--out={out}", "--config.data.size=64"])
    picture = read_image(out)
    assert picture.shape == (2 * 48, 10 * 48, 3)
    cells = picture.reshape(2, 48, 10, 48, 3).swapaxes(1, 2).reshape(20, -1)
    assert all(cell.std() > 10 for cell in cells[:12]) and (cells[12:] == 255).all()
    names = (tmp_path / "masks.txt").read_text().splitlines()
    assert len(names) == 12 and set(names) <= set(config.data.masks)
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert {name: int(count) for name, count, _ in map(str.split, rows)} == {name: names.count(name) for name in names}
    assert last == f"masks in {out}"


def test_real_ones_are_mixed_in(tool, tmp_path, monkeypatch):
    for number in range(5):
        write_png(tmp_path / "real" / f"{number}.png", np.full((64, 64, 3), number, np.uint8))
    monkeypatch.setattr(tool, "real_faces", lambda folder, count, config: [(np.zeros((64, 64, 3), np.uint8), "real")] * count)
    out = tmp_path / "masks.png"
    flags = ["--source=rendered=4", "--faces=4", "--side=64", f"--out={out}", f"--real={tmp_path / 'real'}"]
    tool.main([*flags, "--config.data.size=64"])
    names = (tmp_path / "masks.txt").read_text().splitlines()
    assert names.count("real") == 4 and names != sorted(names, key="real".__eq__)
    cells = read_image(out).reshape(64, 10, 64, 3).swapaxes(0, 1)
    assert [not cell.any() for cell in cells[:8]] == [name == "real" for name in names]


def test_real_photos_without_a_face_are_told(tool, tmp_path, config, capsys):
    for name in ("a", "b"):
        write_png(tmp_path / f"{name}.png", np.full((64, 64, 3), 90, np.uint8))
    assert tool.real_faces(tmp_path, 2, config) == []
    assert capsys.readouterr().err.count("no face found") == 2


def test_bad_input(tool, tmp_path):
    write_png(tmp_path / "photos" / "wall.png", np.full((64, 64, 3), 90, np.uint8))
    out = f"--out={tmp_path / 'masks.png'}"
    with pytest.raises(UserError, match="there is no face to draw on in folder="):
        tool.main([f"--source=folder={tmp_path / 'photos'}", out])
    with pytest.raises(UserError, match="--faces=0 --side=128: give at least 1 each"):
        tool.main(["--source=rendered=2", out, "--faces=0"])
    with pytest.raises(UserError, match="--out=masks.txt: give a name that ends in .png"):
        tool.main(["--source=rendered=2", "--out=masks.txt"])
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
