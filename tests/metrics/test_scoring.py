import json

import cv2
import numpy as np
import pytest

from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.metrics.face_quality import FACE_METRICS, FacePair
from maskgan_jax.metrics.image_quality import masked_mse, psnr, psnr_masked, ssim
from maskgan_jax.metrics.scoring import score_folders, score_images
from maskgan_jax.metrics.set_quality import frechet_distance
from maskgan_jax.models.lpips import Convolution, PerceptualWeights, lpips
from maskgan_jax.models.st_lpips import alex_taps, load_st_lpips, st_lpips


def drawn(count, size=48):
    """`count` items: random blotches, the same with noise, and a rectangle that is hidden."""
    rng = np.random.default_rng(0)
    for k in range(count):
        real = cv2.GaussianBlur(rng.uniform(0, 255, (size, size, 3)), (0, 0), 3)
        real = cv2.normalize(real, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        prediction = np.clip(real + rng.normal(0, 5 + 5 * k, real.shape), 0, 255).astype(np.uint8)
        mask = np.zeros((size, size), np.uint8)
        mask[size // 2 :, 8 : 20 + k] = 255
        yield f"face{k}", prediction, real, mask


def test_values_and_means():
    items = list(drawn(5))
    scores = score_images(iter(items), batch_size=2)
    assert list(scores) == ["n", "mse_masked", "psnr", "psnr_masked", "ssim", "st_lpips", "frechet_st_alexnet", "images"]
    assert scores["n"] == 5 and json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert [image["name"] for image in scores["images"]] == [f"face{k}" for k in range(5)]
    for image, (_, prediction, real, mask) in zip(scores["images"], items, strict=True):
        one = prediction[None], real[None]
        network = [picture.astype(np.float32) / 127.5 - 1 for picture in one]
        assert image["mse_masked"] == pytest.approx(masked_mse(*one, mask[None] > 0)[0])
        assert image["psnr"] == pytest.approx(psnr(*one)[0])
        assert image["psnr_masked"] == pytest.approx(psnr_masked(*one, mask[None] > 0)[0])
        assert image["ssim"] == pytest.approx(ssim(*one)[0])
        assert image["st_lpips"] == pytest.approx(float(st_lpips(load_st_lpips(), *network)[0]), abs=1e-6)
    for key in ("mse_masked", "psnr", "psnr_masked", "ssim", "st_lpips"):
        assert scores[key] == pytest.approx(np.mean([image[key] for image in scores["images"]]))


def test_scores_of_the_set():
    items = list(drawn(5))
    features = []
    for pictures in zip(*((prediction, real) for _, prediction, real, _ in items), strict=True):
        taps = alex_taps(load_st_lpips().convolutions, np.stack(pictures).astype(np.float32) / 127.5 - 1)
        features.append(np.asarray(taps[-1]).mean((1, 2)))
    scores = score_images(iter(items), batch_size=2)
    assert scores["frechet_st_alexnet"] == pytest.approx(frechet_distance(*features), rel=1e-2)
    assert "frechet_st_alexnet" not in score_images(iter(items[:1]))


def test_the_batch_size_changes_nothing():
    one, many = (score_images(drawn(3), batch_size=size) for size in (1, 8))
    for a, b in zip(one["images"], many["images"], strict=True):
        assert {**a, "st_lpips": None} == {**b, "st_lpips": None}
        assert a["st_lpips"] == pytest.approx(b["st_lpips"], abs=1e-6)


def test_the_real_pictures_themselves():
    scores = score_images((name, real, real, mask[..., None]) for name, _, real, mask in drawn(2))
    assert scores["mse_masked"] == 0 and scores["psnr"] == scores["psnr_masked"] == 100
    assert scores["ssim"] == pytest.approx(1) and scores["st_lpips"] == pytest.approx(0, abs=1e-6)


def test_pictures_of_several_sizes():
    scores = score_images([*drawn(3), *drawn(2, size=40)], batch_size=2)
    assert scores["n"] == 5
    assert scores["images"][3]["mse_masked"] == score_images(drawn(1, size=40))["mse_masked"]


def test_pictures_are_not_all_held():
    """Each picture is asked for only when the batches before it are done."""
    taken = []

    def items():
        for item in drawn(6):
            taken.append(item[0])
            if len(taken) == 5:
                raise UserError("the fifth is broken")
            yield item

    with pytest.raises(UserError, match="fifth"):
        score_images(items(), batch_size=2)
    assert len(taken) == 5


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (("a", np.zeros((40, 40, 3), np.uint8), np.zeros((48, 48, 3), np.uint8), np.ones((48, 48), np.uint8)), "a: the sizes"),
        (("a", np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)), "a: its mask"),
        (("a", *[np.zeros((16, 16, 3), np.uint8)] * 2, np.full((16, 16), 255, np.uint8)), "a is smaller than 32"),
    ],
)
def test_bad_items(item, message):
    with pytest.raises(UserError, match=message):
        score_images([item])


def test_no_items():
    with pytest.raises(UserError, match="no images"):
        score_images([])


@pytest.fixture
def folders(tmp_path):
    """Folders of predictions, real pictures and masks, one file in a folder of its own."""
    paths = [tmp_path / name for name in ("pred", "real", "mask")]
    for name, *pictures in drawn(3):
        for folder, picture in zip(paths, pictures, strict=True):
            write_png(folder / ("deeper" if name == "face1" else "") / f"{name}.png", picture)
    return paths


def test_folders_as_pictures(folders):
    expected = score_images(drawn(3))
    scores = score_folders(*folders)
    assert {image["name"] for image in scores["images"]} == {"face0", "deeper/face1", "face2"}
    for key in ("n", "mse_masked", "psnr", "ssim", "st_lpips"):
        assert scores[key] == pytest.approx(expected[key])


def test_suffixes_may_differ(folders):
    (folders[0] / "face0.png").rename(folders[0] / "face0.bmp")
    assert score_folders(*folders)["n"] == 3


@pytest.mark.parametrize("which", [0, 1, 2])
def test_missing_files_are_named(folders, which):
    (folders[which] / "face2.png").unlink()
    with pytest.raises(UserError, match=rf"{folders[which]} lacks images .*: face2; "):
        score_folders(*folders)


def test_two_files_of_one_name(folders):
    (folders[1] / "face0.bmp").write_bytes((folders[1] / "face0.png").read_bytes())
    with pytest.raises(UserError, match=r"face0\.bmp and .*face0\.png have the same name"):
        score_folders(*folders)


def test_unreadable_file(folders):
    (folders[0] / "face2.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"face2\.png is not a readable picture"):
        score_folders(*folders)


def test_lpips_when_its_weights_are_given():
    rng = np.random.default_rng(0)
    shapes = [(11, 11, 3, 64), (5, 5, 64, 192), (3, 3, 192, 384), (3, 3, 384, 256), (3, 3, 256, 256)]
    weights = PerceptualWeights(
        [Convolution(rng.normal(0, 0.02, shape).astype(np.float32), np.zeros(shape[-1], np.float32)) for shape in shapes],
        [np.ones(shape[-1], np.float32) for shape in shapes],
    )
    scores = score_images(drawn(3), batch_size=2, lpips_weights=weights)
    assert list(scores)[-4:] == ["st_lpips", "lpips", "frechet_st_alexnet", "images"]
    for image, (_, prediction, real, _) in zip(scores["images"], drawn(3), strict=True):
        network = [picture[None].astype(np.float32) / 127.5 - 1 for picture in (prediction, real)]
        assert image["lpips"] == pytest.approx(float(lpips(weights, *network)[0]), rel=1e-5)


def test_more_metrics_when_they_are_asked_for():
    items = list(drawn(3))
    scores = score_images(items, batch_size=2, metrics=["seam", "detail"])
    assert list(scores)[5:8] == ["st_lpips", "seam", "detail"]
    for image, (_, prediction, real, mask) in zip(scores["images"], items, strict=True):
        assert image["seam"] == FACE_METRICS["seam"](FacePair(prediction, real, mask > 0))
    assert scores["seam"] == pytest.approx(np.mean([image["seam"] for image in scores["images"]]))
    with pytest.raises(UserError, match="there is no metric 'beauty'"):
        score_images(items, metrics=["beauty"])


def test_several_processes_give_the_same_scores_in_the_same_order():
    metrics = ["seam", "detail", "contour"]
    scores = [score_images(drawn(5), batch_size=2, metrics=metrics, workers=workers) for workers in (1, 2)]
    assert scores[0] == scores[1] and scores[0]["left_out"] == {"contour": 5}


def test_faces_that_are_not_found_are_left_out_of_the_means(data_dir):
    record = load_split(data_dir, "test")[0]
    face = ("face", record["masked"], record["real"], record["mask"], record["landmarks"])
    [(_, *blotches)] = drawn(1, size=len(record["real"]))
    scores = score_images([("blotches", *blotches), face], metrics=["contour", "seam"])
    assert [image["contour"] is None for image in scores["images"]] == [True, False]
    assert scores["contour"] == scores["images"][1]["contour"] and scores["left_out"] == {"contour": 1}
    assert scores["seam"] == pytest.approx(np.mean([image["seam"] for image in scores["images"]]))
    none = score_images([("blotches", *blotches)], metrics=["contour"])
    assert none["contour"] is None and none["left_out"] == {"contour": 1}
    assert json.loads(json.dumps(none, allow_nan=False)) == none
