"""Reads PyTorch state dicts without PyTorch, and without running code that a file may contain."""

from __future__ import annotations

import io
import itertools
import math
import os
import pickletools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors

from maskgan_jax.errors import UserError

STORAGE_DTYPES = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("|u1"),
    "BoolStorage": np.dtype("|b1"),
}
# The functions that a state dict's pickle calls.
_FUNCTIONS = _DICT, _TENSOR, _PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
# Operations of pickles that put a value on the stack: the one that follows in the file, or always the same.
_LITERALS = frozenset(
    "BINBYTES BINBYTES8 BINFLOAT BININT BININT1 BININT2 BINSTRING BINUNICODE BINUNICODE8 FLOAT INT LONG LONG1 LONG4 "
    "SHORT_BINBYTES SHORT_BINSTRING SHORT_BINUNICODE STRING UNICODE".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Mappings in a file, at most: one that holds itself has no end.
_MOST_MAPPINGS = 100_000
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

    Only plain tensors are read; a pickle that names anything else is refused, and none is ever run. Of a checkpoint that holds
    state dicts among other things, the arrays have names such as `state_dict.model.0.weight`.

    Returns:
      The arrays by name, in PyTorch's layout (convolutions `[out, in, height, width]`).

    Raises:
      UserError: the bytes are damaged, or hold something other than a state dict.
    """
    try:
        if data[8:9] == b"{":
            return {
                name: np.frombuffer(tensor["data"], _safetensors_dtype(tensor["dtype"])).reshape(tensor["shape"])
                for name, tensor in safetensors.deserialize(data)
            }
        state = _read_zip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _read_legacy(data)
        arrays = dict(_arrays(state, "", itertools.count())) if isinstance(state, dict) else {}
    except Exception as error:  # A damaged or hostile file can fail in almost any way.
        reason = "it takes more memory than there is" if isinstance(error, MemoryError) else " ".join(str(error).split())
        raise UserError(f"not a readable state dict ({reason:.200})") from error
    if not arrays:
        raise UserError("not a state dict (a mapping from names to tensors); save `model.state_dict()`")
    return arrays


def _safetensors_dtype(name: str) -> np.dtype:
    """The type that a safetensors file calls `F32`, for example. Its own reader for NumPy has no bfloat16."""
    special = {"BF16": ml_dtypes.bfloat16, "BOOL": np.bool_}.get(name)
    return np.dtype(special or f"{name[0].lower()}{int(name[1:]) // 8}")


def _arrays(state: Any, name: str, mappings: Iterator[int]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in mappings of mappings, by their names with dots; numbers and texts beside them are left out."""
    if isinstance(state, np.ndarray):
        yield name, state
    elif isinstance(state, dict):
        if next(mappings) == _MOST_MAPPINGS:
            raise ValueError("its mappings have no end")
        for key, value in state.items():
            yield from _arrays(value, f"{name}.{key}" if name else str(key), mappings)


class _State:
    """Reads the pickles of one file of `torch.save` into dictionaries and arrays: nothing that a pickle names is ever run.

    Python's own reader is not used: of a pickle of a few bytes it can allocate all memory, and compute for ever.

    The arrays are empty at first: `storages` holds their memory by key, to be filled from the rest of the file.
    """

    def __init__(self, size: int):
        self.size = size
        self.storages: dict[str, np.ndarray] = {}
        # Of all storages, and of all tensors, which may be views of the same storage.
        self._left, self._left_in_views = size, 16 * size

    def read(self, file: BinaryIO) -> Any:
        """The value of the pickle that begins where `file` is; `file` is then behind it."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def pop(start: int) -> list[Any]:
            items = stack[start:]
            del stack[start:]
            return items

        for operation, argument, _ in pickletools.genops(file):
            name = operation.name
            if name in _LITERALS:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in ("EMPTY_DICT", "EMPTY_LIST"):
                stack.append({} if name == "EMPTY_DICT" else [])
            elif name == "MARK":
                marks.append(len(stack))
            elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo[argument])
            elif name in ("TUPLE", "LIST", "DICT"):
                items = pop(marks.pop())
                stack.append(tuple(items) if name == "TUPLE" else items if name == "LIST" else _add({}, items))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                stack.append(tuple(pop(-int(name[-1]))))
            elif name in ("APPEND", "APPENDS"):
                items = pop(marks.pop() if name == "APPENDS" else -1)
                stack[-1].extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = pop(marks.pop() if name == "SETITEMS" else -2)
                _add(stack[-1], items)
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                stack.append(_named(argument if name == "GLOBAL" else " ".join(pop(-2))))
            elif name == "BINPERSID":
                stack.append(self._storage(*stack.pop()))
            elif name == "REDUCE":
                function, arguments = pop(-2)
                stack.append(self._made(function, *arguments))
            elif name == "BUILD":  # Attributes, such as the versions of modules.
                stack.pop()
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"it has {name} in its pickle, which no state dict needs")

    def _storage(self, kind: str, dtype: np.dtype, key: str, _: Any, count: int, view: Any = None) -> np.ndarray:
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise ValueError("it holds a kind of storage that is not supported")
        if key not in self.storages:
            needed = count * dtype.itemsize
            if not 0 <= needed <= self._left:
                raise ValueError("a tensor is larger than the file")
            self._left -= needed
            self.storages[key] = np.zeros(count, dtype)
        return self.storages[key]

    def _made(self, function: str, *arguments: Any) -> Any:
        """What one of `_FUNCTIONS` gives; what else it is given (gradient, hooks) is not needed."""
        if function == _DICT:
            return _add({}, [item for pair in arguments for item in itertools.chain.from_iterable(pair)])
        if function == _PARAMETER:
            return arguments[0]
        if function != _TENSOR:
            raise ValueError("it calls what is no function")
        storage, offset, shape, strides, *_ = arguments
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        count = math.prod(shape)
        if min((offset, *shape, *strides)) < 0 or (count and last >= storage.size):
            raise ValueError("a tensor reaches beyond its storage")
        self._left_in_views -= count * storage.itemsize
        if self._left_in_views < 0:
            raise ValueError("its tensors are larger than the file")
        strides = [stride * storage.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


def _named(name: str) -> Any:
    """What a pickle names, as `module name`: a type of numbers, or the name itself of a function."""
    module, _, what = name.partition(" ")
    if module == "torch" and what in STORAGE_DTYPES:
        return STORAGE_DTYPES[what]
    if name not in _FUNCTIONS:
        raise ValueError(f"it names {module}.{what}, which no state dict needs")
    return name


def _add(mapping: dict, items: Sequence[Any]) -> dict:
    """`mapping` with more keys and values, which are in turns in `items`; what has no text or number as its key is left out."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, str | int | float):  # To hash a tuple of tuples can take for ever.
            mapping[key] = value
    return mapping


def _read_zip(data: bytes) -> Any:
    """The format since torch 1.6: a zip file with `data.pkl` and one raw file for each storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickled = [name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl"]
        if not pickled:
            raise ValueError("a zip file without data.pkl")

        def read(name: str, size: int) -> bytes:
            if archive.getinfo(name).file_size > size:  # It is never compressed.
                raise ValueError(f"{name} in it is too large")
            return archive.read(name)

        folder = pickled[0].removesuffix("data.pkl")
        reader = _State(len(data))
        state = reader.read(io.BytesIO(read(pickled[0], len(data))))
        for key, storage in reader.storages.items():
            storage[:] = np.frombuffer(read(f"{folder}data/{key}", storage.nbytes), storage.dtype)
    return state


def _read_legacy(data: bytes) -> Any:
    """The format before torch 1.6: pickles of magic number, version, machine, state and keys, then the storages."""
    file, reader = io.BytesIO(data), _State(len(data))
    magic, protocol, _ = (reader.read(file) for _ in range(3))
    if (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise ValueError("not written by torch.save")
    state = reader.read(file)
    for key in reader.read(file):
        storage = reader.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.size:
            raise ValueError("a storage is not of the length announced")
        storage[:] = np.frombuffer(file.read(storage.nbytes), storage.dtype)
    return state
