"""Compares outputs and gradients of a training step on this machine's accelerator with the same on its CPU; prints JSON lines.

python tools/gpu_kit/numerics.py --config=pix2pix
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.config import load_config
from maskgan_jax.errors import exit_code
from maskgan_jax.training.gan import GAN

BATCH = 4
# How a step may compute: training.compute, and JAX's precision of float32 products.
ARITHMETIC = {"float32": ("float32", "highest"), "tf32": ("float32", "default"), "bfloat16": ("bfloat16", "default")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, computes, prints a line for each arithmetic."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="pix2pix", help="a config file; settings: --config.KEY=VALUE")
    flags, overrides = parser.parse_known_args(arguments)
    config = load_config(flags.config, overrides)
    expected = gradients_on_cpu(config)
    for arithmetic in ARITHMETIC:
        errors = errors_of_gradients(config, arithmetic, expected)
        device = jax.devices()[0].device_kind
        print(json.dumps({"config": flags.config, "device": device, "arithmetic": arithmetic, **errors}), flush=True)


def gradients_on_cpu(config: ConfigDict) -> dict[str, list[np.ndarray]]:
    """What `errors_of_gradients` compares with: the gradients of a step on the machine's CPU, in float32."""
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        return _gradients(config, "float32")


def errors_of_gradients(config: ConfigDict, arithmetic: str, expected: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """`relative_error` of the gradients that the accelerator computes in one of `ARITHMETIC`, for each network."""
    compute, precision = ARITHMETIC[arithmetic]
    with jax.default_matmul_precision(precision):
        found = _gradients(config, compute)
    return {name: relative_error(found[name], expected[name]) for name in expected}


def _gradients(config: ConfigDict, compute: str) -> dict[str, list[np.ndarray]]:
    """The generator's and the discriminator's gradients, and the terms of the loss."""
    config = ConfigDict(config.to_dict())
    config.training.compute = compute
    task = GAN(config)
    # Drawn by NumPy: the same on every device.
    rng = np.random.default_rng(0)
    shapes, statistics = jax.eval_shape(task.init, jax.random.key(0))

    def draw(path, leaf):
        middle = 1.0 if path[-1].key in ("scale", "variance") else 0.0
        return jnp.asarray(middle + 0.04 * rng.standard_normal(leaf.shape), jnp.float32)

    params = jax.tree.map_with_path(draw, shapes)
    batch_stats = jax.tree.map_with_path(lambda path, leaf: jnp.zeros(leaf.shape) + (path[-1].key == "variance"), statistics)
    side = config.data.size
    smooth = rng.standard_normal((2, BATCH, 8, 8, 3)).repeat(side // 8, 2).repeat(side // 8, 3)
    images = np.clip(127 + 60 * smooth + 8 * rng.standard_normal(smooth.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((BATCH, side, side, 1), np.uint8)
    mask[:, side // 2 :, side // 4 : 3 * side // 4] = 255
    batch = {"real": images[0], "masked": images[1], "mask": mask, "landmarks": np.zeros((BATCH, 68, 2), np.float32)}
    batch["progress"] = np.float32(1)
    gradients, _, terms = jax.jit(task.gradients)(params, batch_stats, task.frozen, batch, jax.random.key(1))
    return {
        "terms": [np.asarray(terms[name]) for name in ("generator", "discriminator")],
        **{name: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for name, tree in gradients.items()},
    }


def relative_error(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """The norm of the difference over the norm of what is expected, all arrays together."""
    difference = sum(float(np.square(f.astype(np.float64) - e).sum()) for f, e in zip(found, expected, strict=True))
    return (difference / sum(float(np.square(e, dtype=np.float64).sum()) for e in expected)) ** 0.5


if __name__ == "__main__":
    sys.exit(exit_code("numerics", main))
