import subprocess
import sys

import jax
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.networks.description import KINDS, Description, describe, kind_of


@pytest.mark.parametrize("task", KINDS)
def test_shapes_are_those_of_the_module(config, task):
    config.task = task
    description = describe(config)
    inputs = [np.zeros((2, *shape), np.float32) for shape in description.inputs().values()]
    output = jax.eval_shape(lambda *arrays: description.create().init_with_output(jax.random.key(0), *arrays)[0], *inputs)
    (shape,) = description.output().values()
    assert output.shape == (2, *shape)


def test_a_generator_that_inpaints_takes_the_mask(config):
    assert describe(config).inputs() == {"picture": (64, 64, 3)}
    config.generator.inpaints = True
    assert describe(config).inputs() == {"picture": (64, 64, 3), "mask": (64, 64, 1)}


def test_settings_of_the_module_alone(config):
    config.generator.weights = "RUN"
    config.generator.width = 6
    expected = {**config.generator.to_dict(), "dropout_sides": [4, 8, 16]}
    del expected["weights"]
    assert describe(config) == Description("unmask", 64, 1.0, expected)
    assert describe(config).create().width == 6


@pytest.mark.parametrize(
    "value", [{}, {"task": "unmask"}, {"task": "unmask", "data": 3, "generator": {}}, {"task": "dance", "data": {"size": 64}}]
)
def test_what_is_no_config(value):
    with pytest.raises((LookupError, TypeError, ValueError)):
        describe(value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("task", "dance", "there is no task 'dance'"),
        ("size", "64", "its size is '64', not a power of two"),
        ("size", 100, "its size is 100"),
        ("size", 0, "its size is 0"),
        ("size", 2**70, "not a power of two from 64 to 4096"),
        ("zoom", None, "its zoom is None"),
        ("settings", {}, "its setting width is None, not such as 32"),
        ("settings", {"width": "a"}, "its setting width is 'a', not such as 32"),
        ("settings", {"width": 10**9}, "its setting width is 1000000000; it must be from 1 to 4096"),
    ],
)
def test_descriptions_that_are_none(name, value, told):
    fields = {"task": "landmarks", "size": 64, "zoom": 1.0, "settings": {"width": 4}}
    assert Description(**fields).create().width == 4
    with pytest.raises(ValueError, match=told):
        Description(**fields | {name: value})


def test_an_integer_that_no_float_can_be(config):
    saved = config.to_dict()
    saved["generator"]["dropout"] = 10**400
    with pytest.raises(ValueError, match="its setting dropout is 1000"):
        describe(saved)


def test_unknown_names(config):
    with pytest.raises(UserError, match="there is no task 'dance'; choose one of unmask, landmarks, segmentation"):
        kind_of("dance")
    config.generator.architecture = "cathedral"
    with pytest.raises(UserError, match="generator.architecture is 'cathedral'; it must be one of unet, residual"):
        describe(config).create()


TRAINING_ONLY = ("orbax", "grain", "tensorstore", "clu", "array_record", "tensorflow_datasets", "tensorboardX", "optax", "dlib")


def test_inference_does_not_import_what_training_needs():
    """Nor does it take the packages that training alone uses, for which an installation could do without."""
    program = (
        "import sys\n"
        "from maskgan_jax import Unmasker\n"
        "unmasker = Unmasker.from_pretrained(fast=True)\n"
        f"print([name for name in {TRAINING_ONLY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
