"""A trained network as one .safetensors file: named arrays, with its description in the header.

The header has `format` ('maskgan_jax'), `version`, `network` (JSON: the fields of a `Description`) and `config` (JSON: all
settings of the training, for people: nothing checks them). Files of version 1 have only `format` and `config`; they are read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.networks.description import Description, Variables, describe, with_defaults

FORMAT = "maskgan_jax"
# Counts up when older programs would misunderstand a file.
VERSION = 2
# Arrays of networks lie in fewer modules than this; JAX fails on trees of thousands.
_MOST_LEVELS = 50
# What to do about another file.
_GIVE = "give the workdir of a `maskgan train` run, or a file made by `maskgan export --format=safetensors`"
_CONVERT = "convert a generator of pix2pix by `python -m maskgan_jax.pytorch.convert FILE --out=FILE.safetensors`, or "


def save_safetensors(path: str | Path, variables: Variables, config: Mapping[str, Any], *, half: bool = False) -> None:
    """Writes the variables of a network under names such as `params/down_0/kernel`, whole or not at all.

    Args:
      path: the file.
      variables: of the network.
      config: the settings it was trained with, which describe it.
      half: whether the arrays are rounded to float16: half the size.

    Raises:
      UserError: the file cannot be written.
    """
    config = json.loads(json.dumps(dict(config), default=dict))
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "network": json.dumps(dataclasses.asdict(describe(config)), sort_keys=True),
        "config": json.dumps(config, sort_keys=True),
    }
    kind = np.float16 if half else np.float32
    arrays = {name: np.ascontiguousarray(array, kind) for name, array in flatten_dict(variables, sep="/").items()}
    with replacing(path) as temporary:
        # `save_file` would make a file that nobody else may read.
        temporary.write_bytes(save(arrays, metadata=header))


def save_untrained(path: str | Path, config: ConfigDict, task: str, seed: int | None = None) -> None:
    """Writes a network for `task` that was never trained, for what does not depend on its weights.

    Args:
      path: the file.
      config: describes the network; its own `task` does not count.
      task: 'unmask', 'landmarks' or 'segmentation'.
      seed: of random parameters; None for zeros, for which nothing is compiled.

    Raises:
      UserError: the file cannot be written.
    """
    config = config.copy_and_resolve_references()
    config.task = task
    description = describe(config)
    init = description.create().init
    inputs = [jax.ShapeDtypeStruct((1, *shape), np.float32) for shape in description.inputs().values()]
    if seed is None:
        shapes = jax.eval_shape(init, jax.random.key(0), *inputs)
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    else:
        variables = jax.jit(init)(jax.random.key(seed), *(np.zeros(each.shape, each.dtype) for each in inputs))
    save_safetensors(path, variables, config)


def read_header(path: str | Path) -> tuple[Description, dict[str, Any]]:
    """The description of the network in a file of `save_safetensors`, and the config it was trained with, as it was saved.

    Raises:
      UserError: no such file, not one of ours, or one of a later version.
    """
    with _opened(path) as file:
        header = file.metadata()
        if (version := int(header.get("version", 1))) > VERSION:
            raise UserError(
                f"{path} was written by a later maskgan_jax (format {version}, and this one reads up to {VERSION}); "
                "update maskgan_jax"
            )
        config = dict(json.loads(header["config"]))
        if version == 1:
            return describe(config), config
        return with_defaults(**json.loads(header["network"])), config


def load_safetensors(path: str | Path) -> Variables:
    """The variables (NumPy, float32) in a file written by `save_safetensors`.

    Raises:
      UserError: no such file, or not one of ours.
    """
    with _opened(path) as file:
        if any(name.count("/") > _MOST_LEVELS for name in file.keys()):
            raise ValueError("names of arrays with too many levels")
        arrays = {name: file.get_tensor(name).astype(np.float32, copy=False) for name in file.offset_keys()}
        return {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            if (form := (file.metadata() or {}).get("format")) != FORMAT:
                what = "is for PyTorch" if form == "pt" else "was not written by maskgan"
                raise UserError(f"{path} {what}; {_CONVERT if form == 'pt' else ''}{_GIVE}")
            yield file
    # An IndexError comes from names that contradict each other: `a` and `a/b`.
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if Path(path).suffix in (".pth", ".pt", ".ckpt", ".bin"):
            raise UserError(f"{path} is for PyTorch; {_CONVERT}{_GIVE}") from error
        reason = f"its header lacks {error}" if isinstance(error, KeyError) else error
        raise UserError(f"cannot read the network in {path} ({reason}); {_GIVE}") from error
