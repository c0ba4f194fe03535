import pytest

from maskgan_jax.runtime.chips import CHIPS, chip_of


@pytest.mark.parametrize(
    ("kind", "bfloat16", "float32", "gigabytes"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12, 494e12, 80),
        ("NVIDIA H100 PCIe", 756e12, 378e12, 80),
        ("NVIDIA H200", 989e12, 494e12, 141),
        ("NVIDIA A100-SXM4-80GB", 312e12, 156e12, 80),
        ("NVIDIA A100-SXM4-40GB", 312e12, 156e12, 40),
        ("NVIDIA L4", 121e12, 60e12, 24),
        ("Tesla V100-SXM2-16GB", None, 15.7e12, 16),
        ("TPU v5 lite", 197e12, 197e12, 16),
        ("TPU v5e", 197e12, 197e12, 16),
        ("TPU v5", 459e12, 459e12, 95),
        ("TPU v5p", 459e12, 459e12, 95),
        ("TPU v6 lite", 918e12, 918e12, 32),
        ("TPU v6e", 918e12, 918e12, 32),
    ],
)
def test_peaks_of_the_data_sheets(kind, bfloat16, float32, gigabytes):
    chip = chip_of(kind)
    assert (chip.peak("bfloat16"), chip.peak("float32"), chip.memory) == (bfloat16, float32, gigabytes * 2**30)


def test_unknown_chips():
    assert chip_of("cpu") is None and chip_of("NVIDIA L999") is not CHIPS[0]
    # Others than those whose names they begin with.
    assert chip_of("NVIDIA L40") is None and chip_of("TPU v5x") is None and chip_of("TPU v6p") is None


def test_every_name_is_found_as_itself():
    for chip in CHIPS:
        assert chip_of(chip.name) is chip
