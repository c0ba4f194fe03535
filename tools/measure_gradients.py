"""Measures the gradient that each term of Eq. 3 sends into the generator's output, to choose the weights by.

    python tools/measure_gradients.py --config=configs/cpu.py --data_dir=DATA --workdir=RUN \\
        --config.landmark_net.weights=LANDMARKS

reads the latest checkpoint of a run (train it for a few hundred steps first), and changes nothing there. For each term, with
weight 1 and with its weight in the config, it prints the L2 norm of the gradient in one generated picture, inside the masked
region and in all of it. What reaches the generator's output is what can be compared: from there on, the way back is the same
for all terms.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from maskgan_jax.config import load_config
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.pipeline import training_batches
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.images import binary_mask, normalize
from maskgan_jax.losses import TERMS, Context, Judgement
from maskgan_jax.networks.run_checkpoints import read_state
from maskgan_jax.networks.stored import checkpoint_of
from maskgan_jax.training.gan import GAN


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, measures, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--batches", type=int, default=8)
    flags, overrides = parser.parse_known_args(arguments)
    if flags.batches < 1:
        raise UserError(f"--batches={flags.batches}: give at least 1")
    config = load_config(flags.config, overrides)
    if Path(flags.workdir).is_file():
        raise UserError(f"{flags.workdir} is a file; give the workdir of a run")
    task = GAN(config)
    batches = training_batches(load_split(flags.data_dir, "train"), config)
    # Not with Orbax's manager, which tidies up the folder: the run may still be at work there.
    state = read_state(checkpoint_of(flags.workdir, "last"))
    params, batch_stats = state["params"], state["batch_stats"]
    if jax.tree.map(jnp.shape, (params, batch_stats)) != jax.tree.map(jnp.shape, jax.eval_shape(task.init, jax.random.key(0))):
        raise UserError(f"the checkpoint in {flags.workdir} does not fit the config; give the config of its run")

    @jax.jit
    def gradients(batch):
        masked, real, mask = normalize(batch["masked"]), normalize(batch["real"]), binary_mask(batch["mask"])
        variables = {"params": params["generator"], "batch_stats": batch_stats}
        generated = task.generator.apply(variables, masked, mask)
        networks = task.networks(task.frozen, mask, jax.random.key(0))
        landmarks = networks["contour"](real) if "contour" in networks else None

        def judge(image):
            judged = {}
            for name, discriminator in task.discriminators.items():
                condition = discriminator.view(image, masked, mask)
                judged[name] = Judgement(*discriminator.module.apply({"params": params[name]}, *condition))
            return judged

        def value(term, image):
            return TERMS[term](Context(image, real, masked, mask, judge(image), judge(real), landmarks, networks))

        def norm(gradient):
            # The loss is a mean over the batch; each image's own gradient is as many times larger.
            return (jnp.linalg.norm((gradient * len(masked)).reshape(len(masked), -1), axis=1)).mean()

        measured = {}
        for term in dict.fromkeys((*task.terms, "feature_matching")):
            result, gradient = jax.value_and_grad(partial(value, term))(generated)
            measured[term] = (result, norm(gradient * mask), norm(gradient))
        return measured

    measured = [jax.device_get(gradients(next(batches))) for _ in range(flags.batches)]
    print(f"after {int(state['step'])} steps, {flags.batches} batches of {config.input.batch_size}")
    print(f"{'term':12} {'value':>10} {'in region':>12} {'whole':>12}   weight {'weighted, in region':>20} {'whole':>10}")
    for name in sorted(measured[0]):
        value, inside, whole = np.mean([batch[name] for batch in measured], axis=0)
        weight = config.losses[name]
        print(
            f"{name:12} {value:10.4g} {inside:12.4g} {whole:12.4g} {weight:8g} {weight * inside:20.4g} {weight * whole:10.4g}"
        )


if __name__ == "__main__":
    sys.exit(exit_code("measure_gradients", main))
