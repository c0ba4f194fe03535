import io

import numpy as np
import pytest
from PIL import Image

from maskgan_jax.data.build.sources import Photo
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("measure_build")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Two photos with a face, and, the first by its name, one without."""
    folder = tmp_path_factory.mktemp("faces")
    write_png(folder / "0.png", np.full((200, 200, 3), 120, np.uint8))
    for number in (1, 2):
        write_png(folder / f"{number}.png", render_face(number, seed=0).image)
    return folder


def test_the_stages_are_nearly_all_of_the_time(tool, config, tmp_path):
    """Reading takes long here: a file that is hard to decode, of a size that is not reduced before the search."""
    noisy = np.pad(render_face(1, seed=0, size=400).image, ((0, 600), (0, 600), (0, 0)))
    noisy[400:] = np.random.default_rng(0).integers(0, 256, noisy[400:].shape)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "WEBP", lossless=True)
    (tmp_path / "face.webp").write_bytes(file.getvalue())
    photo = Photo("folder/face.webp", "folder", "ann", "", str(tmp_path / "face.webp"))
    written = []
    for _ in range(2):  # The first time, files are loaded.
        times, usable = tool.stage_times(photo, config, written.append)
    assert usable and len(written) == 2 and written[1]["real"].shape == (64, 64, 3)
    assert all(times[column] > 0 for column in tool.COLUMNS)
    assert times["read"] > 0.3 * times.total()
    assert times["rest"] < 0.15 * times.total()


def test_rendered_faces_have_no_other_work_either(tool, config):
    photo = Photo("rendered/000001", "rendered", "", "", (1, 0))
    for _ in range(2):
        times, usable = tool.stage_times(photo, config, lambda record: None)
    assert usable and times["read"] > 0 and times["detect"] == 0
    assert times["rest"] < 0.2 * times.total()


def test_the_table(tool, faces, capsys):
    tool.main([f"--source=folder={faces}", "--source=rendered=3", "--count=9", "--config.data.size=64"])
    heading, _, folder, rendered = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()
    )
    assert heading == ["source", "faces / photos", *tool.COLUMNS, "photos / s"]
    assert folder[:2] == ["folder", "2 / 3"] and rendered[:2] == ["rendered", "3 / 3"]
    of_folder, of_rendered = (dict(zip(tool.COLUMNS, map(float, row[2:-1]), strict=True)) for row in (folder, rendered))
    assert of_rendered.pop("detect") == 0  # Their landmarks are known.
    assert all(times[stage] > 0 for times in (of_folder, of_rendered) for stage in tool.STAGES if stage in times)
    assert float(folder[-1]) > 0 and float(rendered[-1]) > 0


def test_memory(tool, capsys):
    tool.main(["--memory", "2", "--config.data.size=64"])
    _, _, row = (line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines())
    assert int(row[0]) == 2 and 50 < int(row[1]) < 5000


def test_a_build_that_fails(tool):
    with pytest.raises(UserError, match="the build failed; run it alone to see why: .*--colour=red"):
        tool.main(["--memory", "2", "--colour=red"])


@pytest.mark.parametrize("flags", [["--count=0"], ["--memory", "2", "0"]])
def test_nothing_to_measure(tool, flags):
    with pytest.raises(UserError, match="at least 1"):
        tool.main(flags)


def test_memory_is_that_of_rendered_faces(tool):
    with pytest.raises(UserError, match="leave out --source"):
        tool.main(["--memory", "2", "--source=folder=FACES"])


def test_a_source_without_photos(tool, tmp_path):
    (tmp_path / "faces.csv").write_text("file\nlost.png\n")
    with pytest.raises(UserError, match="no photo can be read from folder="):
        tool.main([f"--source=folder={tmp_path}"])
