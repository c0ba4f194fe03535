import jax
import jax.export
import numpy as np
import pytest

from maskgan_jax.export.stablehlo import save_stablehlo


def test_stablehlo_for_any_batch_and_platform(network, inputs, expected, assert_close, tmp_path):
    save_stablehlo(tmp_path / "network", network)
    loaded = jax.export.deserialize(bytearray((tmp_path / "network").read_bytes()))
    assert loaded.platforms == ("cpu", "cuda", "tpu")
    assert_close(np.asarray(loaded.call(*inputs)), expected)
    assert_close(np.asarray(loaded.call(*(array[:1] for array in inputs))), expected[:1])


def test_stablehlo_for_one_batch(network, inputs, tmp_path):
    save_stablehlo(tmp_path / "network", network, batch=2)
    loaded = jax.export.deserialize(bytearray((tmp_path / "network").read_bytes()))
    assert loaded.in_avals[0].shape[0] == 2
    with pytest.raises(ValueError, match="shape"):
        loaded.call(*inputs)
