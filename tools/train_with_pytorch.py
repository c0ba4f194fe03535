"""Trains in PyTorch what a run of `maskgan train` has trained, to see whether both frameworks come out alike.

    maskgan train --config=pix2pix --data_dir=DATA --workdir=RUN
    python tools/train_with_pytorch.py RUN --data_dir=DATA --out=FOLDER
    maskgan evaluate --data_dir=DATA --workdir=FOLDER/generator.safetensors --out=scores.json

Initial weights, batches and their order, learning rates and the number of steps are the run's, by the config in its workdir;
only dropout is drawn by PyTorch. Writes `generator.safetensors`, `terms.json` with the terms of the loss, means over the steps
between two lines of the run's log, and `losses.png`, with both curves of each term in one panel. For the paper's networks, in
float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.config import read_config, read_digests
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.pipeline import training_batches
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import check_writable, replacing, write_json
from maskgan_jax.networks.safetensors import save_safetensors
from maskgan_jax.networks.stored import load_network
from maskgan_jax.run_files import CONFIG, METRICS, read_curves
from maskgan_jax.training import resuming
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.loop import Plan
from maskgan_jax.training.step import create_state, learning_rate

# Terms that are drawn, and what they are called.
TERMS = {
    "discriminator": "discriminator's loss",
    "adversarial": "generator's adversarial loss",
    "l1": "L1",
    "masked": "squared error in the mask (C2)",
    "contour": "contour landmarks (C1)",
}
# {term: (steps, values)}.
Curves = dict[str, tuple[list[int], list[float]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, trains, writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="workdir of a finished run of maskgan train")
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="the data set it was trained on")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, metavar="N", help="of PyTorch's dropout (default: the run's)")
    flags = parser.parse_args(arguments)
    config = read_config(flags.run / CONFIG)
    check(config)
    for module, extra in (("torch", "torch"), ("matplotlib", "study")):
        if not importlib.util.find_spec(module):
            raise UserError(f"this needs {module}: pip install 'maskgan_jax[{extra}]'")
    theirs = terms_of(flags.run)
    check_writable(flags.out / "generator.safetensors")
    seed = config.seed if flags.seed is None else flags.seed
    variables, ours = train(config, read_digests(flags.run / CONFIG), flags.data_dir, theirs["l1"][0], seed)
    save_safetensors(flags.out / "generator.safetensors", variables, config.to_dict())
    write_json(flags.out / "terms.json", ours)
    draw(flags.out / "losses.png", {"JAX": theirs, "PyTorch": ours})
    print(f"network, terms of the loss and their curves are in {flags.out}")


def check(config: ConfigDict) -> None:
    """Raises UserError if the config asks for what the networks and the step in PyTorch do not have."""
    alike = {
        "task": "unmask",
        "generator.architecture": "unet",
        "generator.norm": "instance",
        "generator.upsampling": "transposed",
        "generator.inpaints": False,
        "generator.weights": "",
        "discriminator.norm": "instance",
        "discriminator.augment": False,
        "losses.perceptual": 0.0,
        "losses.perceptual_vgg": 0.0,
        "losses.ssim": 0.0,
        "losses.feature_matching": 0.0,
        "losses.gradient_penalty": 0.0,
        "optimizer.ema": 0.0,
        "optimizer.accumulate": 1,
        "training.compute": "float32",
        "training.not_finite": "stop",
    }
    for name, value in alike.items():
        section, _, field = name.rpartition(".")
        found = (config[section] if section else config)[field]
        if found != value:
            raise UserError(f"the run has {name}={found!r}; the step in PyTorch is for {value!r} only")


def train(
    config: ConfigDict, digests: Mapping[str, str], data_dir: str, logged: Sequence[int], seed: int
) -> tuple[Mapping, Curves]:
    """The variables of the generator after the run, and the means of each term up to each of the steps `logged`.

    Args:
      config: the run's.
      digests: of the data set and the landmark network that it was trained with.
      data_dir: the data set.
      logged: the steps that have a line in the run's log.
      seed: of dropout.

    Raises:
      UserError: the data set or the landmark network is missing or another one, or the log does not end where the run does.
    """
    import torch

    from maskgan_jax.pytorch import convert, networks
    from maskgan_jax.pytorch.training import create_train_step

    def load(network: torch.nn.Module, state: Mapping[str, np.ndarray]) -> torch.nn.Module:
        network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
        return network

    records = load_split(data_dir, "train")
    steps = Plan.of(config, len(records)).steps
    if logged[-1] != steps:
        raise UserError(f"the run has {steps} steps, and its log ends with step {logged[-1]}; let it come to its end first")
    task = GAN(config)
    found = resuming.digests(task, data_dir)
    for name, what in (("data", f"data set than {data_dir}"), ("landmark_net", "landmark network than its config names")):
        if digests.get(name) != found.get(name):
            raise UserError(f"the run was trained with another {what}; give it back what it was trained with")
    # As training/loop.py begins.
    init_key, _ = jax.random.split(jax.random.key(config.seed))
    params = jax.jit(lambda key: create_state(task, config, steps, key))(init_key).params
    generator = load(networks.create_generator(config), convert.generator_to_pytorch({"params": params["generator"]}))
    discriminator_state = convert.discriminator_to_pytorch({"params": params["discriminator"]})
    discriminator = load(networks.create_discriminator(config), discriminator_state)
    landmark_net = None
    if config.losses.contour:
        stored = load_network(config.landmark_net.weights, "landmarks")
        if stored.description.size != config.data.size:
            raise UserError(
                f"{config.landmark_net.weights} is for faces of {stored.description.size} px; the run needs its size"
            )
        with_width = config.copy_and_resolve_references()
        with_width.landmark_net.width = stored.config["landmark_net"]["width"]
        state = convert.twin_to_pytorch(stored.variables, config.data.size)
        landmark_net = load(networks.create_landmark_net(with_width), state)
    torch.manual_seed(seed)
    # Not in channels_last, which is faster, but in which PyTorch's norms are less exact (maskgan_jax/pytorch/networks.py).
    step_of_run = create_train_step(
        config, generator, discriminator, landmark_net, rate=learning_rate(config, steps), channels_last=False
    )

    curves: Curves = {}
    ends = set(logged)
    pending: list[dict[str, torch.Tensor]] = []
    batches = training_batches(records, config)
    for step, batch in zip(tqdm(range(1, steps + 1), "train with PyTorch", unit="step"), batches, strict=False):
        pending.append(step_of_run({name: array for name, array in batch.items() if name != "index"}))
        if step in ends:
            for name in pending[0]:
                places, values = curves.setdefault(name, ([], []))
                places.append(step)
                values.append(float(torch.stack([terms[name] for terms in pending]).mean()))
            pending = []
    state = {name: tensor.detach().numpy() for name, tensor in generator.state_dict().items()}
    return convert.generator_from_pytorch(state), curves


def terms_of(run: Path) -> Curves:
    """The terms in the log of a run. Raises UserError if there are none."""
    logged = read_curves(run, "train")
    if "l1" not in logged:
        raise UserError(f"{run / METRICS} has no steps of a mask remover; give the workdir of a run of maskgan train")
    return {name: logged[name] for name in TERMS if name in logged}


def draw(path: Path, runs: Mapping[str, Curves]) -> None:
    """Writes a PNG with a panel for each term and a line for each run."""
    from matplotlib.figure import Figure

    terms = [name for name in TERMS if any(name in curves for curves in runs.values())]
    figure = Figure((4 * len(terms), 3.2), layout="constrained")
    for axes, term in zip(figure.subplots(1, len(terms), squeeze=False).flat, terms, strict=True):
        for name, curves in runs.items():
            if term in curves:
                axes.plot(*curves[term], linewidth=1, label=name)
        axes.set(title=TERMS[term], xlabel="steps", yscale="log")
        axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")


if __name__ == "__main__":
    sys.exit(exit_code("train_with_pytorch", main))
