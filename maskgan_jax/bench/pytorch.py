"""The contestants that are to be beaten: the same in PyTorch."""

from __future__ import annotations

import os
import time

from maskgan_jax.bench.setup import (
    GPU_TORCH_VARIANTS,
    TORCH_VARIANTS,
    Ready,
    Setup,
    cpu_stands_in,
    generator_inputs,
    random_batch,
)
from maskgan_jax.errors import UserError
from maskgan_jax.runtime.workers import available_cores


def prepare(setup: Setup) -> Ready:
    """Compiles, if that is the variant, and runs the first step. Raises UserError if a GPU is asked for and there is none."""
    # A second run would only measure reading the cache. It is read at the import.
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    import torch

    from maskgan_jax.pytorch import networks, training

    torch.set_num_threads(available_cores())
    on_gpu = setup.device == "gpu" and not cpu_stands_in()
    if on_gpu and not torch.cuda.is_available():
        raise UserError("PyTorch finds no GPU here")
    device = "cuda" if on_gpu else "cpu"
    if on_gpu:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setup.compute != "float32"
    options = (GPU_TORCH_VARIANTS if setup.device == "gpu" else TORCH_VARIANTS)[setup.variant]
    batch = {name: torch.as_tensor(array, device=device) for name, array in random_batch(setup.config).items()}
    generator = networks.create_generator(setup.config).to(device)
    inputs = [torch.as_tensor(array, device=device) for array in generator_inputs(setup)]
    if setup.row.is_inference:
        from safetensors.torch import load_file

        generator.load_state_dict(load_file(setup.folder / "torch.safetensors"))
        infer = training.create_inference(setup.config, generator, **options)

        def step() -> torch.Tensor:
            levels = training.to_levels(infer(*inputs))
            return levels if setup.device == "gpu" else levels.numpy()
    else:
        landmark_net = networks.create_landmark_net(setup.config).to(device) if setup.row.work == "proposed" else None
        discriminator = networks.create_discriminator(setup.config).to(device)
        train_step = training.create_train_step(setup.config, generator, discriminator, landmark_net, **options)

        def step() -> dict[str, torch.Tensor]:
            return train_step(batch)

    def run(count: int) -> None:
        for _ in range(count):
            step()
        if on_gpu:
            torch.cuda.synchronize()

    started = time.perf_counter()
    run(1)
    compile_seconds = time.perf_counter() - started
    output = infer(*inputs).permute(0, 2, 3, 1).float().cpu().numpy() if setup.row.is_inference else None
    device_peak = torch.cuda.max_memory_allocated if on_gpu else lambda: None
    name = torch.cuda.get_device_name() if on_gpu else None
    return Ready(run, device_peak, compile_seconds, device, output=output, device=name)
