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
    rows = {Row("proposed", 64, 4, 2): EAGER, Row("unmask", 64, 4, 2): (EAGER[0], COMPILED)}
    return measured("TORCH_VARIANTS", TORCH_VARIANTS, rows)


@pytest.fixture(scope="session")
def gpu_result():
    """As on a GPU, for which the CPU stands in."""
    rows = {Row("pix2pix", 64, 4, 2): EAGER[:1], Row("inference", 64, 4, 2): (EAGER[0], COMPILED)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKGAN_ACCELERATOR", "cpu")
        return measured("GPU_TORCH_VARIANTS", GPU_TORCH_VARIANTS, rows, device="gpu", upsampling="phases", peak=1e12)


def measured(table, variants, names_by_row, **options):
    """What `measure` gives for rows, each with PyTorch's variants of these names only, which are in a table of its module."""
    against = "torch" if importlib.util.find_spec("torch") else None
    rows = {}
    for row, names in names_by_row.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(measuring, table, {name: variants[name] for name in names})
            patch.setenv("CXX", "/nonexistent")
            result = measuring.measure([row], against=against, pairs=2, seconds=0.05, **options)
        rows |= result["rows"]
    return {**result, "rows": rows}
