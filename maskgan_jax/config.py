"""Configs: ml_collections files plus `--config.KEY=VALUE` from the command line, checked against `configs/default.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from maskgan_jax import configs
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_text


def load_config(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Runs `get_config()` of a config file and applies overrides of the form `--config.KEY=VALUE`.

    Args:
      path: a file; if there is none at that path, one of the same name among the configs that come with the package.
      overrides: as on the command line. Values take the type of the field they replace.

    Raises:
      UserError: no such file, a fault in it, an unknown key or a value of the wrong type.
    """
    file = Path(path)
    if not file.is_file():
        shipped = {p.stem: p for folder in configs.__path__ for p in Path(folder).glob("*.py") if p.stem != "__init__"}
        if file.stem not in shipped:
            raise UserError(f"no config file {path}; give a path, or one of {', '.join(sorted(shipped))}")
        file = shipped[file.stem]
    values = flags.FlagValues()
    arguments = ["maskgan", f"--config={file}", *overrides]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        rest = values(arguments)
        config = values.config
    except Exception as error:  # A config file is a program: anything can be wrong with it.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"config {path}: {reason[0]}") from error
    if len(rest) > 1:
        raise UserError(f"unknown argument {rest[1]}; settings are given as --config.KEY=VALUE")
    return config


def save_config(path: str | Path, config: ConfigDict) -> None:
    """Writes the config as JSON, which `read_config` and people can read."""
    write_text(path, config.to_json_best_effort(indent=2, sort_keys=True) + "\n")


def read_config(path: str | Path) -> ConfigDict:
    """Reads a config written by `save_config`.

    Raises:
      UserError: no such file, or it is not a saved config.
    """
    try:
        return ConfigDict(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); is it the folder of a training run?") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a saved config ({error})") from error
