import zlib

import jax
import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.networks import run_checkpoints
from maskgan_jax.networks.run_checkpoints import checksums, latest, read_best
from maskgan_jax.training import checkpoints


def test_reading_leaves_a_save_in_progress_alone(tmp_path):
    with checkpoints.open_best(tmp_path) as best:
        checkpoints.save_best(best, 1, {"params": {"a": np.full(3, 1, np.float32)}}, {"error": 1.0})
    unfinished = tmp_path / "best" / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert read_best(tmp_path)["params"]["a"].tolist() == [1, 1, 1]
    assert unfinished.exists()


def test_reading_makes_no_folders(tmp_path):
    with pytest.raises(UserError, match="holds no trained network yet"):
        read_best(tmp_path)
    (tmp_path / "best").mkdir()
    with pytest.raises(UserError, match="holds no trained network yet"):
        read_best(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["best"]


def test_latest_is_the_last_finished_step(tmp_path):
    assert latest(tmp_path) is None
    for name in ("9", "10", "11.orbax-checkpoint-tmp-3", "notes"):
        (tmp_path / name).mkdir()
    assert latest(tmp_path) == tmp_path / "10"


def test_arrays_that_are_said_to_be_enormous(tmp_path, monkeypatch):
    """Of a few bytes, the storage makes as many zeros as the files say there are."""
    with checkpoints.open_best(tmp_path) as best:
        checkpoints.save_best(best, 1, {"params": {"a": np.zeros((3000, 3000), np.float32)}}, {"error": 1.0})
    monkeypatch.setattr(run_checkpoints, "MOST_COMPRESSED", 100)
    with pytest.raises(UserError, match="cannot be read .its arrays are said to be far larger than its files"):
        read_best(tmp_path)


def test_checksums_are_crc32_of_each_array():
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.int32(5), "d": jax.numpy.ones(3, "bfloat16")}}
    expected = sorted(zlib.crc32(np.asarray(leaf).tobytes()) for leaf in (tree["a"], tree["b"]["c"], tree["b"]["d"]))
    assert checksums(tree) == checksums(jax.tree.map(jax.device_put, tree)) == expected
    tree["a"] = tree["a"].copy()
    tree["a"][1, 2] = np.nextafter(tree["a"][1, 2], 9)
    assert checksums(tree) != expected
