import json

import numpy as np
import pytest

from maskgan_jax.config import read_config, read_digests, save_config
from maskgan_jax.errors import UserError
from maskgan_jax.training.landmark_regression import LandmarkRegression
from maskgan_jax.training.resuming import MAY_CHANGE, MAY_CHANGE_WITH_NOTICE, check, digest_tree, with_data_of, write_config

DIGESTS = {"data": "1" * 64, "landmark_net": "2" * 64}


class UnmaskTask:
    """As much of a task as is looked at."""

    sections = ("generator", "discriminator", "losses")


@pytest.fixture
def workdir(config, tmp_path):
    """The folder of a run that was begun with `config` and `DIGESTS`."""
    save_config(tmp_path / "config.json", config, DIGESTS)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    return tmp_path


def test_nothing_to_go_on_from(config, tmp_path):
    save_config(tmp_path / "config.json", config, DIGESTS)
    config.generator.width = 64
    assert check(config, UnmaskTask, {"data": "another"}, tmp_path) == []


def test_what_changes_no_result(config, workdir):
    config.training.update(log_every=7, keep=9, fsdp=2, minutes=3.0, profile=(1, 2))
    config.input.update(threads=3, prefetch=5)
    assert check(config, UnmaskTask, DIGESTS, workdir) == []


def test_what_changes_what_is_learnt_is_told(config, workdir):
    config.training.update(epochs=7.5, compute="bfloat16", validation_records=3)
    config.optimizer.accumulate = 2
    assert check(config, UnmaskTask, DIGESTS, workdir) == [
        "optimizer.accumulate is 2 from now on (it was 1): norms and random draws are those of other parts of a batch",
        "training.compute is 'bfloat16' from now on (it was 'float32'): the arithmetic is another one",
        "training.epochs is 7.5 from now on (it was 300.0): the learning rate follows from the length",
        "training.validation_records is 3 from now on (it was 0): the best network is chosen by scores on other records",
    ]


@pytest.mark.parametrize("key", ["generator.width", "losses.l1", "input.light", "optimizer.b1", "seed", "discriminator.layers"])
def test_what_would_be_another_run(config, workdir, key):
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] += 1
    with pytest.raises(UserError, match=rf"began with {key} .*; go on with its settings, or give another --workdir"):
        check(config, UnmaskTask, DIGESTS, workdir)


def test_what_the_task_does_not_use(config, workdir):
    """Nor paths, nor the settings of data that are the same."""
    config.landmark_net.weights = "/elsewhere/landmarks.safetensors"
    config.generator.weights = "/gone"
    config.segmentation_net.width += 1
    config.data.mask_looseness = 0.1
    assert check(config, UnmaskTask, DIGESTS, workdir) == []
    config.losses.l1 = 1.0
    config.generator.width = 64
    assert check(config, LandmarkRegression, DIGESTS, workdir) == []
    config.landmark_net.width += 1
    with pytest.raises(UserError, match="landmark_net.width"):
        check(config, LandmarkRegression, DIGESTS, workdir)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (DIGESTS | {"data": "3" * 64}, "another data set"),
        (DIGESTS | {"landmark_net": "3" * 64}, "another landmark network .landmark_net.weights."),
        (DIGESTS | {"perceptual": "3" * 64}, "no network perceptual"),
        ({"data": "1" * 64}, "a landmark network .landmark_net.weights."),
    ],
)
def test_other_data_and_other_networks(config, workdir, now, told):
    with pytest.raises(UserError, match=f"began with {told}; go on with the same, or give another --workdir"):
        check(config, UnmaskTask, now, workdir)


def test_of_several_changes_the_same_one_is_told_every_time(config, workdir):
    networks = [f"network_{i:02}" for i in range(20)]
    save_config(workdir / "config.json", config, dict.fromkeys(networks, "1" * 64))
    with pytest.raises(UserError, match="began with another network network_00; go on with the same"):
        check(config, UnmaskTask, dict.fromkeys(networks, "2" * 64), workdir)


def test_run_of_before_there_were_digests(config, workdir):
    save_config(workdir / "config.json", config)
    assert check(config, UnmaskTask, DIGESTS, workdir) == []
    config.data.mask_looseness = 0.1
    with pytest.raises(UserError, match="began with data.mask_looseness"):
        check(config, UnmaskTask, DIGESTS, workdir)


def test_every_setting_that_may_change_is_one(config):
    for key in (*MAY_CHANGE, *MAY_CHANGE_WITH_NOTICE):
        section, _, name = key.partition(".")
        assert name in config[section]


def test_digest_of_arrays():
    tree = {"a": {"kernel": np.arange(6.0).reshape(2, 3)}, "b": np.float32(1)}
    same = {"b": np.float32(1), "a": {"kernel": np.asfortranarray(np.arange(6.0).reshape(2, 3))}}
    others = [
        {"a": {"kernel": np.arange(6.0).reshape(3, 2)}, "b": np.float32(1)},
        {"a": {"bias": np.arange(6.0).reshape(2, 3)}, "b": np.float32(1)},
        {"a": {"kernel": np.arange(6.0).reshape(2, 3)}, "b": np.float32(2)},
        {"a": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)}, "b": np.float32(1)},
    ]
    assert digest_tree(tree) == digest_tree(same)
    assert len({digest_tree(tree), *map(digest_tree, others)}) == 5


def test_config_of_a_run(config, tmp_path):
    config.generator.weights = "G"
    begun = DIGESTS | {"initial_variables": "9" * 64}
    write_config(config, begun, tmp_path, begins=True)
    path = tmp_path / "config.json"
    assert read_config(path).to_dict() == config.to_dict() and read_digests(path) == begun
    assert json.loads(path.read_text())["digests"] == begun
    before = path.stat().st_mtime_ns
    # What it began with is kept when it goes on without.
    config.generator.weights = ""
    write_config(config, DIGESTS, tmp_path, begins=False)
    assert path.stat().st_mtime_ns == before
    config.training.steps = 9
    write_config(config, DIGESTS, tmp_path, begins=False)
    assert read_digests(path) == begun
    assert read_config(path).generator.weights == "G" and read_config(path).training.steps == 9


def test_settings_of_the_data_are_those_of_the_data_set(config, data_dir, tmp_path):
    config.data.mask_shift = 0.4
    true, differing = with_data_of(config, data_dir)
    assert true.data.mask_shift == 0.03 and differing == ["data.mask_shift"]
    assert config.data.mask_shift == 0.4
    # Of a data set whose config was left behind.
    assert with_data_of(config, tmp_path)[0].data.mask_shift == 0.4


@pytest.mark.parametrize("folder", ["checkpoints", "best"])
def test_a_run_whose_config_is_gone(folder, config, tmp_path):
    (tmp_path / folder / "2").mkdir(parents=True)
    with pytest.raises(UserError, match=r"config\.json is missing, and without it the run cannot resume"):
        check(config, UnmaskTask, DIGESTS, tmp_path)


@pytest.mark.parametrize("text", ["[]", "1", "{", '{"a": ' * 100_000, '{"__class__": 1}'])
def test_a_damaged_config_is_told(config, workdir, text):
    (workdir / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        check(config, UnmaskTask, DIGESTS, workdir)


def test_a_run_of_another_version(config, workdir):
    """All settings that are gone are named, and nothing else."""
    values = json.loads((workdir / "config.json").read_text())
    values["generator"]["spectral"] = True
    values["older"] = {"depth": 3}
    (workdir / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="whose settings generator.spectral True, older.depth 3 are none now; go on with that"):
        check(config, UnmaskTask, DIGESTS, workdir)
