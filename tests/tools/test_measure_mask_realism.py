import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskgan_jax.data.align import align
from maskgan_jax.data.grid import HEADING
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_png


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("measure_mask_realism")


def masked_faces(tool, kind, count, blur, seed):
    """Faces whose patches are noise, `blur` pixels soft and of the same contrast."""
    rng = np.random.default_rng(seed)
    faces = []
    for number in range(count):
        noise = cv2.GaussianBlur(rng.normal(size=(tool.SIZE, tool.SIZE, 3)), (0, 0), blur)
        picture = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
        patches = {kind: np.stack([picture[:32, :32], picture[64:96, 64:96]]) for kind in tool.KINDS}
        region = np.zeros((tool.SIZE, tool.SIZE), bool)
        faces.append(tool.MaskedFace(f"{kind}{number}", f"{kind}{number}", kind, picture, region, patches))
    return faces


def test_alike_are_not_told_apart_and_different_ones_are(tool, monkeypatch, capsys):
    monkeypatch.setattr(tool, "KINDS", ("inside", "rim"))  # The same patches each: what is done with a third kind is the same.
    real = masked_faces(tool, "real", 25, 2.0, 0)
    alike, probabilities = tool.measure(real, masked_faces(tool, "cloth", 25, 2.0, 1), seed=0)
    different, _ = tool.measure(real, masked_faces(tool, "cloth", 25, 1.0, 2), seed=0)
    for kind in tool.KINDS:
        assert 0.3 < alike[kind]["colour"]["accuracy"] < 0.7
        assert 0.3 < different[kind]["chance"]["accuracy"] < 0.7
        assert different[kind]["colour"]["accuracy"] > 0.9
        assert different[kind]["texture"]["accuracy"] > 0.9
        assert different["probability_of_drawn"][kind]["cloth"] > 0.8 > 0.2 > different["probability_of_drawn"][kind]["real"]
        assert probabilities[kind].shape == (100,)
    json.dumps(different)
    tool.print_table(different)
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in capsys.readouterr().out.splitlines()}
    for kind in tool.KINDS:
        for look, row in different[kind].items():
            numbers = [row[name] for name in ("accuracy", "error")]
            printed = [float(cell) for cell in rows[kind, look] if cell != "+-"]
            assert printed == pytest.approx(numbers, abs=6e-4)
    inside, rim = (different["probability_of_drawn"][kind]["cloth"] for kind in ("inside", "rim"))
    assert rows["cloth", f"{inside:.3f}"] == [f"{rim:.3f}"]


def test_extremes_without_some_patches(tool):
    real, drawn = masked_faces(tool, "real", 3, 2.0, 0), masked_faces(tool, "cloth", 2, 2.0, 1)
    real[0].patches["rim"] = real[0].patches["rim"][:0]
    faces = [*real, *drawn]
    probabilities = {kind: np.linspace(0, 1, len(tool.patches_of(faces, kind)[0])) for kind in tool.KINDS}
    rows = np.split(tool.extremes(faces, probabilities)[HEADING:], 4)
    for row, expected in zip(rows, (drawn[::-1], drawn, real, real[::-1]), strict=True):
        cells = np.split(row[HEADING:], 10, axis=1)  # Without the dots: there is no mask.
        np.testing.assert_array_equal([cell for cell in cells if (cell < 255).any()], [face.image for face in expected])


def test_no_group_is_in_two_folds(tool):
    rng = np.random.default_rng(0)
    groups = np.concatenate([rng.integers(0, 23, 300), rng.integers(23, 60, 300)])
    labels = groups >= 23
    fold = tool.folds(labels, groups, rng)
    assert all(len(np.unique(fold[groups == group])) == 1 for group in np.unique(groups))
    for label in (False, True):
        sizes = [len(np.unique(groups[(fold == number) & (labels == label)])) for number in range(tool.FOLDS)]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0


def test_patches_are_judged_by_a_classifier_that_never_saw_their_group(tool):
    # Each group has a feature of its own that tells its label: who saw the group would be right always.
    groups = np.repeat(np.arange(40), 5)
    labels = groups % 2 == 0
    probabilities = tool.cross_validate(np.eye(40)[groups], labels, groups, np.random.default_rng(0))
    assert probabilities.shape == (tool.REPEATS, 200)
    assert np.abs(tool.scores(probabilities, labels, groups)["accuracy"] - 0.5) < 0.15


def test_scores_against_counting(tool):
    rng = np.random.default_rng(0)
    photos = np.repeat(np.arange(20), 4)
    labels = photos >= 14
    row = np.round(np.clip(rng.random(80) + 0.2 * labels, 0, 1), 2)
    scores = tool.scores(row[None], labels, photos)
    assert scores["accuracy"] == pytest.approx((np.mean(row[labels] > 0.5) + np.mean(row[~labels] <= 0.5)) / 2)
    correct = np.array([((row > 0.5) == labels)[photos == photo].mean() for photo in range(20)])
    assert scores["error"] == pytest.approx(np.sqrt(correct[14:].var() / 6 + correct[:14].var() / 14) / 2)
    assert tool.scores(labels[None] * 1.0, labels, photos) == {"accuracy": 1, "error": 0}


def test_logistic_regression_weighs_labels_alike(tool):
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.2
    seen = rng.normal(size=(300, 3)) + labels[:, None]
    chance = tool.logistic_regression(seen, labels, seen)
    # What it comes to where the gradient of the offset is 0.
    assert chance[labels].mean() + chance[~labels].mean() == pytest.approx(1, abs=1e-3)
    assert np.mean((chance > 0.5) == labels) > 0.7


@pytest.fixture(scope="module")
def face_with_mask():
    """A rendered face at 128 px with its lower half painted blue, its landmarks, and where the paint is."""
    face = render_face(0, 0)
    aligned = align(face.image, face.landmarks, 128)
    picture, landmarks = aligned.image, aligned.landmarks
    paint = cv2.fillPoly(np.zeros((128, 128), np.uint8), [np.rint(landmarks[[*range(2, 15), 29]]).astype(np.int32)], 1) > 0
    picture[paint] = [60, 120, 200]
    return picture, landmarks, paint


def test_the_mask_is_found(tool, face_with_mask):
    picture, landmarks, paint = face_with_mask
    mask, edge = tool.find_mask(picture, landmarks)
    assert (mask & paint).sum() > 0.9 * (mask | paint).sum()
    assert edge.any() and not (edge & ~mask).any()
    with pytest.raises(UserError, match="landmarks"):
        tool.find_mask(picture, landmarks - 500)


def test_patches_lie_where_they_should(tool, face_with_mask):
    _, landmarks, _ = face_with_mask
    region = np.zeros((128, 128), bool)
    region[66:120, 30:100] = True
    edge = region.copy()
    edge[67:, 31:99] = False
    marked = np.stack([region, region, np.zeros_like(region)], axis=-1).astype(np.uint8)
    patches = tool.cut_patches(marked, region, edge, np.ones_like(region), landmarks, np.random.default_rng(0))
    assert all(cut.shape == (tool.PATCHES, 32, 32, 3) for cut in patches.values())
    assert patches["inside"][..., 0].all() and not patches["skin"].any()
    assert all(0.2 < patch[..., 0].mean() < 0.8 for patch in patches["rim"])
    hidden = tool.cut_patches(marked, region, edge, np.zeros_like(region), landmarks, np.random.default_rng(0))
    assert not any(map(len, hidden.values()))


def test_texture_is_grey_and_of_one_brightness(tool):
    patches = np.random.default_rng(0).integers(60, 160, (5, 32, 32, 3)).astype(np.uint8)
    grey = tool.texture(patches)
    assert np.ptp(grey, axis=-1).max() == 0
    np.testing.assert_allclose(grey.mean(axis=(1, 2, 3)), 128, atol=1e-3)


def test_copies_of_a_photo_are_one_group(tool):
    faces = masked_faces(tool, "real", 3, 4.0, 0)
    assert [face.group for face in tool._grouped([*faces, faces[1]])] == ["real0", "real1", "real2", "real1"]


def test_near_copies_of_near_copies_are_one_group_too(tool):
    """The second is like the first and the third, which are less like each other."""
    first, third = (face.image.astype(np.float32) for face in masked_faces(tool, "real", 2, 4.0, 0))
    third = first + 0.6 * (third - 128)
    images = [first, (first + third) / 2, third]
    tops = np.corrcoef([cv2.resize(i[16:64].mean(axis=-1), (20, 12), interpolation=cv2.INTER_AREA).ravel() for i in images])
    assert tops[0, 2] < tool.SAME < min(tops[0, 1], tops[1, 2])
    faces = masked_faces(tool, "real", 3, 4.0, 0)
    chain = [dataclasses.replace(face, image=image) for face, image in zip(faces, images, strict=True)]
    for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2]):
        assert len({face.group for face in tool._grouped([chain[i] for i in order])}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--faces=4"], "--faces=4"),
        (["--seed=-1"], "a seed of 0 or more"),
        (["--config.data.masks={'wool': 1.0}"], "wool"),
        (["--real=nowhere"], "nowhere is not a folder"),
        ([], "only 0 of the photos"),
        (["--colour=red"], "unknown argument"),
        (["--out=/proc/out.json"], "cannot write /proc/out.json"),
    ],
)
def test_bad_input(tool, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "photos" / "grey.png", np.full((64, 64, 3), 128, np.uint8))
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"")
    required = ["--real=photos", "--source=rendered=5", "--out=out.json"]
    with pytest.raises(UserError, match=message):
        tool.main([*required, *arguments])
    assert not (tmp_path / "out.json").exists()


def test_too_few_patches_of_a_kind(tool):
    with pytest.raises(UserError, match="of the real masks show enough"):
        tool.measure(masked_faces(tool, "real", 9, 2.0, 0), masked_faces(tool, "cloth", 12, 2.0, 1), seed=0)


@pytest.mark.skipif(
    not Path(os.environ.get("MASKGAN_FACES", "nowhere"), "real_masked").is_dir(),
    reason="MASKGAN_FACES names no folder of real faces with a folder real_masked",
)
def test_real_faces(tool, tmp_path, capsys):
    faces = Path(os.environ["MASKGAN_FACES"])
    (tmp_path / "real").mkdir()
    for path in sorted((faces / "real_masked").iterdir())[:24]:
        (tmp_path / "real" / path.name).symlink_to(path)
    out, pictures = tmp_path / "out.json", tmp_path / "out.png"
    tool.main(
        [f"--real={tmp_path / 'real'}", f"--source=folder={faces}", "--faces=24", f"--out={out}", f"--pictures={pictures}"]
    )
    result = json.loads(out.read_text())
    assert result["real"] + len(result["real_left_out"]) == 24
    assert result["drawn"] + len(result["drawn_left_out"]) == 24
    assert result["real"] > 18 and result["drawn"] >= 8
    assert 0.25 < result["skin"]["colour"]["accuracy"] < 0.75  # There is no mask to be seen.
    assert str(out) in capsys.readouterr().out
    assert read_image(pictures).shape[1] == 10 * tool.SIZE
