"""The generators there are, by `generator.architecture`. A new one is a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from maskgan_jax.errors import UserError
from maskgan_jax.models.patchgan import Discriminator, patch_discriminators
from maskgan_jax.models.residual_unet import create_residual_unet
from maskgan_jax.models.unet import create_unet
from maskgan_jax.models.yi import create_yi, yi_discriminators


class Architecture(NamedTuple):
    """A kind of generator.

    Attributes:
      create: (section `generator` of the config, type of the arithmetic) -> module. It maps masked faces `[B, S, S, 3]` and
        masks `[B, S, S, 1]` (1 = hidden) to unmasked faces in [-1, 1], takes `train`, and has the attribute `inpaints`; and
        `parts` if there are networks in it that are trained before: {submodule: task}.
      discriminators: (config, module) -> the discriminators it is trained with, by their names in checkpoints.
    """

    create: Callable[[ConfigDict, DTypeLike], nn.Module]
    discriminators: Callable[[ConfigDict, nn.Module], dict[str, Discriminator]] = patch_discriminators


GENERATORS = {
    "unet": Architecture(create_unet),
    "residual": Architecture(create_residual_unet),
    "yi": Architecture(create_yi, yi_discriminators),
}


def create_generator(config: ConfigDict) -> nn.Module:
    """The generator that a config describes; `generator` and `training.compute` are read.

    Raises:
      UserError: there is no such architecture, or a setting does not go with it.
    """
    return _architecture(config).create(config.generator, jnp.dtype(config.training.compute))


def create_discriminators(config: ConfigDict, generator: nn.Module) -> dict[str, Discriminator]:
    """The discriminators that this generator is trained with, by their names in checkpoints."""
    return _architecture(config).discriminators(config, generator)


def _architecture(config: ConfigDict) -> Architecture:
    name = config.generator.architecture
    if name not in GENERATORS:
        raise UserError(f"generator.architecture is {name!r}; it must be one of {', '.join(GENERATORS)}")
    return GENERATORS[name]
