"""Weights of the generator and the discriminator to and from junyanz/pytorch-CycleGAN-and-pix2pix; PyTorch is not needed.

    python -m maskgan_jax.pytorch.convert latest_net_G.pth --out=generator.safetensors
    python -m maskgan_jax.pytorch.convert generator.safetensors --out=latest_net_G.safetensors

The first takes the state dict of a `UnetGenerator` (`torch.save` or safetensors) and writes what `maskgan unmask --weights=...`
takes; the second, from a file of `maskgan export`, writes a state dict (load it with `safetensors.torch.load_file`). Batch norm
and no norm convert both ways. Instance norm there is without scale and shift, and convolutions have biases instead: the biases
of the first and of the innermost convolution of such a generator, which no norm follows, have no place in ours; and ours needs
`InstanceNorm2d(..., affine=True)`. Discriminators convert from every norm there, by the functions below.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from maskgan_jax.config_checks import ALLOWED
from maskgan_jax.configs.default import get_config
from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.files import replacing
from maskgan_jax.models.convolutions import enlarging_kernel
from maskgan_jax.models.generators import create_generator
from maskgan_jax.models.residual_unet import Noise
from maskgan_jax.models.unet import UNet
from maskgan_jax.networks.description import Variables
from maskgan_jax.networks.safetensors import save_safetensors
from maskgan_jax.networks.stored import load_network, read_description
from maskgan_jax.weights.state_dict import read_state_dict

StateDict = dict[str, np.ndarray]

# The axes of our kernels, `[4, 4, in, out]`, in PyTorch's order: `[out, in, 4, 4]`, or transposed `[in, out, 4, 4]`.
CONVOLUTION = (3, 2, 0, 1)
TRANSPOSED = (2, 3, 0, 1)
# Those of our feature maps.
PICTURE = (0, 3, 1, 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the flags, converts a generator in the one direction or the other, says where it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("source", help="state dict of a UnetGenerator, file of `maskgan export`, or workdir of a run")
    parser.add_argument("--out", required=True, metavar="FILE.safetensors", help="the file to write")
    flags = parser.parse_args(arguments)
    if _is_ours(flags.source):
        network = load_network(flags.source, "unmask")
        if not isinstance(network.module, UNet):
            raise UserError(
                f"{flags.source} is a generator that pix2pix does not have; `maskgan export --format=pytorch` writes it for "
                "maskgan_jax.pytorch.networks"
            )
        variables = network.variables
        with replacing(flags.out) as temporary:
            temporary.write_bytes(safetensors.numpy.save(generator_to_pytorch(variables), metadata={"format": "pt"}))
    else:
        state = read_state_dict(flags.source)
        try:
            variables = generator_from_pytorch(state)
        except UserError as error:
            raise UserError(f"cannot convert {flags.source}: {error}") from error
        save_safetensors(flags.out, variables, _config_of(variables, flags.source))
    print(f"the generator is in {flags.out}")


def _is_ours(path: str) -> bool:
    try:
        read_description(path)
    except UserError:
        return False
    return True


def _config_of(variables: Variables, source: str) -> ConfigDict:
    """The default config with the size, width and norm of a generator."""
    params = variables["params"]
    config = get_config()
    config.data.size = 2 ** sum(name.startswith("up_") and "norm" not in name for name in params)
    config.generator.width = int(params["down_0"]["kernel"].shape[-1])
    config.generator.norm = "batch" if variables["batch_stats"] else "instance" if "up_norm_1" in params else "none"
    config.discriminator.width = config.generator.width
    size, width = config.data.size, config.generator.width
    if not ALLOWED["data.size"].test(size) or not ALLOWED["generator.width"].test(width):
        raise UserError(
            f"{source} is a generator of width {width} for {size} px; here are those of 1 to 4096 for 64 to 4096 px, so train "
            "another one"
        )
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    expected = {"batch_stats": {}, **jax.eval_shape(create_generator(config).init, jax.random.key(0), image)}
    if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, variables):
        raise UserError(
            f"the layers in {source} are not as wide as pix2pix has them for RGB images; train it with the defaults"
        )
    return config


def generator_to_pytorch(variables: Variables) -> StateDict:
    """The state dict of a `UnetGenerator`, with affine norms, that has the variables of our `UNet`."""
    depth = sum(name.startswith("up_") and "norm" not in name for name in variables["params"])
    return _to_pytorch(variables, _generator_names(depth), keeps_statistics=bool(variables.get("batch_stats")))


def generator_from_pytorch(state: Mapping[str, np.ndarray]) -> Variables:
    """The variables of our `UNet` that has the state dict of a `UnetGenerator`.

    Its names may have a prefix, as those of several GPUs (`module.`) and of checkpoints that hold more have.

    Raises:
      UserError: it is the state dict of something else, or of several generators, or has biases for which ours has no place.
    """
    first = f"{_generator_names(1)['down_0']}.weight"
    prefixes = [name.removesuffix(first) for name in state if name == first or name.endswith(f".{first}")]
    if len(prefixes) > 1:
        raise UserError(f"it holds several generators ({', '.join(prefixes)}); save one of them by itself")
    for prefix in prefixes:
        state = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
    depth = 1
    while f"{_level(depth)}.1.weight" in state:
        depth += 1
    return _from_pytorch(state, _generator_names(depth), "a UnetGenerator")


def twin_to_pytorch(variables: Variables, size: int) -> StateDict:
    """The state dict of a twin in `networks` whose layers are named as ours, that has the variables of ours.

    That is `ResidualUNet`, `LandmarkNet` or `SegmentationNet`, for faces of `size` px. The noise of the first is in it, which
    ours draws from a fixed key in each call: PyTorch cannot draw the same.
    """
    params, statistics = (_layers(variables.get(kind, {})) for kind in ("params", "batch_stats"))
    shared = {name: name for name in params if _is_norm(name) or re.fullmatch(r"(down|up)_\d+", name)}
    state = _to_pytorch({"params": params, "batch_stats": statistics}, shared, keeps_statistics=bool(statistics))
    for name, layer in params.items():
        if name in shared:
            continue
        for kind, array in layer.items():
            if kind == "kernel":
                state[f"{name}.weight"] = _array(np.transpose(array, CONVOLUTION if np.ndim(array) == 4 else (1, 0)))
            elif kind == "position":
                state[f"{name}.position"] = _array(np.transpose(array, PICTURE))
            elif kind == "strength":
                side = size >> int(name.removeprefix("noise_"))
                noise = Noise().apply({"params": {"strength": np.ones(1)}}, np.zeros((1, side, side, 1), np.float32))
                state[f"{name}.noise"] = _array(np.transpose(noise, PICTURE))
                state[f"{name}.strength"] = _array(np.reshape(array, (-1, 1, 1)))
            else:
                state[f"{name}.{kind}"] = _array(array)
    return state


def discriminator_to_pytorch(variables: Variables, *, batch_norm: bool = False) -> StateDict:
    """The state dict of an `NLayerDiscriminator`, with affine norms, that has the variables of our `PatchGAN`.

    With `batch_norm`, it has running statistics as at the start, because ours keeps none: it never uses them.
    """
    layers = sum(name.startswith("conv_") for name in variables["params"]) - 1
    return _to_pytorch(variables, _discriminator_names(layers), keeps_statistics=batch_norm)


def discriminator_from_pytorch(state: Mapping[str, np.ndarray]) -> Variables:
    """The variables of our `PatchGAN` that has the state dict of an `NLayerDiscriminator`; running statistics are left out.

    Raises:
      UserError: it is the state dict of something else.
    """
    layers = 1
    while f"model.{3 * layers + 5}.weight" in state:
        layers += 1
    variables = _from_pytorch(state, _discriminator_names(layers), "an NLayerDiscriminator")
    return {"params": variables["params"]}


def _layers(tree: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each layer of a tree, by the layer's path, with dots."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for path, array in flatten_dict(tree).items():
        layers.setdefault(".".join(path[:-1]), {})[path[-1]] = array
    return layers


def _level(i: int) -> str:
    """The name in PyTorch of the layers of the i-th level from the outside, of which each is within the one before."""
    return "model.model" if i == 0 else "model.model.1.model" + ".3.model" * (i - 1)


def _generator_names(depth: int) -> dict[str, str]:
    """The names in PyTorch of the layers of a generator, by ours."""
    names = {"down_0": "model.model.0", "up_0": "model.model.3"}
    for i in range(1, depth):
        # The innermost level has neither a norm on the way down nor a level within.
        innermost = i == depth - 1
        names[f"down_{i}"] = f"{_level(i)}.1"
        if not innermost:
            names[f"down_norm_{i}"] = f"{_level(i)}.2"
        names[f"up_{i}"] = f"{_level(i)}.{3 if innermost else 5}"
        names[f"up_norm_{i}"] = f"{_level(i)}.{4 if innermost else 6}"
    return names


def _discriminator_names(layers: int) -> dict[str, str]:
    """The names in PyTorch of the layers of a discriminator, by ours."""
    names = {"conv_0": "model.0"}
    for i in range(1, layers + 1):
        names |= {f"conv_{i}": f"model.{3 * i - 1}", f"norm_{i}": f"model.{3 * i}"}
    return {**names, "logits": f"model.{3 * layers + 2}"}


def _is_norm(name: str) -> bool:
    return "norm" in name


def _axes(name: str) -> tuple[int, ...]:
    return TRANSPOSED if name.startswith("up_") else CONVOLUTION


def _norm_of(name: str) -> str:
    """The norm that follows a convolution, by our names."""
    return name.replace("_", "_norm_") if name.startswith(("up_", "down_")) else name.replace("conv", "norm")


def _array(values: np.ndarray) -> np.ndarray:
    return np.array(values, np.float32, order="C")


def _to_pytorch(variables: Variables, names: Mapping[str, str], *, keeps_statistics: bool) -> StateDict:
    params, statistics = variables["params"], variables.get("batch_stats", {})
    state = {}
    for ours, theirs in names.items():
        if ours not in params:  # A norm, where there is none.
            continue
        layer = params[ours]
        if not _is_norm(ours):
            kernel = layer["kernel"]
            if kernel.shape[0] == 3:  # Of pixels that are doubled first: a transposed convolution all the same.
                kernel = enlarging_kernel(kernel)
            state[f"{theirs}.weight"] = _array(np.transpose(kernel, _axes(ours)))
            if "bias" in layer:
                state[f"{theirs}.bias"] = _array(layer["bias"])
            continue
        state |= {f"{theirs}.weight": _array(layer["scale"]), f"{theirs}.bias": _array(layer["bias"])}
        if keeps_statistics:
            first = {"mean": np.zeros_like(layer["bias"]), "variance": np.ones_like(layer["bias"])}
            averages = statistics.get(ours, first)
            state[f"{theirs}.running_mean"] = _array(averages["mean"])
            state[f"{theirs}.running_var"] = _array(averages["variance"])
            # PyTorch counts, but uses the count only without momentum.
            state[f"{theirs}.num_batches_tracked"] = np.zeros((), np.int64)
    return state


def _from_pytorch(state: Mapping[str, np.ndarray], names: Mapping[str, str], what: str) -> Variables:
    """Raises UserError if a layer is missing or left over, or has a bias that has an effect but no place."""
    left = dict(state)
    plain_biases: dict[str, np.ndarray] = {}
    params, statistics = {}, {}
    for ours, theirs in names.items():
        layer = {key: left.pop(f"{theirs}.{key}", None) for key in ("weight", "bias", "running_mean", "running_var")}
        left.pop(f"{theirs}.num_batches_tracked", None)
        if _is_norm(ours):
            if layer["weight"] is not None and layer["bias"] is not None:
                params[ours] = {"scale": _array(layer["weight"]), "bias": _array(layer["bias"])}
            if layer["running_mean"] is not None and layer["running_var"] is not None:
                statistics[ours] = {"mean": _array(layer["running_mean"]), "variance": _array(layer["running_var"])}
            continue
        if layer["weight"] is None or layer["weight"].ndim != 4:
            raise UserError(f"it is not {what} of pix2pix, which has a kernel {theirs}.weight; give one that is")
        params[ours] = {"kernel": _array(np.transpose(layer["weight"], np.argsort(_axes(ours))))}
        if ours in ("up_0", "conv_0", "logits"):
            if layer["bias"] is None:
                raise UserError(f"it is not {what} of pix2pix, which has {theirs}.bias; give one that is")
            params[ours]["bias"] = _array(layer["bias"])
        elif layer["bias"] is not None:
            plain_biases[ours] = layer["bias"]
    if left:
        raise UserError(f"it is not {what} of pix2pix, which has no {next(iter(left))}; give one that is")
    for ours, bias in plain_biases.items():
        # A norm takes away the mean, and with it the bias. pix2pix has biases where the norm has no shift of its own.
        norm = _norm_of(ours)
        if norm in names:
            channels = np.shape(bias)
            params.setdefault(norm, {"scale": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)})
        elif np.any(bias):
            raise UserError(f"{names[ours]}.bias changes what comes out, and ours has no bias there; train with --norm=batch")
    return {"params": params, "batch_stats": statistics}


if __name__ == "__main__":
    sys.exit(exit_code("convert", main))
