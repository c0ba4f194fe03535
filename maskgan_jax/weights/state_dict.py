"""Reads PyTorch state dicts without PyTorch, and without running code that a file may contain."""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors.numpy

from maskgan_jax.errors import UserError

STORAGE_DTYPES = {
    "BFloat16Storage": ml_dtypes.bfloat16,
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
# Files of torch.save before version 1.6 start with these two pickled numbers.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a state dict from a safetensors file or a file of `torch.save`; see `parse_state_dict`.

    Raises:
      UserError: the file is missing, damaged, or holds something other than a state dict.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    try:
        return parse_state_dict(data)
    except UserError as error:
        raise UserError(f"{path} is {error}") from error


def parse_state_dict(data: bytes) -> dict[str, np.ndarray]:
    """Parses the bytes of a safetensors file or a file of `torch.save`, in the zip format or the one before 1.6.

    Only plain tensors are read; a pickle that names anything else is refused before it is run. Of a checkpoint that holds state
    dicts among other things, the arrays have names such as `state_dict.model.0.weight`.

    Returns:
      The arrays by name, in PyTorch's layout (convolutions `[out, in, height, width]`).

    Raises:
      UserError: the bytes are damaged, or hold something other than a state dict.
    """
    try:
        if data[8:9] == b"{":
            return safetensors.numpy.load(data)
        state = _read_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _read_legacy(data)
        arrays = dict(_arrays(state)) if isinstance(state, dict) else {}
    except Exception as error:  # A damaged or hostile pickle can fail in almost any way.
        raise UserError(f"not a readable state dict ({error})") from error
    if not arrays:
        raise UserError("not a state dict (a mapping from names to tensors); save `model.state_dict()`")
    return arrays


def _arrays(state: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in mappings of mappings, by their names with dots; numbers and texts beside them are left out."""
    if isinstance(state, np.ndarray):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from _arrays(value, f"{name}.{key}" if name else str(key))


class _StateDictUnpickler(pickle.Unpickler):
    """Builds dictionaries and arrays, and nothing else.

    The arrays are empty at first: `storages` holds their memory by key, to be filled from the rest of the file.
    """

    def __init__(self, file: BinaryIO, size: int):
        super().__init__(file, encoding="utf-8")
        self.size = size
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        allowed: dict[str, Callable] = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
        }
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no state dict needs")
        return allowed[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or (len(pid) > 5 and pid[5] is not None):
            raise pickle.UnpicklingError("it holds a kind of storage that is not supported")
        if key not in self.storages:
            if not 0 <= count * np.dtype(dtype).itemsize <= self.size:
                raise pickle.UnpicklingError("a tensor is larger than the file")
            self.storages[key] = np.zeros(count, dtype)
        return self.storages[key]


def _rebuild_tensor(storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
    """The view of `storage` that is the tensor; the other arguments (gradient, hooks) are not needed."""
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or (math.prod(shape) and last >= storage.size):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


def _rebuild_parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor


def _read_zip(data: bytes) -> Any:
    """The format since torch 1.6: a zip file with `data.pkl` and one raw file for each storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickled = [name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl"]
        if not pickled:
            raise pickle.UnpicklingError("a zip file without data.pkl")
        folder = pickled[0].removesuffix("data.pkl")
        unpickler = _StateDictUnpickler(io.BytesIO(archive.read(pickled[0])), len(data))
        state = unpickler.load()
        for key, storage in unpickler.storages.items():
            storage[:] = np.frombuffer(archive.read(f"{folder}data/{key}"), storage.dtype)
    return state


def _read_legacy(data: bytes) -> Any:
    """The format before torch 1.6: pickles of magic number, version, machine, state and keys, then the storages."""
    file = io.BytesIO(data)
    magic, protocol, _ = (_StateDictUnpickler(file, len(data)).load() for _ in range(3))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise pickle.UnpicklingError("not written by torch.save")
    unpickler = _StateDictUnpickler(file, len(data))
    state = unpickler.load()
    for key in _StateDictUnpickler(file, len(data)).load():
        storage = unpickler.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.size:
            raise pickle.UnpicklingError("a storage is not of the length announced")
        storage[:] = np.frombuffer(file.read(storage.nbytes), storage.dtype)
    return state
