import pytest

from maskgan_jax.bench.table import format_table

OURS = {"images_per_second": 12.345, "compile_seconds": 3.21, "peak_resident_bytes": 2.5e9}
THEIRS = {"images_per_second": 10.0, "compile_seconds": 0.4, "peak_resident_bytes": None, "variant": "eager, contiguous"}


def test_alone():
    step = {**OURS, "step_bytes_per_image": 1.23e7}
    lines = format_table(
        {"target": 1.2, "rows": {"128/pix2pix": {"maskgan": step}, "128/inference-1": {"maskgan": OURS}}}
    ).splitlines()
    assert lines == [
        "row              images/s  step MB/image  peak MB  compile s",
        "128/pix2pix      12.35     12.3           2500     3.2",
        "128/inference-1  12.35     -              2500     3.2",
    ]


@pytest.mark.parametrize(("met", "word"), [(True, "met"), (False, "MISSED")])
def test_against_pytorch(met, word):
    row = {
        "maskgan": OURS,
        "torch": THEIRS,
        "ratio": 1.2345,
        "ratio_range": [1.1, 1.3],
        "met": met,
        "output_difference": 3.14e-6,
    }
    header, line = format_table({"target": 1.2, "rows": {"256/unmask-1": row}}).splitlines()
    assert header.split() == (
        "row images/s PyTorch ratio (range) target 1.2 step MB/image peak MB compile s difference PyTorch run as".split()
    )
    assert line.split() == [
        "256/unmask-1",
        "12.35",
        "10.00",
        "1.23",
        "(1.10-1.30)",
        word,
        "-",
        "2500",
        "/",
        "-",
        "3.2",
        "/",
        "0.4",
        "3.1e-06",
        "eager,",
        "contiguous",
    ]


def test_on_a_device():
    ours = {**OURS, "peak_device_bytes": 3e9, "flop_utilization": 0.4321}
    header, line = format_table({"target": 1.2, "rows": {"256/pix2pix-64": {"maskgan": ours, "flops": 1e12}}}).splitlines()
    assert "device MB" in header and "FLOP utilization" in header
    assert line.split() == ["256/pix2pix-64", "12.35", "-", "2500", "3000", "43.2%", "3.2"]
