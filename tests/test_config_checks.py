import json
from pathlib import Path

import pytest

from maskgan_jax.config import load_config, read_config
from maskgan_jax.config_checks import ALLOWED, check_values, flat, with_type_of
from maskgan_jax.configs import default
from maskgan_jax.errors import UserError


@pytest.mark.parametrize("path", sorted(Path(default.__file__).parent.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_shipped_configs_have_allowed_values(path):
    load_config(path)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed=-1", "seed is -1; it must be from 0 to 4294967295"),
        ("data.size=96", "data.size is 96; it must be a power of two from 64 to 4096"),
        ("data.size=32", "data.size is 32; it must be a power of two from 64 to 4096"),
        ("data.mask_shift=inf", "data.mask_shift is inf; it must be from 0 to 0.5"),
        ("input.batch_size=0", "input.batch_size is 0; it must be a number of at least 1"),
        ("input.jitter=0.5", "input.jitter is 0.5; it must be from 1 to 2"),
        ("generator.norm=layer", "generator.norm is 'layer'; it must be one of instance, batch, none"),
        ("generator.dropout=1", "generator.dropout is 1.0; it must be at least 0 and below 1"),
        ("generator.dropout_sides=4,6", "generator.dropout_sides is (4, 6); it must be powers of two, such as (4, 8, 16)"),
        ("discriminator.layers=6", "discriminator.layers is 6; it must be from 1 to 5"),
        ("losses.l1=inf", "losses.l1 is inf; it must be a number of at least 0"),
        ("losses.masked=-1", "losses.masked is -1.0; it must be a number of at least 0"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate is nan; it must be a number above 0"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate is 0.0; it must be a number above 0"),
        ("training.compute=float16", "training.compute is 'float16'; it must be one of float32, bfloat16"),
        (
            "training.profile=(1.5,2.5)",
            "training.profile is (1.5, 2.5); it must be () or the first step and the last one, such as (10, 12)",
        ),
        (
            "training.keep_epochs=(10,1e999)",
            "training.keep_epochs is (10, inf); it must be numbers of epochs, such as (10, 30)",
        ),
        ("training.epochs=0", "training.epochs and training.steps are both 0; one of them must be above 0"),
    ],
)
def test_value_that_is_not_allowed(override, sentence):
    with pytest.raises(UserError) as error:
        load_config("default", [f"--config.{override}"])
    assert str(error.value) == f"config default: {sentence}"


def test_discriminator_must_fit_the_size():
    assert load_config("default", ["--config.data.size=64", "--config.discriminator.layers=4"]).discriminator.layers == 4
    with pytest.raises(UserError, match="discriminator.layers is 5; for a data.size of 64 it must be at most 4"):
        load_config("default", ["--config.discriminator.layers=5", "--config.data.size=64"])


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("training.steps", "ten", "training.steps is 'ten'; it must be of type int"),
        ("training.steps", True, "training.steps is True; it must be of type int"),
        ("input.flip", 1, "input.flip is 1; it must be of type bool"),
        ("losses.l1", "1", "losses.l1 is '1'; it must be of type float"),
        ("losses", 3, "losses is a group of settings, not 3"),
        ("generator.dropout_sides", {"a": 1}, "generator.dropout_sides is a single setting, not a: 1"),
        ("generator.dropout_sides", (4, "8"), r"generator.dropout_sides is \(4, '8'\); it must be powers of two"),
    ],
)
def test_types_are_checked_where_nothing_else_has(tmp_path, key, value, sentence):
    """In a config that does not come from the default one, and in a saved one that was edited."""
    config = default.get_config().to_dict()
    *sections, name = key.split(".")
    section = config
    for part in sections:
        section = section[part]
    section[name] = value
    path = tmp_path / "own.py"
    path.write_text(f"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({config!r})\n")
    with pytest.raises(UserError, match=f"^config .*own.py: {sentence}"):
        load_config(path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"^.*config.json: {sentence}"):
        read_config(tmp_path / "config.json")


def test_each_allowed_setting_exists():
    assert flat(default.get_config()).keys() >= ALLOWED.keys()


FLOATS = sorted(key for key, value in flat(default.get_config()).items() if key in ALLOWED and isinstance(value, float))


@pytest.mark.parametrize("key", FLOATS)
def test_no_number_may_be_nan(key):
    config = default.get_config()
    section, name = key.split(".")
    config[section][name] = float("nan")
    with pytest.raises(UserError, match=f"^x: {key} is nan; it must be "):
        check_values(config, default.get_config(), "x")


def test_flat():
    settings = flat(default.get_config())
    assert settings["data.size"] == 256 and settings["data.masks.n95"] == 1.0 and settings["seed"] == 0
    assert settings["generator.dropout_sides"] == (4, 8, 16)


@pytest.mark.parametrize(
    ("default", "value", "expected"),
    [(0.5, 1, 1.0), (1, 2, 2), (0.5, 0.25, 0.25), (0.5, True, True), ("a", 3, 3), (0.5, 10**400, 10**400)],
)
def test_with_type_of(default, value, expected):
    found = with_type_of(default, value)
    assert found == expected and type(found) is type(expected)
