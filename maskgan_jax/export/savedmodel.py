"""A trained network as TensorFlow's SavedModel, by jax2tf."""

from __future__ import annotations

from pathlib import Path

from maskgan_jax.errors import UserError
from maskgan_jax.export.functions import exported_function
from maskgan_jax.files import replacing_folder
from maskgan_jax.networks.stored import StoredNetwork


def save_savedmodel(path: str | Path, network: StoredNetwork, batch: int | None = None) -> None:
    """Writes `network` as a SavedModel whose only signature takes and gives what `exported_function` does.

    Args:
      path: the folder, which must not be there yet.
      network: what to export.
      batch: a fixed batch, or None for any.

    Raises:
      UserError: TensorFlow is not installed, or the folder is there already or cannot be written.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError("SavedModel needs TensorFlow: pip install 'maskgan_jax[tensorflow]'") from error
    from jax.experimental import jax2tf

    inputs, (output,) = network.description.inputs(), network.description.output()
    polymorphic = None if batch else [f"(batch, {', '.join(map(str, shape))})" for shape in inputs.values()]
    converted = jax2tf.convert(
        exported_function(network),
        polymorphic_shapes=polymorphic,
        native_serialization_platforms=("cpu", "cuda", "tpu"),
        with_gradient=False,  # It is for use, not for training.
    )
    module = tf.Module()
    module.run = tf.function(
        lambda *arrays: {output: converted(*arrays)},
        autograph=False,
        input_signature=[tf.TensorSpec((batch, *shape), tf.float32, name) for name, shape in inputs.items()],
    )
    function = module.run.get_concrete_function()
    with replacing_folder(path) as temporary:
        try:
            tf.saved_model.save(module, str(temporary), signatures=function)
        except tf.errors.OpError as error:  # Of a full disk, for one. Before the reason stands the temporary file.
            raise OSError(error.message.rpartition("; ")[2]) from error
