import json

import numpy as np
import pytest

from maskgan_jax.data.masks import check_masks, draw_mask, fit_mask
from maskgan_jax.errors import UserError

TYPES = ("surgical", "n95", "kn95", "cloth")


@pytest.mark.parametrize("mask_type", TYPES)
@pytest.mark.parametrize("size", [64, 256])
def test_only_the_region_changes(face, landmarks, data_config, mask_type, size):
    data_config.masks = {mask_type: 1.0}
    face, landmarks = np.ascontiguousarray(face[:size, :size]), (landmarks + 0.5) * size / 256 - 0.5
    for seed in range(4):
        untouched = face.copy()
        drawn = draw_mask(face, landmarks, np.random.default_rng(seed), data_config)
        np.testing.assert_array_equal(face, untouched)
        assert drawn.picture.shape == face.shape and drawn.picture.dtype == np.uint8
        assert drawn.alpha.shape == (size, size) and drawn.alpha.dtype == np.float32
        assert drawn.alpha.min() == 0 and drawn.alpha.max() == 1
        changed = (drawn.picture != face).any(axis=-1)
        assert not (changed & (drawn.alpha == 0)).any()
        # The mask is to be seen: nearly all of its pixels differ from the face.
        assert changed.sum() > 0.9 * (drawn.alpha > 0).sum()
        assert drawn.mask_type == mask_type == drawn.parameters["type"]
        json.dumps(drawn.parameters)


@pytest.mark.parametrize("mask_type", TYPES)
def test_nose_mouth_and_chin_are_covered(face, landmarks, data_config, mask_type):
    data_config.masks = {mask_type: 1.0}
    data_config.mask_shift = data_config.mask_rotation = data_config.mask_scale = 0.0
    # A jaw as round as a face's; six points cannot follow a pointed one.
    angle = np.linspace(np.pi, 0, 17)
    landmarks[:17] = np.stack([128 + 78 * np.cos(angle), 120 + 112 * np.sin(angle)], axis=1)
    alpha = draw_mask(face, landmarks, np.random.default_rng(0), data_config).alpha
    for index in (8, 30, *range(31, 36), *range(48, 68)):
        x, y = np.rint(landmarks[index]).astype(int)
        assert alpha[y, x] > 0.99, index
    for index in (*range(17, 28), *range(36, 48)):
        x, y = np.rint(landmarks[index]).astype(int)
        assert alpha[y, x] == 0, index
    # As much of the picture as real masks cover of an aligned face, within wide bounds.
    assert 0.1 < (alpha > 0).mean() < 0.3


def test_same_seed_same_bytes_whatever_ran_before(face, landmarks, data_config):
    def draw():
        return draw_mask(face, landmarks, np.random.default_rng((3, 5)), data_config)

    first = draw()
    for seed in range(6):
        draw_mask(face[::-1].copy(), landmarks * 0.9, np.random.default_rng(seed), data_config)
    second = draw()
    assert first.parameters == second.parameters
    assert first.picture.tobytes() == second.picture.tobytes() and first.alpha.tobytes() == second.alpha.tobytes()


def test_seeds_differ_and_weights_count(face, landmarks, data_config):
    data_config.masks = {"n95": 0.0, "cloth": 1.0, "surgical": 3.0}
    drawn = [draw_mask(face, landmarks, np.random.default_rng(seed), data_config) for seed in range(80)]
    types = [one.mask_type for one in drawn]
    assert set(types) == {"cloth", "surgical"} and 45 <= types.count("surgical") <= 75
    assert len({one.picture.tobytes() for one in drawn}) == 80


def test_light_comes_from_the_bright_side(face, landmarks, data_config):
    data_config.masks = {"n95": 1.0}
    for sign in (1, -1):
        lit = (face * (1 + sign * np.linspace(-0.5, 0.3, 256))[None, :, None].clip(0.4, 1.3)).clip(0, 255).astype(np.uint8)
        if sign < 0:
            lit = np.ascontiguousarray(lit[:, ::-1][:, ::-1])
        drawn = draw_mask(lit, landmarks, np.random.default_rng(1), data_config)
        left, right = drawn.picture[170:200, 70:100], drawn.picture[170:200, 156:186]
        assert np.sign(float(right.mean()) - float(left.mean())) == sign


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": {"balaclava": 1.0}}, "data.masks.*balaclava"),
        ({"masks": {"surgical": 0.0}}, "data.masks"),
        ({"masks": {"surgical": -1.0}}, "data.masks.surgical: the weight must be at least 0, not -1.0"),
        ({"masks": {"surgical": "much"}}, "data.masks.surgical: .*not a str"),
        ({"masks": {"n95": True}}, "data.masks.n95: .*not a bool"),
        ({"masks": {"n95": float("nan")}}, "data.masks.n95: .*not nan"),
        ({"masks": {"n95": {"white": 1.0}}}, "data.masks.n95: .*not a ConfigDict"),
        ({"masks": {}}, "data.masks"),
        ({"masks": {"template": 1.0}}, "data.mask_templates"),
        ({"masks": {"template": 1.0}, "mask_templates": "/nowhere"}, "data.mask_templates: cannot read /nowhere/masks.cfg"),
    ],
)
def test_wrong_settings(face, landmarks, data_config, settings, message):
    for name, value in settings.items():
        data_config[name] = value
    with pytest.raises(UserError, match=message):
        check_masks(data_config)
    with pytest.raises(UserError, match=message):
        draw_mask(face, landmarks, np.random.default_rng(0), data_config)


def test_the_fit_fails_where_drawing_would(face, landmarks, data_config):
    rng = np.random.default_rng(1)
    failed = 0
    for seed in range(60):
        points = landmarks + rng.normal(0, 8, landmarks.shape)
        outcomes = []
        for attempt in (
            lambda rng, at: fit_mask(at, rng, data_config, (256, 256)).mask_type,
            lambda rng, at: draw_mask(face, at, rng, data_config).mask_type,
        ):
            try:
                outcomes.append(attempt(np.random.default_rng(seed), points))
            except UserError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]
        failed += outcomes[0] not in TYPES
    assert 5 < failed < 55


def test_landmarks_of_another_picture(face, landmarks, data_config):
    with pytest.raises(UserError, match="outside the picture"):
        draw_mask(face, landmarks + 1000, np.random.default_rng(0), data_config)
