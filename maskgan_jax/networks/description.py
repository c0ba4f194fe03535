"""What a trained network is, in the one place that every command asks.

`KINDS` tells, for each `config.task`, how its network is created from its settings, what it takes, and what its output means. A
`Description` is what using one particular network needs to know; the settings it was trained with are not needed for that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from maskgan_jax.config_checks import ALLOWED, with_type_of
from maskgan_jax.configs import default
from maskgan_jax.errors import UserError
from maskgan_jax.images import denormalize
from maskgan_jax.models.generators import create_generator
from maskgan_jax.models.landmark_net import create_landmark_net
from maskgan_jax.models.segmentation_net import create_segmentation_net

Variables = dict[str, Any]  # `params` and, with batch norm, `batch_stats`, as `Module.apply` takes them.


def _unchanged(output: jax.Array) -> jax.Array:
    return output


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the networks of one task have in common.

    Attributes:
      network: their name in checkpoints, and of their section in a config.
      create: makes the module from a config.
      output: what their output is called where it is exported.
      shape: side of the images -> shape of that output, without the batch.
      activation: from what the module gives to that output.
      result: from that output to what `FaceNetwork` gives.
    """

    network: str
    create: Callable[[ConfigDict], nn.Module]
    output: str
    shape: Callable[[int], tuple[int, ...]]
    activation: Callable[[jax.Array], jax.Array] = _unchanged
    result: Callable[[jax.Array], jax.Array] = _unchanged


KINDS = {
    "unmask": Kind("generator", create_generator, "unmasked", lambda side: (side, side, 3), result=denormalize),
    "landmarks": Kind("landmark_net", create_landmark_net, "landmarks", lambda side: (68, 2)),
    "segmentation": Kind(
        "segmentation_net", create_segmentation_net, "likelihood", lambda side: (side, side), activation=jax.nn.sigmoid
    ),
}


@dataclasses.dataclass(frozen=True)
class Description:
    """What it takes to use a trained network.

    Attributes:
      task: what it is for, a key of `KINDS`.
      size: side of the faces it takes, in pixels.
      zoom: of their squares, as `data.zoom` in configs/default.py.
      settings: of the module, e.g. its architecture and width: the section of the config that has its name.
    """

    task: str
    size: int
    zoom: float
    settings: dict[str, Any]

    def __post_init__(self):
        """Raises ValueError if these are no description, as in files that others wrote."""
        if self.task not in KINDS:
            raise ValueError(f"there is no task {self.task!r} in this version of maskgan_jax")
        if not isinstance(self.size, int) or not ALLOWED["data.size"].test(self.size):
            raise ValueError(f"its size is {self.size!r}, not {ALLOWED['data.size'].words}")
        if not isinstance(self.zoom, int | float) or not 1 <= self.zoom <= 2:
            raise ValueError(f"its zoom is {self.zoom!r}, not a number from 1 to 2")
        for name, expected in _default_settings(self.task).items():
            if type(value := self.settings.get(name)) is not type(expected):
                raise ValueError(f"its setting {name} is {value!r}, not such as {expected!r}")
            allowed = ALLOWED.get(f"{self.kind.network}.{name}")
            if allowed and not allowed.test(value):
                raise ValueError(f"its setting {name} is {value!r}; it must be {allowed.words}")

    @property
    def kind(self) -> Kind:
        """What it has in common with others of its task."""
        return KINDS[self.task]

    def create(self) -> nn.Module:
        """The module, in float32.

        Raises:
          UserError: there is no such architecture.
        """
        return self.kind.create(ConfigDict({self.kind.network: self.settings, "training": {"compute": "float32"}}))

    def inputs(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, without the batch, of what the module takes: images, and masks if it inpaints."""
        inputs = {"picture": (self.size, self.size, 3)}
        return inputs | ({"mask": (self.size, self.size, 1)} if self.inpaints else {})

    @property
    def inpaints(self) -> bool:
        """Whether it is a generator that must be told the mask."""
        return getattr(self.create(), "inpaints", False)

    def output(self) -> dict[str, tuple[int, ...]]:
        """Name and shape, without the batch, of what it gives."""
        return {self.kind.output: self.kind.shape(self.size)}


def kind_of(task: str) -> Kind:
    """The kind of network that a task trains. Raises UserError if there is no such task."""
    if task not in KINDS:
        raise UserError(f"there is no task {task!r}; choose one of {', '.join(KINDS)}")
    return KINDS[task]


def describe(config: Mapping[str, Any]) -> Description:
    """The network that a config describes.

    Args:
      config: the settings of a run, as a nested mapping, of this version of the program or of another. Settings that came later
        have their defaults; those that mean nothing to the network are not looked at.

    Raises:
      LookupError, TypeError, ValueError: it is no config of a network that there is.
    """
    task, data = config["task"], config["data"]
    if task not in KINDS:
        raise ValueError(f"there is no task {task!r} in this version of maskgan_jax")
    settings = dict(config[KINDS[task].network])
    settings.pop("weights", None)  # A path on the machine of the training.
    return with_defaults(task, data["size"], data.get("zoom", 1.0), settings)


def describes(config: Mapping[str, Any], description: Description) -> bool:
    """Whether `config`, which a file may hold for any network, gives this description."""
    try:
        return describe(config) == description
    except (LookupError, TypeError, ValueError, AttributeError):
        return False


def with_defaults(task: str, size: int, zoom: float, settings: Mapping[str, Any]) -> Description:
    """A description whose settings may be older than this version: those that came later have their defaults.

    An integer will do where the default is a float.

    Raises:
      ValueError: there is no such network.
    """
    defaults = _default_settings(task) if task in KINDS else {}
    given = {name: with_type_of(defaults.get(name), value) for name, value in _as_in_json(settings).items()}
    return Description(task, size, zoom, defaults | given)


def _default_settings(task: str) -> dict[str, Any]:
    settings = default.get_config()[KINDS[task].network].to_dict()
    settings.pop("weights", None)
    return _as_in_json(settings)


def _as_in_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
