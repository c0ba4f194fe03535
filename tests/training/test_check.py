import jax
import numpy as np
import pytest

from maskgan_jax.config import load_config
from maskgan_jax.errors import UserError
from maskgan_jax.models.landmark_net import create_landmark_net
from maskgan_jax.runtime.chips import chip_of
from maskgan_jax.training import check as module
from maskgan_jax.training.check import check, lines_of


@pytest.fixture(scope="module")
def at_full_size():
    """The paper's networks on 16 chips; nothing of this size is compiled."""
    return check(load_config("tpu", ["--config.input.batch_size=1024"]), 16, chip_of("TPU v5 lite"))


def test_as_the_compiler_found(at_full_size):
    """libtpu compiled this step for v5e:4x4: docs/scaling.md has the numbers (5.10 TFLOP, 686 MB, 114 MB, 3.83 GiB)."""
    assert at_full_size["flops"] == pytest.approx(5.10e12, rel=0.02)
    assert at_full_size["flops_roofline"] == pytest.approx(at_full_size["flops"], rel=0.01)
    assert at_full_size["state"] == pytest.approx(686e6, rel=0.001)
    assert at_full_size["reduced"] == pytest.approx(114e6, rel=0.01) and at_full_size["gathered"] == 0
    # The compiler fuses, and needs less.
    assert 3.83 * 2**30 < at_full_size["memory"] < 2 * 3.83 * 2**30


def test_in_words(at_full_size):
    text = "\n".join(lines_of(at_full_size))
    assert "16 (TPU v5 lite), each with 64 of the 1024 images" in text
    assert "generator 54,413,955" in text and "of 16 GiB" in text and "114.4 MB of gradients" in text


def test_parameters_that_are_divided(config):
    config.task = "landmarks"
    config.landmark_net.width = 16
    whole = check(config, 4)
    config.training.fsdp = 4
    divided = check(config, 4)
    assert whole["gathered"] == 0 < divided["gathered"] <= 4 * sum(divided["parameters"].values()) == divided["reduced"]
    saved = whole["state"] - divided["state"]
    assert saved > 0.6 * whole["state"] and whole["memory"] - divided["memory"] == saved
    assert "are gathered (training.fsdp)" in "\n".join(lines_of(divided))


def test_parts_of_a_batch(config):
    config.task = "landmarks"
    config.input.batch_size = 64
    whole = check(config, 1)
    config.optimizer.accumulate = 8
    parts = check(config, 1)
    assert parts["flops"] == pytest.approx(whole["flops"], rel=0.05)
    assert parts["memory"] < whole["memory"]
    assert parts["reduced"] == 0 and "traffic in a step: none" in "\n".join(lines_of(parts))


@pytest.mark.parametrize("task", ["landmarks", "segmentation"])
def test_other_tasks(config, task):
    config.task = task
    report = check(config, 2)
    assert report["flops"] == pytest.approx(report["flops_roofline"], rel=0.05)
    (parameters,) = report["parameters"].values()
    # In float32, with Adam's two moments.
    assert report["state"] == pytest.approx(3 * 4 * parameters, rel=0.01) and report["frozen"] == 0
    assert report["memory"] > report["state"]


def test_networks_that_are_missing_are_of_zeros(config, monkeypatch):
    """And the config, which names none, stays as it is."""
    config.losses.contour = 0.1
    config.generator.update(architecture="yi", width=2)
    config.optimizer.accumulate = 2
    before = config.to_dict()
    monkeypatch.setattr(module, "count_flops", lambda *_: 0.0)
    report = check(config, 2)
    assert config.to_dict() == before
    assert report["parameters"].keys() == {"generator", "discriminator", "mask_discriminator"}
    landmark_net = jax.eval_shape(create_landmark_net(config).init, jax.random.key(0), np.zeros((1, 64, 64, 3)))
    assert report["frozen"] == 4 * sum(leaf.size for leaf in jax.tree.leaves(landmark_net))


def test_what_cannot_be(config):
    with pytest.raises(UserError, match="a batch of 4 cannot be divided among 3 devices"):
        check(config, 3)
    config.training.fsdp = 3
    with pytest.raises(UserError, match="2 devices cannot be divided into groups of 3"):
        check(config, 2)


def test_there_is_no_such_task(config):
    config.task = "nonsense"
    with pytest.raises(UserError, match="there is no task 'nonsense'"):
        check(config, 1)
