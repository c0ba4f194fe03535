"""What was measured once, for all tests of it."""

import importlib.util

import pytest

from maskgan_jax.bench import measuring
from maskgan_jax.bench.rows import Row
from maskgan_jax.bench.setup import GPU_TORCH_VARIANTS, TORCH_VARIANTS

EAGER = [name for name, options in TORCH_VARIANTS.items() if not options["compiled"]]
COMPILED = "torch.compile, channels_last"


@pytest.fixture(scope="session")
def result():
    """Of all kinds of rows; against PyTorch, if it is installed, as if there were no C++ compiler."""
    against = "torch" if importlib.util.find_spec("torch") else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "TORCH_VARIANTS", {name: TORCH_VARIANTS[name] for name in (*EAGER, COMPILED)})
        patch.setenv("CXX", "/nonexistent")
        return measuring.measure([Row("proposed", 64, 4, 2), Row("unmask", 64, 4, 2)], against=against, pairs=2, seconds=0.05)


@pytest.fixture(scope="session")
def gpu_result():
    """As on a GPU, for which the CPU stands in."""
    against = "torch" if importlib.util.find_spec("torch") else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "GPU_TORCH_VARIANTS", {name: GPU_TORCH_VARIANTS[name] for name in (EAGER[0], COMPILED)})
        patch.setenv("MASKGAN_ACCELERATOR", "cpu")
        patch.setenv("CXX", "/nonexistent")
        rows = [Row("pix2pix", 64, 4, 2), Row("inference", 64, 4, 2)]
        return measuring.measure(rows, against=against, device="gpu", upsampling="phases", peak=1e12, pairs=2, seconds=0.05)
