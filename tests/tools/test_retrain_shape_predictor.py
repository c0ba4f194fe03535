import json
from pathlib import Path

import dlib
import numpy as np
import pytest

from maskgan_jax.configs.default import splits
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError

TINY = ["--cascade_depth=4", "--num_trees_per_cascade_level=30", "--oversampling_amount=4", "--threads=1"]


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("retrain_shape_predictor")


@pytest.fixture(scope="module")
def faces(tmp_path_factory, make_config):
    """A data set at 128 px, where dlib's detector finds rendered faces: 12 to train on, 4 for testing."""
    folder = tmp_path_factory.mktemp("faces")
    config = make_config()
    config.data.size = 128
    config.data.splits = splits(train={"*": 12}, test={"*": 4})
    build_data_set(["rendered=16"], config, folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def predictor(tool, faces, tmp_path_factory):
    """A predictor of a tiny training; its errors on the test split are beside it."""
    out = tmp_path_factory.mktemp("predictor") / "retrained.dat"
    tool.main([f"--data_dir={faces}", f"--out={out}", *TINY])
    return out


def test_it_learns_masked_faces(tool, faces, predictor):
    errors = tool.compare(load_split(faces, "train"), {"stock": "", "retrained": str(predictor)})
    rows = errors["box of the unmasked face"]
    assert rows["masked"]["faces"] == 12
    for points in ("error", "contour"):
        assert rows["masked"]["retrained"][points] < 0.5 * rows["masked"]["stock"][points]


def test_the_file_can_be_used(predictor):
    face = render_face(4, seed=0, size=320)
    found = largest_face_landmarks(face.image, str(predictor))
    eyes = np.hypot(*(face.landmarks[36:42].mean(axis=0) - face.landmarks[42:48].mean(axis=0)))
    assert np.hypot(*(found - face.landmarks).T).mean() / eyes < 0.3


def test_errors_are_those_of_the_definition(tool, faces, monkeypatch):
    """All points 3 pixels off: 3 over the inter-ocular distance."""
    records = load_split(faces, "test")
    records = [records[i] for i in range(len(records))]
    truth = {record[key].tobytes(): record["landmarks"] for record in records for key in ("real", "masked")}
    monkeypatch.setattr(tool, "LARGEST_TURN", 0)  # The pictures must stay those.
    monkeypatch.setattr(tool, "landmarks_in_box", lambda picture, box, file: truth[picture.tobytes()] + [0, float(file)])
    errors = tool.compare(records, {"right": "0", "off": "3"})
    eyes = [np.hypot(*(r["landmarks"][36:42].mean(axis=0) - r["landmarks"][42:48].mean(axis=0))) for r in records]
    rows = errors["box of the unmasked face"]
    for row in ("unmasked", "masked"):
        assert rows[row]["faces"] == 4
        assert rows[row]["right"] == {"error": 0, "contour": 0}
        assert rows[row]["off"]["error"] == pytest.approx(np.mean(3 / np.array(eyes)), rel=1e-5)
    types = {record["mask_type"] for record in records}
    assert set(rows) == {"unmasked", "masked", *types}
    assert sum(rows[name]["faces"] for name in types) == 4


def test_tables_are_written(predictor, tool, faces, monkeypatch, capsys):
    """And a predictor that is there is not trained again."""
    before = predictor.stat().st_mtime_ns
    tool.main([f"--data_dir={faces}", f"--out={predictor}"])
    assert predictor.stat().st_mtime_ns == before
    errors = json.loads(Path(f"{predictor}.json").read_text())
    printed = capsys.readouterr().out
    assert "is not trained again" in printed
    assert (
        "| box of the unmasked face | faces | stock, all 68 | stock, contour | retrained, all 68 | retrained, contour |"
        in printed
    )
    values = errors["box of the unmasked face"]["masked"]
    cells = (values[name][points] for name in ("stock", "retrained") for points in ("error", "contour"))
    assert f"| masked | {values['faces']} | {' | '.join(f'{cell:.4f}' for cell in cells)} |" in printed


def test_the_same_seed_gives_the_same_file(tool, faces, predictor, tmp_path, monkeypatch):
    again = tmp_path / "again.dat"
    tool.main([f"--data_dir={faces}", f"--out={again}", *TINY])
    assert again.read_bytes() == predictor.read_bytes()


def test_bad_requests(tool, faces, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no data set"):
        tool.main([f"--data_dir={tmp_path}", f"--out={tmp_path / 'new.dat'}"])
    with pytest.raises(UserError, match="dlib cannot train with these options .*Failing expression was depth > 0"):
        tool.main([f"--data_dir={faces}", f"--out={tmp_path / 'new.dat'}", *TINY, "--cascade_depth=0"])
    for wrong in ("--threads=0", "--seed=-1", "--cascade_depth=-1"):
        with pytest.raises(UserError, match="--threads must be at least 1, and all other numbers at least 0"):
            tool.main([f"--data_dir={faces}", f"--out={tmp_path / 'new.dat'}", wrong])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        tool.main([f"--data_dir={faces}", f"--out={tmp_path / 'file' / 'new.dat'}"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "broken.dat").write_bytes(b"no predictor")
    with pytest.raises(UserError, match="cannot load the shape predictor"):
        tool.main([f"--data_dir={faces}", f"--out={tmp_path / 'broken.dat'}"])


def test_a_test_split_that_is_missing_is_told_before_the_training(tool, faces, tmp_path, monkeypatch):
    def load(data_dir, split):
        if split == "test":
            raise UserError("no split 'test'")

    monkeypatch.setattr(tool, "load_split", load)
    monkeypatch.setattr(tool, "train", None)
    with pytest.raises(UserError, match="no split 'test'"):
        tool.main([f"--data_dir={faces}", f"--out={tmp_path / 'new.dat'}"])


def test_no_face_is_found(tool, faces, predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "find_box", lambda picture: None)
    with pytest.raises(UserError, match="finds no face in the training split"):
        tool.main([f"--data_dir={faces}", f"--out={tmp_path / 'new.dat'}"])
    with pytest.raises(UserError, match="finds no face in the test split"):
        tool.main([f"--data_dir={faces}", f"--out={predictor}"])


def test_turned_pictures(tool):
    """The landmarks turn with the picture: a dot on each stays there."""
    landmarks = np.float32([[40, 50], [70, 60], [60, 90]])
    picture = np.zeros((128, 128, 3), np.uint8)
    for x, y in landmarks.astype(int):
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
    turned, points = tool._turned(picture, landmarks, dlib.rectangle(20, 20, 107, 107), 25.0)
    assert np.hypot(*(points - landmarks).T).min() > 3
    for x, y in np.rint(points).astype(int):
        assert turned[y, x].min() > 200
    np.testing.assert_allclose(np.hypot(*(points[0] - points[1])), np.hypot(*(landmarks[0] - landmarks[1])), rtol=1e-5)
