import json

import pytest
from ml_collections import ConfigDict

from maskgan_jax.config import changed_settings, load_config, read_config, save_config
from maskgan_jax.configs import default
from maskgan_jax.errors import UserError

VARIANT = """
from maskgan_jax.configs import default

def get_config():
    config = default.get_config()
    {change}
    return config
"""


@pytest.fixture
def variant(tmp_path):
    """Writes a config file that makes one change to the default and returns its path."""

    def write(change):
        path = tmp_path / "variant.py"
        path.write_text(VARIANT.format(change=change))
        return path

    return write


@pytest.mark.parametrize("path", ["default", "configs/default.py"])
def test_shipped_configs_are_found_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(path).to_dict() == default.get_config().to_dict()


def test_file_comes_before_a_shipped_config_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "default.py").write_text(VARIANT.format(change="config.seed = 7"))
    assert load_config("configs/default.py").seed == 7


@pytest.mark.parametrize("path", ["nonsense", "configs/nonsense.py", "/elsewhere/default.py", "elsewhere/default.py"])
def test_missing_file_names_the_shipped_configs(path):
    with pytest.raises(UserError, match=r"^there is no config file \S+; give a path, or one of .*\bdefault\b"):
        load_config(path)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("--config.seed=3", "seed", 3),
        ("--config.input.flip=false", "input.flip", False),
        ("--config.optimizer.learning_rate=1e-3", "optimizer.learning_rate", 1e-3),
        ("--config.losses.l1=10", "losses.l1", 10.0),
        ("--config.generator.norm=batch", "generator.norm", "batch"),
        ("--config.landmark_net.weights=a=b", "landmark_net.weights", "a=b"),
        ("--config.landmark_net.weights=", "landmark_net.weights", ""),
        ("--config.generator.dropout_sides=2,4", "generator.dropout_sides", (2, 4)),
        ("--config.generator.dropout_sides=(2,)", "generator.dropout_sides", (2,)),
        ("--config.data.kdef_angles='HL','HR'", "data.kdef_angles", ("HL", "HR")),
        ("--config.data.masks.cloth=0", "data.masks.cloth", 0.0),
        ('--config.data.masks={"cloth": 1.0, "template": 2.0}', "data.masks", {"cloth": 1.0, "template": 2.0}),
        ('--config.data.splits.train={"ffhq": 5600, "*": 0.5}', "data.splits.train", {"ffhq": 5600, "*": 0.5}),
    ],
)
def test_overrides_take_the_type_of_the_field(override, key, value):
    config = load_config("default", [override])
    changed = config
    for name in key.split("."):
        changed = changed[name]
    changed = changed.to_dict() if isinstance(changed, ConfigDict) else changed
    assert changed == value
    assert type(changed) is type(value)


def test_overriding_one_key_of_a_dict_leaves_the_others():
    config = load_config("default", ["--config.data.masks.cloth=0", "--config.data.masks.n95=3"])
    others = load_config("default").data.masks.to_dict() | {"cloth": 0.0, "n95": 3.0}
    assert config.data.masks.to_dict() == others and len(others) == 7


def test_last_of_two_overrides_counts():
    assert load_config("default", ["--config.seed=1", "--config.seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--config.sed=1", "--config.sed=1: there is no setting sed; did you mean seed instead of sed?"),
        ("--config.data.sixe=1", "--config.data.sixe=1: there is no setting data.sixe; did you mean size instead of sixe?"),
        ("--config.nokey=1", "--config.nokey=1: there is no setting nokey; configs/default.py has all of them"),
        ("--config.seed.x=1", "--config.seed.x=1: there is no setting seed.x"),
        ("--config.seed=abc", "--config.seed=abc: the value must be of type int, such as 0"),
        ("--config.seed=1.5", "--config.seed=1.5: the value must be of type int, such as 0"),
        ("--config.input.flip=maybe", "--config.input.flip=maybe: the value must be of type bool, such as True"),
        (
            "--config.data.splits.test=3",
            """--config.data.splits.test=3: the value must be of type dict, such as '{"*": 0.15}'""",
        ),
        (
            "--config.data.splits.test.*=0.5",
            """--config.data.splits.test.*=0.5: * cannot be set by itself; give the whole dict, such as '{"*": 0.15}'""",
        ),
        (
            '--config.landmark_net={"width": 8}',
            '--config.landmark_net={"width": 8}: the setting landmark_net.weights is missing; '
            "configs/default.py has all of them",
        ),
        ("--config.seed", "unknown argument --config.seed; settings are given as --config.KEY=VALUE"),
        ("--sede=1", "unknown argument --sede=1; settings are given as --config.KEY=VALUE"),
        ("--config=other.py", "unknown argument --config=other.py; settings are given as --config.KEY=VALUE"),
    ],
)
def test_bad_override_is_one_clear_sentence(override, sentence):
    with pytest.raises(UserError) as error:
        load_config("default", [override])
    assert str(error.value) == sentence


def test_variant_can_replace_a_dict(variant):
    config = load_config(variant('config.data.splits.train = {"ffhq": 5600, "*": 0.5}'))
    assert config.data.splits.train.to_dict() == {"ffhq": 5600, "*": 0.5}
    assert config.data.splits.test.to_dict() == {"*": 0.15}


def test_variant_can_add_to_a_dict(variant):
    config = load_config(variant("config.data.masks.template = 2.0"), ["--config.data.masks.template=3"])
    assert config.data.masks.template == 3.0
    assert config.data.masks.cloth == load_config("default").data.masks.cloth > 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("masks", {1: 2}),
        ("masks", {"n95": 1, 1: 2}),
        ("mask_patterns", {(1, 2): 1}),
        ("splits", {"train": {1: 0.5}}),
    ],
)
def test_keys_that_are_no_texts(setting, value):
    with pytest.raises(UserError, match=f"data.{setting} has a key that is no text; put all of them in quotes$"):
        load_config("default", [f"--config.data.{setting}={value}"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("config.sed = 1", "there is no setting sed; did you mean seed instead of sed[?]"),
        ("config.losses.contuor = 1.0", "there is no setting losses.contuor; did you mean contour instead of contuor[?]"),
        ("del config.seed", "the setting seed is missing; configs/default.py has all of them"),
        ("config.seed = 'a'", r"line 6: TypeError: Could not override field 'seed'.*"),
        ("config.seed = 1 / 0", "line 6: ZeroDivisionError: division by zero"),
        ("import nonsense", "line 6: ModuleNotFoundError: No module named 'nonsense'"),
        ("config.seed = = 1", r"SyntaxError: invalid syntax \(variant.py, line 6\)"),
        ("return 3", r"get_config\(\) of config .* returns 3, not a ConfigDict"),
    ],
)
def test_fault_in_a_file_is_one_clear_sentence(variant, change, sentence):
    path = variant(change)
    with pytest.raises(UserError, match=rf"{sentence}$") as error:
        load_config(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_values_are_checked_after_all_overrides(variant):
    assert load_config(variant("config.seed = -1"), ["--config.seed=1"]).seed == 1
    assert load_config("default", ["--config.training.epochs=0", "--config.training.steps=3"]).training.steps == 3


def test_an_integer_becomes_the_float_that_is_meant(tmp_path):
    """In a config that does not come from the default one, in a dict of the command line, and in a saved config."""
    config = default.get_config().to_dict()
    config["generator"]["dropout"] = config["optimizer"]["b1"] = 0
    config["data"]["splits"]["train"]["*"] = 1
    path = tmp_path / "own.py"
    path.write_text(f"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({config!r})\n")
    losses = json.dumps({**config["losses"], "contour": 0})
    loaded = load_config(path, ["--config.generator.dropout=0.25", f"--config.losses={losses}"])
    (tmp_path / "config.json").write_text(json.dumps(config))
    read = read_config(tmp_path / "config.json")
    for value in (loaded.optimizer.b1, loaded.losses.contour, read.optimizer.b1, read.generator.dropout):
        assert isinstance(value, float) and value == 0
    assert loaded.generator.dropout == 0.25
    assert isinstance(loaded.data.splits.train["*"], int) and isinstance(read.data.splits.train["*"], int)  # A count.


def test_changed_settings_have_both_values():
    old = load_config("default")
    new = load_config("default", ["--config.generator.width=8", '--config.data.splits.train={"ffhq": 3}'])
    assert changed_settings(old, old) == {}
    assert changed_settings(old, new) == {
        "generator.width": (64, 8),
        "data.splits.train.*": (0.8, None),
        "data.splits.train.ffhq": (None, 3),
    }


def test_file_without_get_config(tmp_path):
    path = tmp_path / "empty.py"
    path.write_text("x = 1\n")
    with pytest.raises(UserError, match=r"empty.py has no function get_config\(\)"):
        load_config(path)


def test_loaded_config_is_locked():
    config = load_config("default", ["--config.seed=1"])
    with pytest.raises(AttributeError):
        config.training.epoch = 3


def test_saved_config_is_read_back_as_it_was(tmp_path, variant):
    config = load_config(
        variant('config.data.splits.train = {"ffhq": 5600, "*": 1.0}'),
        ["--config.generator.dropout_sides=4,8", "--config.data.mask_templates=masks/äöü", "--config.optimizer.b1=0.1"],
    )
    save_config(tmp_path / "config.json", config)
    read = read_config(tmp_path / "config.json")
    assert read.to_dict() == config.to_dict()
    assert isinstance(read.generator.dropout_sides, tuple)
    assert isinstance(read.data.splits.train["ffhq"], int)
    assert isinstance(read.data.splits.train["*"], float)
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["b1"] == 0.1


def test_reading_a_missing_config(tmp_path):
    with pytest.raises(UserError, match="cannot read .*config.json .No such file or directory.; is it in the folder of a"):
        read_config(tmp_path / "config.json")


NO_CONFIGS = [b"", b"{", b"[1, 2]", b"3", b"\xff\xfe\x00", b'"text"', b"null", b"[" * 9999, b'{"a":' * 9999]


@pytest.mark.parametrize("content", [*NO_CONFIGS, b'{"__class__": 1}', b'{"digests": 3}'])
def test_reading_what_is_no_config(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="config.json is not a saved config"):
        read_config(path)
