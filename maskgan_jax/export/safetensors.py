"""A trained network as one .safetensors file: named float32 arrays, with the config in the header."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.training.state import Variables


def save_safetensors(path: str | Path, variables: Variables, config: ConfigDict) -> None:
    """Writes the variables of a network under names such as `params/down_0/kernel`, whole or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in flatten_dict(variables, sep="/").items()}
    with replacing(path) as temporary:
        save_file(arrays, temporary, metadata={"format": "maskgan_jax", "config": config.to_json_best_effort(sort_keys=True)})


def load_safetensors(path: str | Path) -> tuple[ConfigDict, Variables]:
    """Reads a file written by `save_safetensors`: config and variables (NumPy).

    Raises:
      UserError: no such file, or not one of ours.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118: not a dict
        if header.get("format") != "maskgan_jax":
            raise UserError(f"{path} was not written by maskgan; give a workdir or a file made by `maskgan export`")
        return ConfigDict(json.loads(header["config"])), {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"cannot read the network in {path} ({error})") from error
