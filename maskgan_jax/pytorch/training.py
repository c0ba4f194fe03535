"""The training step of maskgan_jax/training and the inference of `maskgan unmask` in PyTorch, as fast as it does them.

That is: one forward pass of the discriminator on the fake for both updates, no gradients but those of what is updated, fused
Adam, activations in place, instance norm as `GroupNorm`. What is faster at one size and slower at another is left to the
caller: `compiled` and `channels_last`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional

from maskgan_jax.data.points import CONTOUR
from maskgan_jax.pytorch.networks import LandmarkNet, PatchGAN, UNetGenerator

# As in maskgan_jax/losses.py, which would bring JAX into this process.
LEVELS_PER_UNIT = 127.5

Tensors = dict[str, torch.Tensor]


def to_unit(images: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """uint8 images `[B, S, S, 3]` to float32 `[B, 3, S, S]` in [-1, 1], in one memory format or the other."""
    images = images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
    return images if channels_last else images.contiguous()


def to_levels(images: torch.Tensor) -> torch.Tensor:
    """Images `[B, 3, S, S]` in [-1, 1] to uint8 `[B, S, S, 3]`."""
    return ((images + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def set_memory_format(network: nn.Module, channels_last: bool) -> nn.Module:
    """The network, with its kernels in that format."""
    return network.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def autocast(config: ConfigDict, device: str) -> contextlib.AbstractContextManager:
    """The arithmetic that a config asks for, inside the networks, on a device of this type ('cpu' or 'cuda')."""
    return torch.autocast(device, torch.bfloat16, enabled=config.training.compute == "bfloat16")


def generator_terms(
    fake: torch.Tensor, real: torch.Tensor, fake_logits: torch.Tensor, batch: Tensors, landmark_net: LandmarkNet | None
) -> Tensors:
    """The terms of Eq. 3, unweighted, as in `maskgan_jax/losses.py`."""
    mask = (batch["mask"] > 127).permute(0, 3, 1, 2).to(torch.float32)
    squared = (LEVELS_PER_UNIT * (fake - real)).square().sum(1, keepdim=True)
    terms = {
        "l1": functional.l1_loss(fake, real),
        "masked": ((squared * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1.0)).mean(),
        "adversarial": functional.softplus(-fake_logits).mean(),
    }
    if landmark_net is not None:
        with torch.no_grad():
            real_contour = landmark_net(real)[:, CONTOUR]
        terms["contour"] = (landmark_net(fake)[:, CONTOUR] - real_contour).abs().sum(-1).mean()
    return terms


def create_gradients(
    config: ConfigDict,
    generator: UNetGenerator,
    discriminator: PatchGAN,
    landmark_net: LandmarkNet | None,
    *,
    channels_last: bool = True,
) -> Callable[[Tensors], tuple[Tensors, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]]:
    """What makes of a batch the terms of the loss by name, and the gradients in the parameters of both networks."""
    generator_parameters, discriminator_parameters = list(generator.parameters()), list(discriminator.parameters())

    def gradients(batch: Tensors) -> tuple[Tensors, tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        masked, real = (to_unit(batch[name], channels_last) for name in ("masked", "real"))
        with autocast(config, masked.device.type):
            fake = generator(masked)
            fake_logits, real_logits = discriminator(masked, fake), discriminator(masked, real)
            terms = generator_terms(fake, real, fake_logits, batch, landmark_net)
        generator_loss = sum(config.losses[name] * value for name, value in terms.items())
        discriminator_loss = 0.5 * (functional.softplus(-real_logits).mean() + functional.softplus(fake_logits).mean())
        # Given what to differentiate in, autograd computes no other gradients on the way.
        discriminator_gradient = torch.autograd.grad(discriminator_loss, discriminator_parameters, retain_graph=True)
        generator_gradient = torch.autograd.grad(generator_loss, generator_parameters)
        terms |= {"generator": generator_loss, "discriminator": discriminator_loss}
        return {name: value.detach() for name, value in terms.items()}, generator_gradient, discriminator_gradient

    return gradients


def create_train_step(
    config: ConfigDict,
    generator: UNetGenerator,
    discriminator: PatchGAN,
    landmark_net: LandmarkNet | None = None,
    *,
    rate: Callable[[int], float] | None = None,
    compiled: bool = False,
    channels_last: bool = True,
    mode: str | None = None,
) -> Callable[[dict[str, np.ndarray] | Tensors], Tensors]:
    """The training step: updates both networks from a batch, and gives the terms of the loss by name.

    Args:
      config: `losses`, `optimizer` (its rate, if there is no other) and `training.compute` are read.
      generator: in training mode, like the next; on the device to train on.
      discriminator: the other one that is trained.
      landmark_net: the frozen network of C1, or None to leave C1 out.
      rate: Adam's learning rate by the number of steps that are done.
      compiled: with `torch.compile`, forward and backward passes as one graph.
      channels_last: memory format of kernels and feature maps.
      mode: of `torch.compile`.
    """
    networks = [set_memory_format(network, channels_last) for network in (generator, discriminator)]
    if landmark_net is not None:
        set_memory_format(landmark_net, channels_last).eval().requires_grad_(False)
    settings = config.optimizer
    betas = (settings.b1, settings.b2)
    optimizers = [torch.optim.Adam(network.parameters(), settings.learning_rate, betas, fused=True) for network in networks]
    gradients = create_gradients(config, generator, discriminator, landmark_net, channels_last=channels_last)
    if compiled:
        # Otherwise the graph breaks at each `autograd.grad`, and all gradients are computed at either.
        torch._dynamo.config.trace_autograd_ops = True
        gradients = torch.compile(gradients, fullgraph=True, mode=mode)

    done = itertools.count()

    def step(batch: dict[str, np.ndarray] | Tensors) -> Tensors:
        count = next(done)
        terms, *of_networks = gradients({name: torch.as_tensor(array) for name, array in batch.items()})
        for network, optimizer, of_network in zip(networks, optimizers, of_networks, strict=True):
            for parameter, gradient in zip(network.parameters(), of_network, strict=True):
                parameter.grad = gradient
            if rate is not None:
                optimizer.param_groups[0]["lr"] = float(rate(count))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return terms

    return step


def create_inference(
    config: ConfigDict,
    generator: nn.Module,
    *,
    compiled: bool = False,
    channels_last: bool = True,
    mode: str | None = None,
) -> Callable[..., torch.Tensor]:
    """Inference: masked faces `[B, S, S, 3]` uint8 to unmasked ones `[B, 3, S, S]` in [-1, 1], for `to_levels`.

    The function takes the masks `[B, S, S, 1]` uint8, 255 = hidden, too if the generator inpaints.

    Args:
      config: `training.compute` is read.
      generator: with the weights to use.
      compiled: with `torch.compile`, weights frozen.
      channels_last: memory format of kernels and feature maps.
      mode: of `torch.compile`.
    """
    set_memory_format(generator, channels_last).eval().requires_grad_(False)

    def generate(masked: torch.Tensor, *masks: torch.Tensor) -> torch.Tensor:
        with autocast(config, masked.device.type):
            return generator(to_unit(masked, channels_last), *(mask.permute(0, 3, 1, 2) / 255 for mask in masks))

    if compiled:
        torch._inductor.config.freezing = True
        generate = torch.compile(generate, fullgraph=True, mode=mode)

    @torch.inference_mode()
    def infer(*inputs: np.ndarray | torch.Tensor) -> torch.Tensor:
        return generate(*map(torch.as_tensor, inputs))

    return infer
