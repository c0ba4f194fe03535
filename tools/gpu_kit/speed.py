"""Times one training step or inference on a GPU, in JAX or PyTorch; prints a line of JSON.

python tools/gpu_kit/speed.py --framework=jax --work=training --batch=64 --arithmetic=bfloat16
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from maskgan_jax.config import load_config
from maskgan_jax.errors import exit_code

RUNS, WARM_UP = 20, 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, times, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=["jax", "torch", "torch_compiled"], required=True)
    parser.add_argument("--work", choices=["training", "inference"], default="training")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--arithmetic", choices=["float32", "tf32", "bfloat16"], default="bfloat16")
    parser.add_argument("--config", default="pix2pix")
    parser.add_argument("--lock", help="file that is locked while the device is timed: several programs compile at once")
    flags, overrides = parser.parse_known_args(arguments)
    config = load_config(flags.config, overrides)
    config.training.compute = "bfloat16" if flags.arithmetic == "bfloat16" else "float32"
    side = config.data.size
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, flags.batch, side, side, 3), np.uint8)
    mask = np.where(rng.random((flags.batch, side, side, 1)) < 0.3, np.uint8(255), np.uint8(0))
    landmarks = rng.uniform(0, side, (flags.batch, 68, 2)).astype(np.float32)
    batch = {"real": images[0], "masked": images[1], "mask": mask, "landmarks": landmarks}
    started = time.perf_counter()
    prepare = _jax if flags.framework == "jax" else partial(_torch, compiled=flags.framework == "torch_compiled")
    run, wait, facts = prepare(config, batch, flags)
    run()
    wait()
    compile_seconds = time.perf_counter() - started
    times = []
    with _locked(flags.lock):
        for number in range(WARM_UP + RUNS):
            since = time.perf_counter()
            run()
            wait()
            if number >= WARM_UP:
                times.append(time.perf_counter() - since)
        # Without waiting in between, as in training.
        since = time.perf_counter()
        for _ in range(RUNS):
            run()
        wait()
        stream = (time.perf_counter() - since) / RUNS
    row = vars(flags) | {
        "compile_seconds": round(compile_seconds, 1),
        "step_ms": round(1e3 * stream, 3),
        "waited_step_ms": round(1e3 * statistics.median(times), 3),
        "images_per_second": round(flags.batch / stream, 1),
    }
    print(json.dumps({**row, **facts()}), flush=True)


@contextlib.contextmanager
def _locked(path: str | None) -> Iterator[None]:
    if not path:
        yield
        return
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _jax(config: ConfigDict, batch: dict[str, np.ndarray], flags: argparse.Namespace) -> tuple[Callable, Callable, Callable]:
    import jax

    jax.config.update("jax_default_matmul_precision", "highest" if flags.arithmetic == "float32" else "default")
    from maskgan_jax.images import binary_mask, denormalize, normalize
    from maskgan_jax.models.generators import create_generator
    from maskgan_jax.networks.description import Variables
    from maskgan_jax.training.gan import GAN
    from maskgan_jax.training.step import create_state, train_step

    last = {}
    if flags.work == "inference":
        generator = create_generator(config)
        picture = jax.numpy.zeros((1, config.data.size, config.data.size, 3))
        variables = jax.jit(generator.init)(jax.random.key(0), picture, picture[..., :1])
        arguments = jax.device_put((variables, batch))

        def infer(variables: Variables, batch: dict[str, jax.Array]) -> jax.Array:
            return denormalize(generator.apply(variables, normalize(batch["masked"]), binary_mask(batch["mask"])))

        function = jax.jit(infer).lower(*arguments).compile()

        def run() -> None:
            last["out"] = function(*arguments)
    else:
        task = GAN(config)
        state = jax.jit(partial(create_state, task, config, 10**6))(jax.random.key(0))
        arguments = jax.device_put((task.frozen, batch, jax.random.key(1)))
        function = jax.jit(partial(train_step, task, config, 10**6), donate_argnums=0).lower(state, *arguments).compile()
        last["out"] = state

        def run() -> None:
            last["out"], _ = function(last["out"], *arguments)

    def facts() -> dict:
        memory = function.memory_analysis()
        return {
            "device": jax.devices()[0].device_kind,
            "temporary_gib": round(memory.temp_size_in_bytes / 2**30, 2),
            "jax": jax.__version__,
        }

    return run, lambda: jax.block_until_ready(last["out"]), facts


def _torch(
    config: ConfigDict, batch: dict[str, np.ndarray], flags: argparse.Namespace, compiled: bool
) -> tuple[Callable, Callable, Callable]:
    import torch

    from maskgan_jax.pytorch import networks, training

    torch.backends.cudnn.benchmark = True
    allowed = flags.arithmetic != "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tensors = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
    generator = training.set_memory_format(networks.create_generator(config).to(device), True)
    if flags.work == "inference":
        generator.eval().requires_grad_(False)

        @torch.inference_mode()
        def run() -> None:
            with training.autocast(config, device):
                output = generator(training.to_unit(tensors["masked"], True))
            training.to_levels(output)

        if compiled:
            run = torch.compile(run)
    else:
        discriminator = training.set_memory_format(networks.create_discriminator(config).to(device), True)
        settings = config.optimizer
        optimizers = [
            torch.optim.Adam(n.parameters(), settings.learning_rate, (settings.b1, settings.b2), fused=True)
            for n in (generator, discriminator)
        ]
        gradients = training.create_gradients(config, generator, discriminator, None)
        if compiled:
            torch._dynamo.config.trace_autograd_ops = True
            gradients = torch.compile(gradients, fullgraph=True)

        def run() -> None:
            _, *of_networks = gradients(tensors)
            for network, optimizer, of_network in zip((generator, discriminator), optimizers, of_networks, strict=True):
                for parameter, gradient in zip(network.parameters(), of_network, strict=True):
                    parameter.grad = gradient
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def facts() -> dict:
        name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        return {"device": name, "peak_gib": round(peak / 2**30, 2), "torch": torch.__version__}

    return run, wait, facts


if __name__ == "__main__":
    sys.exit(exit_code("speed", main))
