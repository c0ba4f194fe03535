"""Which face mask is drawn, and where. What a fit leads to: test_draw.py, test_straps.py."""

import numpy as np

from maskgan_jax.data.masks import draw_mask, fit_mask
from maskgan_jax.data.masks.catalogue import MASKS
from maskgan_jax.errors import UserError


def test_weights_count(head, data_config):
    data_config.masks = {"n95": 0.0, "cloth": 1.0, "surgical": 3.0}
    data_config.mask_fit = "homography"
    types = [fit_mask(head, np.random.default_rng(seed), data_config, (256, 256)).mask_type for seed in range(400)]
    # Three standard deviations of the binomial.
    assert set(types) == {"cloth", "surgical"} and abs(types.count("surgical") - 300) < 26
    data_config.mask_below_nose = 0.25
    low = [fit_mask(head, np.random.default_rng(seed), data_config, (256, 256)).parameters["below_nose"] for seed in range(400)]
    assert abs(sum(low) - 100) < 26


def test_order_of_the_types_does_not_matter(head, data_config):
    fits = []
    for masks in ({"n95": 1.0, "cloth": 1.0}, {"cloth": 1.0, "n95": 1.0}):
        data_config.masks = masks
        fits.append([fit_mask(head, np.random.default_rng(seed), data_config, (256, 256)).mask_type for seed in range(20)])
    assert fits[0] == fits[1]


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
        failed += outcomes[0] not in MASKS
    assert 5 < failed < 55


def test_fit_is_the_beginning_of_the_drawing(paint, head, data_config):
    for seed in range(12):
        fit = fit_mask(head, np.random.default_rng(seed), data_config, (256, 256))
        drawn = draw_mask(paint(blur=0.6), head, np.random.default_rng(seed), data_config)
        assert fit.mask_type == drawn.mask_type
        assert fit.parameters.items() <= drawn.parameters.items()
        outside = drawn.mask.copy()
        outside[fit.window.slices] = False
        assert not outside.any()
