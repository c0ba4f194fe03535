import numpy as np
import pytest

from maskgan_jax.config import load_config
from maskgan_jax.configs import _mask_sets
from maskgan_jax.configs.default import get_config
from maskgan_jax.data.masks import check_masks, fit_mask
from maskgan_jax.data.masks.catalogue import MASKS
from maskgan_jax.data.masks.draw import draw_mask
from maskgan_jax.data.masks.patterns import PATTERNS
from maskgan_jax.errors import UserError

NAMES = ("PAPER", "VARIED", "SEEN", "UNSEEN")


def chosen(weights):
    return {name for name, weight in weights.items() if weight}


@pytest.mark.parametrize("name", NAMES)
def test_sets_draw_what_they_name(head, paint, data_config, name):
    values = getattr(_mask_sets, name)
    for setting, value in values.items():
        data_config[setting] = value
    check_masks(data_config)
    assert set(values["masks"]) == {*MASKS, "template"} and set(values["mask_patterns"]) == set(PATTERNS)
    types = {fit_mask(head, np.random.default_rng(seed), data_config, (256, 256)).mask_type for seed in range(150)}
    assert types == chosen(values["masks"])
    data_config.mask_fit = "homography"
    data_config.masks = {name: weight for name, weight in values["masks"].items() if name in MASKS and MASKS[name].has_patterns}
    face, landmarks = paint(64, blur=0.8), (head + 0.5) / 4 - 0.5
    patterns = {
        draw_mask(face, landmarks, np.random.default_rng(seed), data_config).parameters["pattern"] for seed in range(60)
    }
    assert patterns == chosen(values["mask_patterns"])


def test_seen_and_unseen_share_nothing_but_the_cloth_mask():
    assert chosen(_mask_sets.SEEN["masks"]) & chosen(_mask_sets.UNSEEN["masks"]) == {"cloth"}
    assert not chosen(_mask_sets.SEEN["mask_patterns"]) & chosen(_mask_sets.UNSEEN["mask_patterns"])
    for setting in ("masks", "mask_patterns"):
        assert chosen(_mask_sets.SEEN[setting]) | chosen(_mask_sets.UNSEEN[setting]) == chosen(_mask_sets.VARIED[setting])


def test_the_papers_set_and_unseen_share_two_types_and_no_pattern():
    """As configs/experiment_unseen.py and docs/results.md say."""
    assert chosen(_mask_sets.PAPER["masks"]) & chosen(_mask_sets.UNSEEN["masks"]) == {"n95", "cloth"}
    assert not chosen(_mask_sets.PAPER["mask_patterns"]) & chosen(_mask_sets.UNSEEN["mask_patterns"])


def test_default_is_varied():
    data = get_config().data
    assert data.masks.to_dict() == _mask_sets.VARIED["masks"]
    assert data.mask_patterns.to_dict() == _mask_sets.VARIED["mask_patterns"]
    assert data.mask_fit == _mask_sets.VARIED["mask_fit"]


def test_sets_in_a_config_file(tmp_path):
    file = tmp_path / "unseen.py"
    file.write_text(
        "from maskgan_jax.configs import default, _mask_sets\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    config.data.update(_mask_sets.UNSEEN)\n"
        "    return config\n"
    )
    config = load_config(file)
    assert config.data.masks.to_dict() == _mask_sets.UNSEEN["masks"]
    assert config.data.mask_patterns.to_dict() == _mask_sets.UNSEEN["mask_patterns"]


@pytest.mark.parametrize(
    "override",
    [
        "mask_fit=spline",
        "mask_shift=-0.1",
        "mask_shift=0.6",
        "mask_rotation=91",
        "mask_rotation=nan",
        "mask_scale=0.7",
        "mask_scale=-0.1",
        "mask_height=0.6",
        "mask_looseness=1.5",
        "mask_looseness=-0.5",
        "mask_below_nose=1.01",
        "mask_below_nose=nan",
        "mask_below_nose=often",
    ],
)
def test_settings_out_of_range(override):
    with pytest.raises(UserError, match=f"data.{override.split('=')[0]}"):
        load_config("default", [f"--config.data.{override}"])


@pytest.mark.parametrize("override", ["mask_fit=homography", "mask_looseness=0", "mask_below_nose=1", "mask_height=0.5"])
def test_settings_in_range(override):
    setting, value = override.split("=")
    assert str(load_config("default", [f"--config.data.{override}"]).data[setting]) in (value, f"{value}.0")


def test_masks_on_the_command_line():
    config = load_config("default", ['--config.data.masks={"n95": 1.0}', '--config.data.mask_patterns={"dots": 1}'])
    assert config.data.masks.to_dict() == {"n95": 1.0} and config.data.mask_patterns.to_dict() == {"dots": 1}
    check_masks(config.data)
