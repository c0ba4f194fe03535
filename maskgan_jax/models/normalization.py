"""The norm layers of pix2pix: over each image, or over the global batch."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskgan_jax.errors import UserError

EPSILON = 1e-5
MOMENTUM = 0.9


class Normalization(nn.Module):
    """Subtracts the mean and divides by the standard deviation of each channel, then scales and shifts.

    `kind` is 'instance' (statistics of each image over its pixels: no traffic between devices), 'batch' (of the whole global
    batch: under a sharded `jit` that is one small all-reduce) or 'none'. With `running=True`, batch norm keeps averages of its
    statistics in the collection `batch_stats`, and uses them where `train` is false. Statistics are float32; the scale starts
    at N(1, 0.02), as in pix2pix.
    """

    kind: str
    running: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        """`[B, H, W, C]` to the same shape and type.

        Raises:
          UserError: `kind` is none of the three.
        """
        if self.kind == "none":
            return x
        if self.kind not in ("instance", "batch"):
            raise UserError(f"there is no norm {self.kind!r}; choose 'instance', 'batch' or 'none'")
        channels = x.shape[-1:]
        scale = self.param("scale", lambda key: 1.0 + 0.02 * jax.random.normal(key, channels))
        bias = self.param("bias", nn.initializers.zeros, channels)
        axes = (1, 2) if self.kind == "instance" else (0, 1, 2)
        if self.kind == "batch" and self.running:
            averages = (
                self.variable("batch_stats", "mean", jnp.zeros, channels),
                self.variable("batch_stats", "variance", jnp.ones, channels),
            )
        else:
            averages = None
        if averages and not train:
            mean, variance = (average.value for average in averages)
        else:
            values = x.astype(jnp.float32)
            mean = values.mean(axes, keepdims=True)
            variance = jnp.square(values - mean).mean(axes, keepdims=True)
            if averages and not self.is_initializing():
                for average, value in zip(averages, (mean, variance), strict=True):
                    average.value = MOMENTUM * average.value + (1 - MOMENTUM) * value.reshape(channels)
        factor = scale * jax.lax.rsqrt(variance + EPSILON)
        return (x * factor + (bias - mean * factor)).astype(x.dtype)
