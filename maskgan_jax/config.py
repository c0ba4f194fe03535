"""Configs: ml_collections files plus `--config.KEY=VALUE` from the command line, checked against `configs/default.py`."""

from __future__ import annotations

import difflib
import functools
import json
import re
import runpy
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from maskgan_jax import configs
from maskgan_jax.config_checks import check_values, flat, with_type_of
from maskgan_jax.configs import default
from maskgan_jax.errors import UserError
from maskgan_jax.storage import path_of, reaching, save_text

# Fields that hold a dict of the user's own keys.
_FREE_DICTS = ("data.masks", "data.mask_patterns", "data.splits")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Runs `get_config()` of a config file and applies overrides of the form `--config.KEY=VALUE`.

    Args:
      path: a file; `NAME` or `configs/NAME.py`, if there is no such file, is the one that comes with the package.
      overrides: as on the command line. Values take the type of the field they replace; a dict replaces a whole dict.

    Returns:
      The config, locked: fields can be changed, but not added.

    Raises:
      UserError: no such file, a fault in it, an unknown key, or a value of the wrong type or out of its range.
    """
    config = _run(_find(Path(path)))
    _check_names(config, default.get_config(), f"config {path}")
    _make_floats(config, default.get_config())
    for override in overrides:
        config = _override(config, override)
    check_values(config, default.get_config(), f"config {path}")
    return config.lock()


def _find(path: Path) -> Path:
    """The config file at `path`, or the shipped one that it names."""
    if path.is_file():
        return path
    shipped = {file.stem: file for folder in configs.__path__ for file in Path(folder).glob("[!_]*.py")}
    if path.parent not in (Path("."), Path("configs")) or path.stem not in shipped:
        raise UserError(f"there is no config file {path}; give a path, or one of {', '.join(sorted(shipped))}")
    return shipped[path.stem]


def _run(file: Path) -> ConfigDict:
    """What `get_config()` of a config file returns."""
    try:
        config = runpy.run_path(str(file))["get_config"]()
    except Exception as error:  # A config file is a program: anything can be wrong with it.
        if isinstance(error, KeyError) and error.args == ("get_config",):
            raise UserError(f"config {file} has no function get_config()") from error
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        place = f"{file}, line {lines[-1]}" if lines else str(file)
        raise UserError(f"config {place}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config() of config {file} returns {config!r:.40}, not a ConfigDict")
    return config


def _check_names(config: ConfigDict, reference: ConfigDict, where: str, section: str = "") -> None:
    """Raises UserError unless `config` has the fields of `reference`, no more and no fewer."""
    for name in dict.fromkeys((*config, *reference)):
        key = section + name
        if name not in reference:
            raise UserError(f"{where}: there is no setting {key}{_suggestion(name, reference)}")
        if name not in config:
            raise UserError(f"{where}: the setting {key} is missing; configs/default.py has all of them")
        is_group = isinstance(reference[name], ConfigDict)
        if is_group != isinstance(config[name], ConfigDict):
            kind = "a group of settings" if is_group else "a single setting"
            raise UserError(f"{where}: {key} is {kind}, not {' '.join(str(config[name]).split()):.40}")
        if key in _FREE_DICTS:
            if not _has_texts(config[name]):
                raise UserError(f"{where}: {key} has a key that is no text; put all of them in quotes")
        elif is_group:
            _check_names(config[name], reference[name], where, f"{key}.")


def _has_texts(free: ConfigDict) -> bool:
    """Whether the keys of a dict, and of those in it, are texts."""
    try:
        return all(isinstance(key, str) and (not isinstance(free[key], ConfigDict) or _has_texts(free[key])) for key in free)
    except TypeError:  # Keys of several types cannot be sorted.
        return False


def _suggestion(name: str, section: ConfigDict) -> str:
    """What was probably meant by `name`, or where to look, to be put after a complaint about it."""
    for near in difflib.get_close_matches(name, list(section), n=1):
        return f"; did you mean {near} instead of {name}?"
    return "; configs/default.py has all of them"


def _override(config: ConfigDict, argument: str) -> ConfigDict:
    """The config with one `--config.KEY=VALUE` applied."""
    match = re.fullmatch(r"--config\.([^=]+)=(.*)", argument, re.DOTALL)
    if not match:
        raise UserError(f"unknown argument {argument}; settings are given as --config.KEY=VALUE")
    key = match[1]
    field = config
    for name in key.split("."):
        if not isinstance(field, ConfigDict):
            raise UserError(f"{argument}: there is no setting {key}")
        if not name.isidentifier():
            raise UserError(f"{argument}: {name} cannot be set by itself; give the whole dict, such as '{field.to_json()}'")
        if name not in field:
            raise UserError(f"{argument}: there is no setting {key}{_suggestion(name, field)}")
        field = field[name]
    *sections, name = key.split(".")
    section = functools.reduce(ConfigDict.__getitem__, sections, config)
    # Of the section only, which is changed in place: what is defined is also written out, as help.
    values, of_section = flags.FlagValues(), f"--config.{name}={match[2]}"
    config_flags.DEFINE_config_dict("config", section, flag_values=values, sys_argv=[of_section])
    try:
        values(["maskgan", of_section])
    except (flags.Error, TypeError, ValueError) as error:
        is_dict = isinstance(field, ConfigDict)
        kind, example = ("dict", f"'{field.to_json()}'") if is_dict else (type(field).__name__, repr(field))
        raise UserError(f"{argument}: the value must be of type {kind}, such as {example}") from error
    _check_names(config, default.get_config(), argument)
    _make_floats(config, default.get_config())
    return config


def save_config(path: str | Path, config: ConfigDict, digests: Mapping[str, str] | None = None) -> None:
    """Writes the config as JSON, which `read_config` and people can read, and digests of what it was used with, if given.

    Raises:
      UserError: the file, which may be in a bucket, cannot be written.
    """
    values = config.to_dict() | ({"digests": dict(digests)} if digests else {})
    save_text(path_of(path), json.dumps(values, indent=2) + "\n")


def read_digests(path: str | Path) -> dict[str, str]:
    """The digests in a file of `save_config`; {} if it has none. Raises UserError as `read_config` does."""
    read_config(path)
    return json.loads(_read_text(path)).get("digests", {})


def settings_gone(path: str | Path) -> dict[str, Any]:
    """The settings in a file of `save_config` that there are no more, with their values; {} if it is something else."""
    try:
        values = json.loads(_read_text(path))
        values.pop("digests", None)
        saved = flat(ConfigDict(values))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):  # `read_config` tells.
        return {}
    known = flat(default.get_config())
    return {key: value for key, value in saved.items() if key not in known and not key.startswith(_FREE_DICTS)}


def read_config(path: str | Path) -> ConfigDict:
    """Reads a config written by `save_config`; its settings are those that were saved.

    Raises:
      UserError: no such file, or it is not a saved config.
    """
    try:
        return parse_config(_read_text(path), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); is it in the folder of a training run?") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a saved config ({error})") from error


def _read_text(path: str | Path) -> str:
    with reaching(path):
        return path_of(path).read_text(encoding="utf-8")


def parse_config(text: str, name: str = "saved config") -> ConfigDict:
    """The config in the JSON text of a saved one; settings that are newer than it have their defaults.

    Args:
      text: the JSON.
      name: what messages call it.

    Raises:
      ValueError, RecursionError: the text is something else.
      UserError: it has a setting that there is not, or a value that is not allowed.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("no object at the top of the JSON")
    if not isinstance(values.pop("digests", {}), dict):  # They are no setting.
        raise ValueError("its digests are no object")
    try:
        config = ConfigDict(_with_tuples(values))
    except (AttributeError, KeyError) as error:
        raise ValueError(f"a setting has a name that none can have: {error}") from error
    _fill(config, default.get_config())
    _check_names(config, default.get_config(), name)
    _make_floats(config, default.get_config())
    check_values(config, default.get_config(), name)
    return config.lock()


def changed_settings(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by their whole names, with the old and the new value; None where there is none."""
    before, after = flat(old), flat(new)
    values = {key: (before.get(key), after.get(key)) for key in before | after}
    return {key: (one, other) for key, (one, other) in values.items() if one != other}


def _fill(config: ConfigDict, reference: ConfigDict, section: str = "") -> None:
    """Gives `config` the fields of `reference` that it lacks."""
    for name, value in reference.items():
        if name not in config:
            config[name] = value
        elif isinstance(value, ConfigDict) and isinstance(config[name], ConfigDict) and section + name not in _FREE_DICTS:
            _fill(config[name], value, f"{section}{name}.")


def _make_floats(config: ConfigDict, reference: ConfigDict, section: str = "") -> None:
    """Makes floats of the integers in `config` where `reference`, which has the same names, has floats."""
    for name, value in reference.items():
        if isinstance(value, ConfigDict):
            if section + name not in _FREE_DICTS:  # There an integer may mean something else: a count, no share.
                _make_floats(config[name], value, f"{section}{name}.")
        elif type(made := with_type_of(value, config[name])) is not type(config[name]):
            with config.ignore_type():
                config[name] = made


def _with_tuples(value: Any) -> Any:
    """`value` from JSON with its lists as tuples, which is what all sequences in configs are."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
