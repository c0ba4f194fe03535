"""What a contestant is told, and what it is once it is ready."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.bench.rows import Row
from maskgan_jax.configs import default, default_model

# The ways to run PyTorch on CPUs and on a GPU.
TORCH_VARIANTS = {
    "eager, channels_last": {"compiled": False, "channels_last": True},
    "eager, contiguous": {"compiled": False, "channels_last": False},
    "torch.compile, channels_last": {"compiled": True, "channels_last": True},
    "torch.compile, contiguous": {"compiled": True, "channels_last": False},
}
GPU_TORCH_VARIANTS = {
    "eager, channels_last": {"compiled": False, "channels_last": True},
    "torch.compile, channels_last": {"compiled": True, "channels_last": True},
    "torch.compile, channels_last, CUDA graphs": {"compiled": True, "channels_last": True, "mode": "reduce-overhead"},
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a contestant runs.

    Attributes:
      row: what to measure.
      config: networks, losses and arithmetic.
      folder: where ours leaves the generator for PyTorch's inference.
      variant: a way to run PyTorch; '' for ours.
      compute: 'float32', 'tf32' or 'bfloat16'.
      device: 'cpu', 'gpu', or '' for what JAX finds.
      upsampling: on a GPU, `convolutions.GPU_UPSAMPLING`.
    """

    row: Row
    config: ConfigDict
    folder: Path
    variant: str
    compute: str
    device: str
    upsampling: str


@dataclasses.dataclass(frozen=True)
class Ready:
    """A contestant after its warm-up.

    Attributes:
      run: does a number of steps.
      device_peak: gives the most bytes that it had on the accelerator so far; None on CPUs.
      compile_seconds: from the first call, or for inference from loading the weights, to the first result; includes PyTorch's
        compilation. Neither framework uses a compilation cache.
      backend: what it runs on.
      step_bytes: XLA's arguments and temporaries of the training step.
      output: images of its generator, `[B, S, S, 3]` in [-1, 1]; for inference.
      device: the accelerator's name.
      flops: of a step on an accelerator; see `count_flops`.
    """

    run: Callable[[int], None]
    device_peak: Callable[[], int | None]
    compile_seconds: float
    backend: str
    step_bytes: dict[str, int] | None = None
    output: np.ndarray | None = None
    device: str | None = None
    flops: float | None = None


def config_of(row: Row, compute: str, folder: Path) -> ConfigDict:
    """Networks, losses and arithmetic; a landmark network, if the row has one, lies in `folder`."""
    config = default.get_config()
    if row.work == "unmask":
        config.generator = default_model.get_config().generator
    config.data.size = row.size
    config.input.batch_size = row.batch
    config.generator.width = config.discriminator.width = row.width
    config.training.compute = "bfloat16" if compute == "bfloat16" else "float32"
    if row.work == "proposed":
        config.landmark_net.weights = str(folder / "landmarks.safetensors")
    else:
        config.losses.contour = config.losses.masked = 0.0
    return config


def random_batch(config: ConfigDict) -> dict[str, np.ndarray]:
    """A batch of random records, as arrays by name; speed does not depend on the values."""
    rng = np.random.default_rng(0)
    count, size = config.input.batch_size, config.data.size
    real, masked = rng.integers(0, 256, (2, count, size, size, 3), np.uint8)
    mask = np.where(rng.random((count, size, size, 1)) < 0.3, np.uint8(255), np.uint8(0))
    landmarks = rng.uniform(0, size, (count, 68, 2)).astype(np.float32)
    return {"real": real, "masked": masked, "mask": mask, "landmarks": landmarks}


def generator_inputs(setup: Setup) -> tuple[np.ndarray, ...]:
    """Masked images, and masks for a generator that inpaints."""
    batch = random_batch(setup.config)
    return (batch["masked"], batch["mask"]) if setup.config.generator.inpaints else (batch["masked"],)


def cpu_stands_in() -> bool:
    """Whether the CPU is to play the accelerator, as in tests/test_accelerator.py."""
    return os.environ.get("MASKGAN_ACCELERATOR") == "cpu"
