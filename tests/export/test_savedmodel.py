import sys

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.export.savedmodel import save_savedmodel


def test_tensorflow_gives_the_same(network, inputs, expected, assert_close, tmp_path):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed (pip install 'maskgan_jax[tensorflow]')")
    save_savedmodel(tmp_path / "network", network)
    loaded = tf.saved_model.load(tmp_path / "network").signatures["serving_default"]
    described = network.description
    for part in (slice(None), slice(1)):
        output = loaded(**{name: array[part] for name, array in zip(described.inputs(), inputs, strict=True)})
        assert_close(output[next(iter(described.output()))].numpy(), expected[part])


def test_missing_package_is_named(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r"pip install 'maskgan_jax\[tensorflow\]'"):
        save_savedmodel(tmp_path / "network", network)
    assert not list(tmp_path.iterdir())


def test_full_disk(network, tmp_path, monkeypatch):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed (pip install 'maskgan_jax[tensorflow]')")

    def save(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "variables.data; No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(UserError, match=r"^cannot write \S*network \(No space left on device\); check"):
        save_savedmodel(tmp_path / "network", network)
    assert not list(tmp_path.iterdir())
