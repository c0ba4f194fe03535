import numpy as np
import pytest

from maskgan_jax.data import occluders
from maskgan_jax.data.occluders import FaceView, glasses, hand, occlude, strands, thing
from maskgan_jax.data.rendered.faces import render_face

SIDE = 96


@pytest.fixture(scope="module")
def record():
    face = render_face(3, 0, SIDE)
    mask = np.zeros((SIDE, SIDE, 1), np.uint8)
    mask[50:90, 25:70] = 255
    masked = np.where(mask > 0, np.uint8([90, 160, 210]), face.image)
    return {"real": face.image, "masked": masked, "mask": mask, "landmarks": face.landmarks.astype(np.float32)}


def test_both_images_show_the_same_in_front(record):
    for seed in range(8):
        result = occlude(record, np.random.default_rng(seed))
        taken = (record["mask"] > 0) & (result["mask"] == 0)
        assert not ((result["mask"] > 0) & (record["mask"] == 0)).any()  # Nothing is hidden that was not.
        if taken.any():  # There, less than a quarter is left of the difference between mask and skin.
            before = np.abs(record["real"].astype(int) - record["masked"])[taken[..., 0]]
            after = np.abs(result["real"].astype(int) - result["masked"])[taken[..., 0]]
            assert (after <= 0.3 * before + 2).mean() > 0.99
        assert result["landmarks"] is record["landmarks"]


def test_most_records_lose_some_of_their_mask(record):
    lost = [
        1 - (occlude(record, np.random.default_rng(seed))["mask"] > 0).sum() / (record["mask"] > 0).sum() for seed in range(40)
    ]
    assert 0.5 < np.mean(np.array(lost) > 0.02)
    assert max(lost) < 1


def test_a_seed_gives_the_same_again(record):
    one, other = (occlude(record, np.random.default_rng(5)) for _ in range(2))
    for name in ("real", "masked", "mask"):
        np.testing.assert_array_equal(one[name], other[name])


def test_a_record_without_a_mask_stays_one_image(record):
    """With another mask in place of the drawn one, `masked` is `real`: it is drawn on once."""
    result = occlude({**record, "masked": record["real"]}, np.random.default_rng(0))
    assert result["masked"] is result["real"]


def test_a_mask_that_would_vanish_stays(record, monkeypatch):
    everywhere = occluders.Layer(np.ones((SIDE, SIDE), np.float32), np.zeros(3, np.float32), np.zeros((SIDE, SIDE), np.float32))
    monkeypatch.setattr(occluders, "OCCLUDERS", ((lambda face, rng: [everywhere], 0.5),) * 2)
    assert occlude(record, np.random.default_rng(0)) is record


@pytest.mark.parametrize("draw", [hand, thing, strands, glasses])
def test_layers_are_in_range(record, draw):
    landmarks = record["landmarks"]
    canvas = FaceView(record["real"] / np.float32(255), landmarks, float(np.hypot(*(landmarks[16] - landmarks[0]))), SIDE)
    areas = []
    for seed in range(10):
        layers = draw(canvas, np.random.default_rng(seed))
        for layer in layers:
            assert layer.alpha.shape == layer.relief.shape == (SIDE, SIDE)
            assert layer.alpha.min() >= 0 and layer.alpha.max() <= 1
            assert np.min(layer.albedo) >= 0 and np.max(layer.albedo) <= 1
        areas.append(np.max([layer.alpha for layer in layers], axis=0).mean())
    assert 0.01 < np.median(areas) < 0.6
