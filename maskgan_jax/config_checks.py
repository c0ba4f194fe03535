"""Which values the settings may have; what they mean is told in `configs/default.py`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import UnionType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from maskgan_jax.errors import UserError


class _Allowed(NamedTuple):
    """What values of one setting pass, and that in words; NaN and infinity pass no comparison with a finite bound."""

    test: Callable[[Any], bool]
    words: str


def _at_least(least: float) -> _Allowed:
    return _Allowed(lambda x: least <= x < math.inf, f"a number of at least {least}")


def _between(least: float, most: float) -> _Allowed:
    return _Allowed(lambda x: least <= x <= most, f"from {least} to {most}")


def _one_of(*choices: str) -> _Allowed:
    return _Allowed(lambda x: x in choices, f"one of {', '.join(choices)}")


def _all_are(kind: type | UnionType, values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


def _power_of_two(x: Any) -> bool:
    return isinstance(x, int) and x > 0 and x & (x - 1) == 0


_POSITIVE = _Allowed(lambda x: 0 < x < math.inf, "a number above 0")
_WIDTH = _between(1, 4096)
_BELOW_1 = _Allowed(lambda x: 0 <= x < 1, "at least 0 and below 1")
_NORM = _one_of("instance", "batch", "none")

# Settings that are not here may have any value of their type, or are checked where they are used: those of the data's sources,
# splits and kinds of masks, the task, and the architecture of the generator.
ALLOWED = {
    "seed": _between(0, 2**32 - 1),
    "data.size": _Allowed(lambda x: 64 <= x <= 4096 and _power_of_two(x), "a power of two from 64 to 4096"),
    "data.zoom": _between(1, 1.5),
    "data.mask_shift": _between(0, 0.5),
    "data.mask_rotation": _between(0, 90),
    "data.mask_scale": _between(0, 0.5),
    "data.mask_height": _between(0, 0.5),
    "data.mask_looseness": _between(0, 1),
    "data.mask_below_nose": _between(0, 1),
    "data.mask_fit": _one_of("mesh", "homography"),
    "input.batch_size": _at_least(1),
    "input.jitter": _between(1, 2),
    "input.misalignment": _between(0, 0.3),
    "input.grow_region": _between(0, 64),
    "input.vary_region": _between(0, 1),
    "input.light": _between(0, 0.5),
    "input.degrade": _between(0, 1),
    "input.occlude": _between(0, 1),
    "input.threads": _at_least(1),
    "input.processes": _at_least(0),
    "input.prefetch": _at_least(1),
    "generator.blocks": _between(1, 64),
    "generator.width": _WIDTH,
    "generator.norm": _NORM,
    "generator.dropout": _BELOW_1,
    "generator.dropout_sides": _Allowed(lambda sides: all(map(_power_of_two, sides)), "powers of two, such as (4, 8, 16)"),
    "generator.upsampling": _one_of("transposed", "nearest"),
    "discriminator.width": _WIDTH,
    "discriminator.layers": _between(1, 5),
    "discriminator.norm": _NORM,
    "landmark_net.width": _WIDTH,
    "segmentation_net.width": _WIDTH,
    "optimizer.learning_rate": _POSITIVE,
    "optimizer.b1": _BELOW_1,
    "optimizer.b2": _BELOW_1,
    "optimizer.constant": _between(0, 1),
    "optimizer.scaling": _one_of("none", "linear", "sqrt"),
    "optimizer.scaling_batch": _at_least(1),
    "optimizer.warmup": _at_least(0),
    "optimizer.accumulate": _at_least(1),
    "optimizer.ema": _BELOW_1,
    "training.epochs": _at_least(0),
    "training.steps": _at_least(0),
    "training.compute": _one_of("float32", "bfloat16"),
    "training.fsdp": _at_least(1),
    "training.minutes": _at_least(0),
    "training.peak_tflops": _at_least(0),
    "training.profile": _Allowed(
        lambda steps: not steps or (len(steps) == 2 and _all_are(int, steps) and 0 < steps[0] <= steps[1]),
        "() or the first step and the last one, such as (10, 12)",
    ),
    "training.keep_epochs": _Allowed(
        lambda epochs: _all_are(int | float, epochs) and all(0 < epoch < math.inf for epoch in epochs),
        "numbers of epochs, such as (10, 30)",
    ),
    "training.log_every": _at_least(1),
    "training.validate_every": _at_least(0),
    "training.checkpoint_every": _at_least(0),
    "training.not_finite": _one_of("stop", "skip"),
    "training.best_by": _one_of("mse_masked", "st_lpips"),
    "training.keep": _at_least(1),
    "training.validation_records": _at_least(0),
    "training.pictures": _at_least(1),
}


def check_values(config: ConfigDict, reference: ConfigDict, where: str) -> None:
    """Checks types and values of all settings.

    Args:
      config: has the fields of `reference`.
      reference: the default config, whose values tell the types.
      where: what the config is, for the message.

    Raises:
      UserError: a setting has another type than its default, or a value that it must not have.
    """
    values, defaults = flat(config), flat(reference)
    for key, default in defaults.items():
        if key in values and not _same_type(values[key], default):
            raise UserError(f"{where}: {key} is {values[key]!r}; it must be of type {type(default).__name__}")
    # All weights of the losses have one rule, so that a new term needs none of its own.
    of_losses = {key: _at_least(0) for key in values if key.startswith("losses.")}
    for key, allowed in (ALLOWED | of_losses).items():
        if not allowed.test(values[key]):
            raise UserError(f"{where}: {key} is {values[key]!r}; it must be {allowed.words}")
    if not values["training.epochs"] and not values["training.steps"]:
        raise UserError(f"{where}: training.epochs and training.steps are both 0; one of them must be above 0")
    if config.input.batch_size % config.optimizer.accumulate:
        raise UserError(
            f"{where}: a batch of {config.input.batch_size} (input.batch_size) cannot be divided into "
            f"{config.optimizer.accumulate} parts (optimizer.accumulate); make one a multiple of the other"
        )
    # The last two layers of the discriminator, which have no stride, take a pixel each.
    if config.data.size >> config.discriminator.layers < 4:
        most = config.data.size.bit_length() - 3
        raise UserError(
            f"{where}: discriminator.layers is {config.discriminator.layers}; for a data.size of {config.data.size} it must be "
            f"at most {most}"
        )


def flat(config: ConfigDict, section: str = "") -> dict[str, Any]:
    """The settings by their whole names, such as `data.size`; lists as tuples."""
    settings = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            settings |= flat(value, f"{section}{name}.")
        else:
            settings[section + name] = tuple(value) if isinstance(value, list) else value
    return settings


def with_type_of(default: Any, value: Any) -> Any:
    """`value`; as a float if it is an integer, such as 0 for 0.0, where `default` is a float."""
    is_short = type(value) is int and isinstance(default, float) and abs(value) <= sys.float_info.max
    return float(value) if is_short else value


def _same_type(value: Any, default: Any) -> bool:
    kinds = (float, int) if isinstance(default, float) else type(default)
    # A bool is an int to Python.
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
