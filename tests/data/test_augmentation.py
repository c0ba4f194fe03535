import io

import cv2
import numpy as np
import pytest
from PIL import Image

from maskgan_jax.data.augmentation import change_both, degrade, vary_light, vary_mask
from maskgan_jax.data.points import eyes
from maskgan_jax.data.rendered.faces import render_face

SIDE = 128


@pytest.fixture(scope="module")
def record():
    """A rendered face with a rectangle over its mouth."""
    face = render_face(3, seed=0)
    scale = SIDE / len(face.image)
    real = cv2.resize(face.image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    landmarks = ((face.landmarks + 0.5) * scale - 0.5).astype(np.float32)
    x, y = landmarks[48:60].mean(0).astype(int)
    mask = np.zeros((SIDE, SIDE, 1), np.uint8)
    mask[y - 16 : y + 16, x - 24 : x + 24] = 255
    masked = np.where(mask > 0, np.uint8(90), real)
    return {"real": real, "masked": masked, "mask": mask, "landmarks": landmarks}


def variants(record, count=200):
    return [vary_mask(record, np.random.default_rng(seed)) for seed in range(count)]


def test_another_region_hides_a_part_of_the_real_image(record):
    for varied in variants(record, 20):
        assert varied["masked"] is record["real"] and varied["real"] is record["real"]
        assert varied["mask"].shape == (SIDE, SIDE, 1) and varied["mask"].dtype == np.uint8
        assert set(np.unique(varied["mask"])) == {0, 255}


def test_regions_do_not_tell_where_the_drawn_one_was(record):
    masks = np.stack([varied["mask"][..., 0] > 0 for varied in variants(record)])
    drawn = record["mask"][..., 0] > 0
    overlap = (masks & drawn).sum((1, 2)) / (masks | drawn).sum((1, 2))
    assert np.mean(overlap > 0.95) < 0.1 and 0.2 < np.median(overlap) < 0.9
    # Its lower edge is where some end, some end above and some below.
    bottoms = np.array([np.flatnonzero(mask.any(1)).max() for mask in masks])
    bottom = np.flatnonzero(drawn.any(1)).max()
    assert 0.15 < np.mean(bottoms < bottom) < 0.85


def test_eyes_are_never_hidden(record):
    seen = eyes(record["landmarks"], (SIDE, SIDE)) > 0
    assert 50 < seen.sum() < 0.1 * SIDE**2
    for eye in (slice(36, 42), slice(42, 48)):
        x, y = record["landmarks"][eye].mean(0).round().astype(int)
        assert seen[y, x]
    for varied in variants(record):
        assert not (varied["mask"][..., 0] > 0)[seen].any()


def test_a_region_that_left_the_image_is_the_drawn_one(record):
    corner = {**record, "mask": np.zeros((SIDE, SIDE, 1), np.uint8)}
    corner["mask"][:2, :2] = 255
    assert all(varied["mask"].any() for varied in variants(corner, 100))


@pytest.mark.parametrize("change", [lambda r, g: vary_light(r, 0.2, g), degrade])
def test_both_images_change_alike_and_the_rest_does_not(record, change):
    same = {**record, "masked": record["real"]}
    changed = [change(record, np.random.default_rng(seed)) for seed in range(12)]
    for seed, after in enumerate(changed):
        assert after["mask"] is record["mask"] and after["landmarks"] is record["landmarks"]
        assert after["real"].shape == record["real"].shape and after["real"].dtype == np.uint8
        assert np.any(after["real"] != record["real"])
        # Not too much: the face is still there.
        assert np.corrcoef(after["real"].ravel(), record["real"].ravel())[0, 1] > 0.9
        alike = change(same, np.random.default_rng(seed))
        assert alike["masked"] is alike["real"]
        np.testing.assert_array_equal(alike["real"], after["real"])
        # Far from the mask, where neither blur nor compression carries anything over.
        np.testing.assert_array_equal(after["masked"][:16, :16], after["real"][:16, :16])
    assert len({after["real"].tobytes() for after in changed}) == 12


def test_light_by_its_formula(record):
    rng = np.random.default_rng(5)
    after = vary_light(record, 0.2, np.random.default_rng(5))
    gamma, contrast = rng.uniform(0.8, 1.2, 2)
    gains = rng.uniform(0.8, 1.2) * rng.uniform(1 - 0.2 / 3, 1 + 0.2 / 3, 3)
    expected = 255 * (0.5 + contrast * ((record["real"] / 255) ** gamma * gains - 0.5))
    np.testing.assert_allclose(after["real"], np.clip(expected, 0, 255), atol=0.51)


def test_one_image_is_changed_once(record):
    calls = []

    def change(image):
        calls.append(image)
        return image + 1

    change_both({**record, "masked": record["real"]}, change)
    assert len(calls) == 1
    change_both(record, change)
    assert len(calls) == 3


def test_compression_loses_the_colours_that_an_encoder_of_rgb_loses(record):
    """Against Pillow's encoder, on patches of all colours."""
    patches = np.random.default_rng(0).integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
    patches = cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    compressed = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        if rng.choice(["blur", "noise", "JPEG"]) != "JPEG":
            continue
        file = io.BytesIO()
        Image.fromarray(patches).save(file, "JPEG", quality=int(rng.integers(35, 90)))
        expected = np.array(Image.open(file)).astype(int)
        worse = degrade({**record, "real": patches}, np.random.default_rng(seed))["real"]
        assert np.abs(worse - expected).mean() < 0.5
        compressed += 1
    assert compressed > 2
