"""A trained network as ONNX: its layers, one for one, as ONNX's own operators.

Written by hand and not by a converter of JAX programs: the graph has transposed convolutions and norms as such, which every
runtime has fast kernels for, and needs nothing but the package onnx.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing
from maskgan_jax.models import winograd
from maskgan_jax.models.convolutions import cell_kernel, enlarging_kernel
from maskgan_jax.models.landmark_net import LandmarkNet
from maskgan_jax.models.normalization import EPSILON
from maskgan_jax.models.residual_unet import SCALES, Noise, ResidualUNet
from maskgan_jax.models.segmentation_net import SegmentationNet
from maskgan_jax.models.unet import UNet
from maskgan_jax.networks.description import Description
from maskgan_jax.networks.stored import StoredNetwork

# Of ONNX's operators; old enough for runtimes of 2021.
OPSET = 14
# Smaller weights stay float32: they take little, and some are factors of all others.
LEAST_HALVED = 4096
# By Winograd's algorithm, fewer channels than this are not faster.
LEAST_WINOGRAD = 64
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def save_onnx(
    path: str | Path, network: StoredNetwork, batch: int | None = None, *, half: bool = False, browser: bool = False
) -> None:
    """Writes `network` as an ONNX file that takes and gives what `export.functions.exported_function` does.

    Args:
      path: the file.
      network: what to export.
      batch: a fixed batch, or None for any.
      half: store the weights as float16, in half the size; the arithmetic is float32 all the same.
      browser: write it for browsers, whose runtimes have no fast kernels for transposed convolutions and 3x3 ones: the former
        become ordinary ones and a rearrangement of channels, the latter matrix products by Winograd's algorithm. It is
        for a batch of one.

    Raises:
      UserError: the package onnx is not installed, or the file cannot be written.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError("ONNX needs the package onnx: pip install 'maskgan_jax[onnx]'") from error
    if type(network.module) not in DRAW:
        raise UserError(f"a {type(network.module).__name__} cannot be written as ONNX; --format=stablehlo takes any network")
    graph = _Graph(network, browser)
    DRAW[type(network.module)](graph, network)
    model = graph.model(onnx, network.description, 1 if browser else batch)
    if half:
        store_as_half(model)
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def store_as_half(model: Any) -> None:
    """Makes the float32 weights of an `onnx.ModelProto` float16, each cast to float32 before it is used."""
    import onnx

    casts = []
    for weight in model.graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        if array.dtype == np.float32 and array.size >= LEAST_HALVED:
            casts.append(onnx.helper.make_node("Cast", [f"{weight.name}.half"], [weight.name], to=onnx.TensorProto.FLOAT))
            weight.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), f"{weight.name}.half"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Graph:
    """An ONNX graph in the making; values are known by their names."""

    def __init__(self, network: StoredNetwork, browser: bool):
        self._browser = browser
        self._params, self._statistics = network.variables["params"], network.variables["batch_stats"]
        self._norm = getattr(network.module, "norm", "batch")
        self._nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self._weights: dict[str, np.ndarray] = {}

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """One operator; its result, which may be given a name."""
        name = name or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append((operator, list(inputs), name, attributes))
        return name

    def weight(self, name: str, array: Any) -> str:
        """A constant."""
        array = np.asarray(array)
        self._weights[name] = np.ascontiguousarray(array, array.dtype if array.dtype == np.int64 else np.float32)
        return name

    def params(self, layer: str) -> dict[str, Any]:
        """The parameters of a layer, `name` or `block.name`; {} if there is none."""
        return _find(self._params, layer)

    def conv(self, x: str, layer: str) -> str:
        """`models.convolutions.Conv`, by the name of its parameters; what goes up is a transposed convolution."""
        params, up = self.params(layer), layer.startswith("up_")
        kernel = np.asarray(params["kernel"], np.float32)
        if kernel.shape[0] == 3:
            kernel = np.asarray(enlarging_kernel(kernel))
        if up and self._browser:
            return self._conv_to_cells(x, layer, kernel)
        # ONNX has [out, in, ...], and transposed [in, out, ...].
        inputs = [x, self.weight(f"{layer}.weight", kernel.transpose((2, 3, 0, 1) if up else (3, 2, 0, 1)))]
        if "bias" in params:
            inputs.append(self.weight(f"{layer}.bias", params["bias"]))
        attributes = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        return self.add("ConvTranspose" if up else "Conv", *inputs, **attributes)

    def _conv_to_cells(self, x: str, layer: str, kernel: np.ndarray) -> str:
        """The transposed convolution with a kernel `[4, 4, C, D]` as one that gives cells of 2x2 pixels as channels."""
        kernel = np.asarray(cell_kernel(kernel))
        x = self.add("Conv", x, self.weight(f"{layer}.weight", kernel.transpose(3, 2, 0, 1)), pads=[1, 1, 1, 1])
        x = self.add("DepthToSpace", x, blocksize=2)
        edges = (self.weight(name, np.array(value, np.int64)) for name, value in (("first", [1, 1]), ("last", [-1, -1])))
        x = self.add("Slice", x, *edges, self.weight("sides", np.array([2, 3], np.int64)))
        bias = self.params(layer).get("bias")
        return x if bias is None else self.add("Add", x, self.weight(f"{layer}.bias", np.reshape(bias, (-1, 1, 1))))

    def norm(self, x: str, layer: str) -> str:
        """`models.normalization.Normalization` with fixed statistics."""
        if not (params := self.params(layer)):
            return x
        inputs = [x, *(self.weight(f"{layer}.{name}", params[name]) for name in ("scale", "bias"))]
        if self._norm == "instance":
            return self.add("InstanceNormalization", *inputs, epsilon=EPSILON)
        statistics = _find(self._statistics, layer)
        inputs += [self.weight(f"{layer}.{name}", statistics[name]) for name in ("mean", "variance")]
        return self.add("BatchNormalization", *inputs, epsilon=EPSILON)

    def norm_relu(self, x: str, layer: str) -> str:
        """What stands before the convolutions of a residual network."""
        return self.add("Relu", self.norm(x, layer))

    def _winograd_conv(self, x: str, layer: str, side: int, dilation: int) -> str:
        """A 3x3 convolution that keeps the side, by Winograd's algorithm on tiles of 4x4 pixels.

        A dilated one is an ordinary one on each of the maps that every other row and column make.
        """
        kernel = np.asarray(self.params(layer)["kernel"], np.float32)
        inputs, outputs = kernel.shape[2:]
        pixels, taps, products = (np.kron(matrix, matrix) for matrix in winograd.matrices(4, 3))
        maps, side = dilation**2, side // dilation
        row = side // 4

        def reshape(x: str, *shape: int) -> str:
            return self.add("Reshape", x, self.weight("shape_" + "_".join(map(str, shape)), np.array(shape, np.int64)))

        # The kernel takes less in the file as it is; runtimes transform it once, when they load it.
        weights = self.weight(f"{layer}.weight", kernel.transpose(0, 1, 3, 2).reshape(9, -1))
        weights = reshape(self.add("MatMul", self.weight("winograd.taps", taps), weights), 36, outputs, inputs)
        x = self.add("SpaceToDepth", x, blocksize=dilation) if dilation > 1 else x
        x = reshape(x, maps * inputs, 1, side, side)
        x = self.add("Conv", x, self.weight("winograd.pixels", pixels.reshape(36, 1, 6, 6)), strides=[4, 4], pads=[1, 1, 1, 1])
        x = self.add("Transpose", reshape(x, maps, inputs, 36, row**2), perm=[2, 1, 0, 3])
        x = self.add("MatMul", weights, reshape(x, 36, inputs, maps * row**2))
        x = self.add("MatMul", self.weight("winograd.products", products), reshape(x, 36, outputs * maps * row**2))
        x = self.add("Transpose", reshape(x, 16, outputs, maps, row**2), perm=[2, 0, 1, 3]) if dilation > 1 else x
        x = self.add("DepthToSpace", reshape(x, maps, 16 * outputs, row, row), blocksize=4)
        x = reshape(x, 1, maps * outputs, side, side)
        return self.add("DepthToSpace", x, blocksize=dilation) if dilation > 1 else x

    def same_conv(self, x: str, layer: str, dilation: int = 1, part: slice = slice(None)) -> str:
        """`flax.linen.Conv` that keeps the side, or `Dense` at every pixel; `part`: of its output channels."""
        params = self.params(layer)
        kernel = np.asarray(params["kernel"])[..., part]
        side = kernel.shape[0] if kernel.ndim == 4 else 1
        kernel = kernel.reshape(side, side, *kernel.shape[-2:]).transpose(3, 2, 0, 1)
        # Layers that are drawn in parts have several weights.
        name = layer if part == slice(None) else f"{layer}.{part.start}"
        inputs = [x, self.weight(f"{name}.weight", kernel)]
        if "bias" in params:
            inputs.append(self.weight(f"{name}.bias", params["bias"][part]))
        pads = [dilation * (side // 2)] * 4
        return self.add("Conv", *inputs, kernel_shape=[side, side], pads=pads, dilations=[dilation, dilation])

    def block_conv(self, x: str, layer: str, side: int, dilation: int = 1) -> str:
        """A 3x3 convolution of a residual block, on maps of `side`: as the runtime is fastest at it."""
        params = self.params(layer)
        channels = params["kernel"].shape[2]
        # Tiles of 4x4 must fit, and the arithmetic is for one picture.
        if not self._browser or channels < LEAST_WINOGRAD or side % (4 * dilation):
            return self.same_conv(x, layer, dilation)
        x = self._winograd_conv(x, layer, side, dilation)
        return (
            self.add("Add", x, self.weight(f"{layer}.bias", np.reshape(params["bias"], (-1, 1, 1)))) if "bias" in params else x
        )

    def dense(self, x: str, layer: str) -> str:
        """`flax.linen.Dense`."""
        params = self.params(layer)
        return self.add("Gemm", x, *(self.weight(f"{layer}.{name}", params[name]) for name in ("kernel", "bias")))

    def model(self, onnx: Any, described: Description, batch: int | None) -> Any:
        """The whole as an `onnx.ModelProto`."""
        helper = onnx.helper

        def value(name: str, shape: tuple[int, ...]) -> Any:
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch or "batch", *shape])

        graph = helper.make_graph(
            [helper.make_node(operator, inputs, [name], name, **more) for operator, inputs, name, more in self._nodes],
            "maskgan_jax",
            [value(*item) for item in described.inputs().items()],
            [value(*item) for item in described.output().items()],
            [onnx.numpy_helper.from_array(array, name) for name, array in self._weights.items()],
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="maskgan_jax")


def _find(tree: dict[str, Any], layer: str) -> dict[str, Any]:
    return functools.reduce(lambda branch, name: branch.get(name, {}), layer.split("."), tree)


def _draw_generator(draw: Callable[[_Graph, str, StoredNetwork], str], graph: _Graph, network: StoredNetwork) -> None:
    """A generator, whose own part `draw` draws."""
    image = graph.add("Transpose", "picture", perm=TO_CHANNELS_FIRST)
    x = image
    if network.module.inpaints:
        mask = graph.add("Transpose", "mask", perm=TO_CHANNELS_FIRST)
        zero = graph.weight("zero", 0.0)
        hidden = graph.add("Greater", mask, zero)
        x = graph.add("Concat", graph.add("Where", hidden, zero, image), mask, axis=1)
    x = graph.add("Tanh", draw(graph, x, network))
    if network.module.inpaints:
        x = graph.add("Where", hidden, x, image)
    graph.add("Transpose", x, name="unmasked", perm=TO_CHANNELS_LAST)


def _draw_unet(graph: _Graph, x: str, network: StoredNetwork) -> str:
    """`models.unet.UNet`, without what is done to its inputs and output."""
    depth = network.description.size.bit_length() - 1
    skips = []
    for i in range(depth):
        if i > 0:
            skips.append(x)
            x = graph.add("LeakyRelu", x, alpha=0.2)
        x = graph.norm(graph.conv(x, f"down_{i}"), f"down_norm_{i}")
    x = graph.add("Relu", x)
    for i in reversed(range(1, depth)):
        x = graph.norm(graph.conv(x, f"up_{i}"), f"up_norm_{i}")
        x = graph.add("Relu", graph.add("Concat", skips.pop(), x, axis=1))
    return graph.conv(x, "up_0")


def _draw_residual_unet(graph: _Graph, x: str, network: StoredNetwork) -> str:
    """`models.residual_unet.ResidualUNet`, without what is done to its inputs and output."""
    side, blocks = network.description.size, network.module.blocks
    x = graph.same_conv(x, "stem")
    skips = []
    for i in range(1, SCALES + 1):
        skips.append(x)
        x = graph.conv(graph.norm_relu(x, f"down_norm_{i}"), f"down_{i}")
        if 1 < i < SCALES:
            x = _draw_block(graph, x, f"down_block_{i}", side >> i)
    for j in range(blocks):
        x = _draw_block(graph, x, f"middle_block_{j}", side >> SCALES, 1 + j % 2)
        if j % 2:
            x = _draw_attention(graph, x, f"attention_{j}", side >> SCALES)
    for i in reversed(range(SCALES)):
        x = graph.conv(graph.norm_relu(x, f"up_norm_{i}"), f"up_{i}")
        x = graph.same_conv(graph.add("Concat", x, skips.pop(), axis=1), f"join_{i}")
        if i < SCALES - 1:
            x = _draw_noise(graph, x, f"noise_{i}", side >> i)
        for j in range(blocks if i == SCALES - 1 else 1):
            x = _draw_block(graph, x, f"up_block_{i}_{j}", side >> i, 1 + j % 2)
    return graph.same_conv(graph.norm_relu(x, "output_norm"), "output")


def _draw_block(graph: _Graph, x: str, layer: str, side: int, dilation: int = 1) -> str:
    """`models.residual_unet.ResidualBlock`, on maps of `side`."""
    y = graph.block_conv(graph.norm_relu(x, f"{layer}.norm_0"), f"{layer}.conv_0", side, dilation)
    return graph.add("Add", x, graph.block_conv(graph.norm_relu(y, f"{layer}.norm_1"), f"{layer}.conv_1", side))


def _draw_attention(graph: _Graph, x: str, layer: str, side: int) -> str:
    """`models.residual_unet.SelfAttention`, on maps of `side`; channels stay before pixels."""
    position = np.asarray(graph.params(layer)["position"])
    features = position.shape[-1]
    y = graph.norm(x, f"{layer}.norm")
    y = graph.add("Add", y, graph.weight(f"{layer}.position", position.transpose(TO_CHANNELS_FIRST)))
    # 0: the batch, as it is.
    heads = graph.weight("heads", np.array([0, 4, features // 4, side * side], np.int64))
    query, key, value = (
        graph.add("Reshape", graph.same_conv(y, f"{layer}.qkv", part=slice(i * features, (i + 1) * features)), heads)
        for i in range(3)
    )
    query = graph.add("Mul", query, graph.weight("scale", (features // 4) ** -0.5))
    scores = graph.add("MatMul", graph.add("Transpose", query, perm=[0, 1, 3, 2]), key)
    weights = graph.add("Softmax", scores, axis=-1)
    y = graph.add("MatMul", value, graph.add("Transpose", weights, perm=[0, 1, 3, 2]))
    y = graph.add("Reshape", y, graph.weight("map", np.array([0, features, side, side], np.int64)))
    return graph.add("Add", x, graph.same_conv(y, f"{layer}.output"))


def _draw_noise(graph: _Graph, x: str, layer: str, side: int) -> str:
    """`models.residual_unet.Noise`, on maps of `side`."""
    noise = Noise().apply({"params": {"strength": np.ones(1)}}, np.zeros((1, side, side, 1), np.float32))
    noise = graph.weight(layer, np.asarray(noise).transpose(TO_CHANNELS_FIRST))
    strength = graph.weight(f"{layer}.strength", np.reshape(graph.params(layer)["strength"], (-1, 1, 1)))
    return graph.add("Add", x, graph.add("Mul", noise, strength))


def _draw_landmark_net(graph: _Graph, network: StoredNetwork) -> None:
    """`models.landmark_net.LandmarkNet`."""
    side = network.description.size
    x = graph.add("Transpose", "picture", perm=TO_CHANNELS_FIRST)
    for i in range(side.bit_length() - 3):
        x = graph.add("Relu", graph.norm(graph.conv(x, f"conv_{i}"), f"norm_{i}"))
    # Ours counts channels fastest.
    x = graph.add("Flatten", graph.add("Transpose", x, perm=TO_CHANNELS_LAST))
    x = graph.dense(graph.add("Relu", graph.dense(x, "hidden")), "points")
    x = graph.add("Reshape", x, graph.weight("shape", np.array([-1, 68, 2], np.int64)))
    x = graph.add("Mul", x, graph.weight("quarter", side / 4))
    graph.add("Add", x, graph.weight("middle", side / 2), name="landmarks")


def _draw_segmentation_net(graph: _Graph, network: StoredNetwork) -> None:
    """`models.segmentation_net.SegmentationNet`, and the sigmoid."""
    depth = network.description.size.bit_length() - 3
    x = graph.add("Transpose", "picture", perm=TO_CHANNELS_FIRST)
    skips = []
    for i in range(depth):
        skips.append(x)
        x = graph.add("Relu", graph.norm(graph.conv(x, f"down_{i}"), f"down_norm_{i}"))
    for i in reversed(range(1, depth)):
        x = graph.add("Relu", graph.norm(graph.conv(x, f"up_{i}"), f"up_norm_{i}"))
        x = graph.add("Concat", skips[i], x, axis=1)
    x = graph.add("Squeeze", graph.conv(x, "up_0"), graph.weight("channel", np.array([1], np.int64)))
    graph.add("Sigmoid", x, name="likelihood")


DRAW: dict[type[nn.Module], Callable[[_Graph, StoredNetwork], None]] = {
    UNet: functools.partial(_draw_generator, _draw_unet),
    ResidualUNet: functools.partial(_draw_generator, _draw_residual_unet),
    LandmarkNet: _draw_landmark_net,
    SegmentationNet: _draw_segmentation_net,
}
