"""Our contestant: training steps and inference in JAX."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from maskgan_jax.bench.setup import Ready, Setup, cpu_stands_in, generator_inputs, random_batch
from maskgan_jax.errors import UserError
from maskgan_jax.images import binary_mask, denormalize, normalize
from maskgan_jax.models import convolutions
from maskgan_jax.models.generators import create_generator
from maskgan_jax.networks.face_network import FaceNetwork
from maskgan_jax.networks.safetensors import save_untrained
from maskgan_jax.networks.stored import load_network
from maskgan_jax.pytorch.convert import generator_to_pytorch, twin_to_pytorch
from maskgan_jax.runtime.allocator import compute_in_main_thread
from maskgan_jax.training.abstract import count_flops, counting_device
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.step import create_state, train_step


def prepare(setup: Setup) -> Ready:
    """Compiles and runs the first step. Raises UserError if a GPU is asked for and there is none."""
    compute_in_main_thread()
    if setup.device == "cpu" or cpu_stands_in():
        jax.config.update("jax_platforms", "cpu")
    elif setup.device == "gpu":
        if jax.default_backend() != "gpu":
            raise UserError("JAX finds no GPU here")
        jax.config.update("jax_default_matmul_precision", "highest" if setup.compute == "float32" else "default")
    # Otherwise a second run would only measure reading the cache.
    jax.config.update("jax_enable_compilation_cache", False)
    if not setup.row.is_inference:
        return _training(setup)
    return _inference_on_gpu(setup) if setup.device == "gpu" else _inference(setup)


def _device_facts(setup: Setup, count_flops: Callable[[], float]) -> dict[str, Any]:
    """What `Ready` has of a GPU; chooses its formulation, for which FLOPs are not counted."""
    if setup.device != "gpu":
        return {"device_peak": lambda: None}
    device = jax.devices()[0]
    flops = count_flops()
    convolutions.GPU_UPSAMPLING = setup.upsampling
    peak = lambda: (device.memory_stats() or {}).get("peak_bytes_in_use")  # noqa: E731
    return {"device_peak": peak, "device": device.device_kind, "flops": flops}


def _training(setup: Setup) -> Ready:
    if setup.row.work == "proposed":
        save_untrained(setup.config.landmark_net.weights, setup.config, "landmarks", seed=2)
    task = GAN(setup.config)
    steps = 10**6  # Long enough for the learning rate to stay.
    state = jax.jit(partial(create_state, task, setup.config, steps))(jax.random.key(0))
    frozen, key, batch = jax.device_put((task.frozen, jax.random.key(1), random_batch(setup.config)))
    of_device = _device_facts(setup, lambda: count_flops(task, setup.config))
    started = time.perf_counter()
    step = jax.jit(partial(train_step, task, setup.config, steps), donate_argnums=0).lower(state, frozen, batch, key).compile()
    state, _ = jax.block_until_ready(step(state, frozen, batch, key))
    compile_seconds = time.perf_counter() - started

    def run(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, _ = step(state, frozen, batch, key)
        jax.block_until_ready(state)

    memory = step.memory_analysis()
    step_bytes = {"arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes} if memory else None
    return Ready(run, compile_seconds=compile_seconds, backend=jax.default_backend(), step_bytes=step_bytes, **of_device)


def _inference_on_gpu(setup: Setup) -> Ready:
    """In the arithmetic of the row, with images and results that stay on the GPU."""
    variables = _stored_generator(setup)
    module = create_generator(setup.config)
    arguments = jax.device_put((variables, *generator_inputs(setup)))

    def output(variables: Any, masked: jax.Array, *masks: jax.Array) -> jax.Array:
        return module.apply(variables, normalize(masked), *map(binary_mask, masks))

    def function(*arguments: Any) -> jax.Array:
        return denormalize(output(*arguments))

    def count_flops() -> float:
        """As `training.abstract.count_flops` does."""
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
        with convolutions.compiling_for("gpu"), jax.default_device(counting_device()):
            return jax.jit(function).lower(*shapes).cost_analysis()["flops"]

    of_device = _device_facts(setup, count_flops)
    started = time.perf_counter()
    infer = jax.jit(function).lower(*arguments).compile()
    infer(*arguments).block_until_ready()
    compile_seconds = time.perf_counter() - started

    def run(count: int) -> None:
        for _ in range(count):
            result = infer(*arguments)
        result.block_until_ready()

    images = np.asarray(jax.jit(output)(*arguments), np.float32)
    return Ready(run, compile_seconds=compile_seconds, backend=jax.default_backend(), output=images, **of_device)


def _stored_generator(setup: Setup) -> Any:
    """The variables of an untrained generator, which is left in the folder, for PyTorch too."""
    weights = setup.folder / "generator.safetensors"
    save_untrained(weights, setup.config, "unmask", seed=2)
    variables = load_network(weights, "unmask").variables
    is_residual = setup.config.generator.architecture == "residual"
    state = twin_to_pytorch(variables, setup.row.size) if is_residual else generator_to_pytorch(variables)
    safetensors.numpy.save_file(state, setup.folder / "torch.safetensors")
    return variables


def _inference(setup: Setup) -> Ready:
    _stored_generator(setup)
    inputs = generator_inputs(setup)
    started = time.perf_counter()
    network = FaceNetwork(setup.folder / "generator.safetensors", "unmask", setup.row.batch)
    network(*inputs)
    compile_seconds = time.perf_counter() - started

    # The arithmetic that is timed, before it is rounded to 8 bits.
    @jax.jit
    def output(variables: Any, masked: jax.Array, *masks: jax.Array) -> jax.Array:
        return network.module.apply(variables, normalize(masked), *map(binary_mask, masks))

    def run(count: int) -> None:
        for _ in range(count):
            network(*inputs)

    images = np.asarray(output(network.variables, *inputs))
    return Ready(run, lambda: None, compile_seconds, jax.default_backend(), output=images)
