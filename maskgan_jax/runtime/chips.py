"""What the common accelerators can do, from their makers' data sheets: to tell what fraction of it a program reaches."""

from __future__ import annotations

import re
from typing import NamedTuple


class Chip(NamedTuple):
    """An accelerator, as JAX counts them.

    Attributes:
      name: as JAX calls it (`device_kind`), or the words that it begins with.
      memory: bytes.
      bfloat16: peak of dense matrix products, FLOP/s (of NVIDIA's figures "with sparsity", half).
      tf32: the same for what NVIDIA's GPUs make of float32, unless told otherwise; None where there is no such type.
      float32: the same in full precision; None for TPUs, which compose it of bfloat16.
    """

    name: str
    memory: int
    bfloat16: float | None
    tf32: float | None
    float32: float | None

    def peak(self, compute: str) -> float | None:
        """FLOP/s that a run can reach whose `training.compute` is 'bfloat16' or 'float32'; None if there is no figure.

        With JAX's default precision, a product of float32 is one of TF32 on NVIDIA's GPUs, and one of bfloat16 on TPUs.
        """
        if compute == "float32":
            return self.tf32 or self.float32 or self.bfloat16
        return self.bfloat16


_GIB, _TERA = 2**30, 1e12

# NVIDIA's data sheets (H100, H200, A100, L4, T4, V100) and Google's pages on Cloud TPU. A name that another one begins with
# comes after it.
CHIPS = (
    Chip("NVIDIA H100 PCIe", 80 * _GIB, 756 * _TERA, 378 * _TERA, 51 * _TERA),
    Chip("NVIDIA H100 NVL", 94 * _GIB, 835 * _TERA, 417 * _TERA, 60 * _TERA),
    Chip("NVIDIA H100", 80 * _GIB, 989 * _TERA, 494 * _TERA, 67 * _TERA),
    Chip("NVIDIA H200 NVL", 141 * _GIB, 835 * _TERA, 417 * _TERA, 60 * _TERA),
    Chip("NVIDIA H200", 141 * _GIB, 989 * _TERA, 494 * _TERA, 67 * _TERA),
    Chip("NVIDIA A100-SXM4-80GB", 80 * _GIB, 312 * _TERA, 156 * _TERA, 19.5 * _TERA),
    Chip("NVIDIA A100 80GB", 80 * _GIB, 312 * _TERA, 156 * _TERA, 19.5 * _TERA),
    Chip("NVIDIA A100", 40 * _GIB, 312 * _TERA, 156 * _TERA, 19.5 * _TERA),
    Chip("NVIDIA L40S", 48 * _GIB, 362 * _TERA, 183 * _TERA, 91.6 * _TERA),
    Chip("NVIDIA L4", 24 * _GIB, 121 * _TERA, 60 * _TERA, 30.3 * _TERA),
    Chip("Tesla T4", 16 * _GIB, None, None, 8.1 * _TERA),
    Chip("Tesla V100-SXM2-32GB", 32 * _GIB, None, None, 15.7 * _TERA),
    Chip("Tesla V100-PCIE", 16 * _GIB, None, None, 14 * _TERA),
    Chip("Tesla V100", 16 * _GIB, None, None, 15.7 * _TERA),
    Chip("TPU v4", 32 * _GIB, 275 * _TERA, None, None),
    # JAX has two names for each of these.
    Chip("TPU v5 lite", 16 * _GIB, 197 * _TERA, None, None),
    Chip("TPU v5e", 16 * _GIB, 197 * _TERA, None, None),
    Chip("TPU v5", 95 * _GIB, 459 * _TERA, None, None),
    Chip("TPU v5p", 95 * _GIB, 459 * _TERA, None, None),
    Chip("TPU v6 lite", 32 * _GIB, 918 * _TERA, None, None),
    Chip("TPU v6e", 32 * _GIB, 918 * _TERA, None, None),
)


def chip_of(device_kind: str) -> Chip | None:
    """The chip that JAX calls so (`jax.devices()[0].device_kind`); None for one that is not in the table."""
    return next((chip for chip in CHIPS if re.match(rf"{chip.name}\b", device_kind)), None)
