"""What is told of devices that JAX cannot use, or whose memory is too small."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from maskgan_jax.errors import UserError


@contextlib.contextmanager
def device_errors(program: str) -> Iterator[None]:
    """Raises UserError if JAX cannot use the devices that JAX_PLATFORMS asks for, or if their memory runs out.

    Args:
      program: such as 'maskgan train', for what to do about the memory.
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition(" (")[0].strip().rstrip(".")  # What follows is advice.
        # By its name: JAX, which takes seconds to import, may not be there. Orbax has the same words for a full disk.
        if type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in reason:
            told = reason.partition("RESOURCE_EXHAUSTED: ")[2].partition("\n")[0]
            advice = "end other programs that use it, or set JAX_PLATFORMS=cpu"
            if program == "maskgan train":
                advice = "lower input.batch_size, or raise optimizer.accumulate or training.fsdp"
            raise UserError(f"the memory of the device is too small ({told:.200}); {advice}") from error
        platforms = os.environ.get("JAX_PLATFORMS")
        # For CUDA without a driver, JAX 0.10 raises an AssertionError without a message: ask it again.
        if not platforms or not ("nable to initialize backend" in reason or (not reason and _has_no_device())):
            raise
        raise UserError(
            f"JAX cannot use what JAX_PLATFORMS={platforms} asks for{reason and f' ({reason})'}; leave JAX_PLATFORMS unset, or "
            "set it to cpu"
        ) from error


def _has_no_device() -> bool:
    jax = sys.modules.get("jax")
    try:
        return jax is not None and not jax.devices()
    except (RuntimeError, AssertionError):
        return True
