"""A trained network as one .safetensors file: named arrays, with the config in the header."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from maskgan_jax.config import parse_config
from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.training.state import Variables

FORMAT = "maskgan_jax"
# What to do about another file.
_GIVE = "give the workdir of a `maskgan train` run, or a file made by `maskgan export --format=safetensors`"


def save_safetensors(path: str | Path, variables: Variables, config: ConfigDict, *, half: bool = False) -> None:
    """Writes the variables of a network under names such as `params/down_0/kernel`, whole or not at all.

    Args:
      path: the file.
      variables: of the network.
      config: it was trained with.
      half: whether the arrays are rounded to float16: half the size.

    Raises:
      UserError: the file cannot be written.
    """
    kind = np.float16 if half else np.float32
    arrays = {name: np.ascontiguousarray(array, kind) for name, array in flatten_dict(variables, sep="/").items()}
    with replacing(path) as temporary:
        # `save_file` would make a file that nobody else may read.
        temporary.write_bytes(save(arrays, metadata={"format": FORMAT, "config": json.dumps(config.to_dict(), sort_keys=True)}))


def read_header(path: str | Path) -> ConfigDict:
    """The config in a file written by `save_safetensors`.

    Raises:
      UserError: no such file, or not one of ours.
    """
    with _opened(path) as file:
        return parse_config(file.metadata()["config"])


def load_safetensors(path: str | Path) -> Variables:
    """The variables (NumPy, float32) in a file written by `save_safetensors`.

    Raises:
      UserError: no such file, or not one of ours.
    """
    with _opened(path) as file:
        arrays = {name: file.get_tensor(name).astype(np.float32, copy=False) for name in file.offset_keys()}
        return {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            if (form := (file.metadata() or {}).get("format")) != FORMAT:
                what = "is for PyTorch" if form == "pt" else "was not written by maskgan"
                raise UserError(f"{path} {what}; {_GIVE}")
            yield file
    # An IndexError comes from names that contradict each other: `a` and `a/b`.
    except (OSError, SafetensorError, LookupError, ValueError) as error:
        raise UserError(f"cannot read the network in {path} ({error}); {_GIVE}") from error
