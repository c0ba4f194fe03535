import numpy as np
import pytest

from maskgan_jax.data.build.sources import Skipped
from maskgan_jax.errors import UserError


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("measure_records")


@pytest.fixture(autouse=True)
def quick(tool, monkeypatch):
    """One round is enough, with the slow encodings left out."""
    monkeypatch.setattr(tool, "ROUNDS", 1)
    slow = ("lossless WebP", "PNG, level 6")
    monkeypatch.setattr(tool, "ENCODINGS", {name: value for name, value in tool.ENCODINGS.items() if name not in slow})


def test_every_encoding_gives_the_picture_back(tool):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    region = np.where(rng.random((16, 16, 1)) < 0.5, 255, 0).astype(np.uint8)
    for encoding in tool.ENCODINGS.values():
        for array in (picture, region):
            np.testing.assert_array_equal(encoding.decode(encoding.encode(array), array.shape), array)


def test_the_table(tool, data_dir, capsys):
    tool.main([f"--data_dir={data_dir}", "--count=16"])
    first, heading, _, *rows = capsys.readouterr().out.splitlines()
    assert first == "16 records of 64 px"
    assert [row.split("|")[1].strip() for row in rows] == list(tool.ENCODINGS)
    numbers = {row.split("|")[1].strip(): [float(cell.replace(",", "")) for cell in row.split("|")[2:-1]] for row in rows}
    assert all(len(of_row) == heading.count("|") - 2 and min(of_row) > 0 for of_row in numbers.values())
    # Two pictures and a region of 64 px, and what array_record, whose files are multiples of 64 KB, has around them.
    assert 0 < numbers["raw, array_record without compression"][0] - 7 * 64 * 64 <= 3 * 2**16 / 16


def test_faces_of_no_use_are_left_out(tool, monkeypatch, capsys):
    find_face = tool.find_face

    def find(photo, data, seed):
        data.size = 64
        return Skipped(photo.id, photo.source, "no face found") if photo.path[0] % 2 else find_face(photo, data, seed)

    monkeypatch.setattr(tool, "find_face", find)
    monkeypatch.setattr(tool, "ENCODINGS", {"raw": tool.ENCODINGS["raw"]})
    tool.main(["--count=32"])
    assert capsys.readouterr().out.startswith("16 records of 64 px\n")
    with pytest.raises(UserError, match="only 10 records to measure with"):
        tool.main(["--count=20"])


def test_too_few(tool, data_dir):
    with pytest.raises(UserError, match="--count=3: give at least 16"):
        tool.main([f"--data_dir={data_dir}", "--count=3"])
    with pytest.raises(UserError, match="only 4 records to measure with"):
        tool.main([f"--data_dir={data_dir}", "--split=test"])
