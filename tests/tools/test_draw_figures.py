import numpy as np
import pytest

from maskgan_jax.data.grid import HEADING
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.networks.face_network import FaceNetwork


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("draw_figures")


def test_rows_have_a_face_as_every_system_shows_it(tool, data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "_generator", lambda *_: lambda record: 255 - record["masked"])
    tool.main([str(tmp_path), f"--data_dir={data_dir}", f"--out={tmp_path}", "--systems=a,b", "--people=1"])
    records = [dict(record) for record in load_split(data_dir, "test")]
    side = len(records[0]["real"])
    picture = read_image(tmp_path / "faces.png")
    assert picture.shape == (HEADING + 2 * (HEADING + side), 5 * side, 3)
    # Two, evenly taken of the four of the only source.
    for row, record in enumerate((records[0], records[2])):
        top = HEADING + row * (HEADING + side) + HEADING
        columns = [picture[top : top + side, column * side : (column + 1) * side] for column in range(5)]
        filled = telea(record["masked"], record["mask"])
        for shown, image in zip(columns, (record["masked"], filled, 255 - record["masked"]), strict=False):
            np.testing.assert_array_equal(shown, image)
        np.testing.assert_array_equal(columns[4], record["real"])
    # The person with most expressions has a row for each.
    people: dict[str, set[str]] = {}
    for record in records:
        people.setdefault(record["identity"], set()).add(record["expression"])
    most = max(map(len, people.values()))
    assert len(read_image(tmp_path / "expressions_1.png")) == HEADING + most * (HEADING + side)
    assert f"expressions_1.png: {most} faces" in capsys.readouterr().out
    assert not (tmp_path / "expressions_2.png").exists()


def test_a_network_draws_the_face_of_a_record(tool, data_dir, tmp_path, monkeypatch, generator_file):
    monkeypatch.setattr(tool, "checkpoint_of", lambda workdir, step: generator_file)
    record = load_split(data_dir, "test")[0]
    expected = FaceNetwork(generator_file, "unmask", 1)(record["masked"][None])[0]
    np.testing.assert_array_equal(tool._generator(tmp_path, data_dir)(record), expected)


def test_a_network_of_a_run(tool, data_dir, tmp_path):
    with pytest.raises(UserError, match=r"--step=last is for the workdir of a run, and .*pix2pix is none"):
        tool.main([str(tmp_path), f"--data_dir={data_dir}", f"--out={tmp_path}"])
    with pytest.raises(UserError, match="--faces=0 --people=2: give at least 1 face"):
        tool.main([str(tmp_path), f"--data_dir={data_dir}", f"--out={tmp_path}", "--faces=0"])
    assert list(tmp_path.iterdir()) == []
