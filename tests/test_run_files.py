import subprocess
import sys

from maskgan_jax.run_files import read_curves


def test_curves_survive_a_line_that_was_cut(tmp_path):
    assert read_curves(tmp_path, "train") == {}
    (tmp_path / "metrics.jsonl").write_bytes(
        b'{"step": 1, "phase": "train", "l1": 0.5}\n'
        b'{"step": 2, "phase": "train", "l1": 0.4, "rate": 1.0}\n'
        b"\xff\xfe no text\n"
        b'{"step": 2, "phase": "validation", "error": 3.0}\n'
        b'{"step": 3, "phase": "train", "l1'
    )
    assert read_curves(tmp_path, "train") == {"l1": ([1, 2], [0.5, 0.4]), "rate": ([2], [1.0])}
    assert read_curves(tmp_path, "validation") == {"error": ([2], [3.0])}


def test_jax_is_not_needed():
    program = "import sys, maskgan_jax.run_files; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
