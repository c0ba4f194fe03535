"""A trained network as ONNX: its layers, one for one, as ONNX's own operators.

Written by hand and not by a converter of JAX programs: the graph has transposed convolutions and norms as such, which every
runtime has fast kernels for, and needs nothing but the package onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from maskgan_jax.errors import UserError
from maskgan_jax.export.functions import Signature, signature
from maskgan_jax.files import replacing
from maskgan_jax.models.convolutions import enlarging_kernel
from maskgan_jax.models.normalization import EPSILON
from maskgan_jax.models.stored import StoredNetwork

# Of ONNX's operators; old enough for runtimes of 2021.
OPSET = 14
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def save_onnx(path: str | Path, network: StoredNetwork, batch: int | None = None) -> None:
    """Writes `network` as an ONNX file that takes and gives what `signature` names.

    Args:
      path: the file.
      network: what to export.
      batch: a fixed batch, or None for any.

    Raises:
      UserError: the package onnx is not installed, or the file cannot be written.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError("ONNX needs the package onnx: pip install 'maskgan_jax[onnx]'") from error
    graph = _Graph(network)
    DRAW[network.config.task](graph, network)
    model = graph.model(onnx, signature(network), batch)
    onnx.checker.check_model(model, full_check=True)
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


class _Graph:
    """An ONNX graph in the making; values are known by their names."""

    def __init__(self, network: StoredNetwork):
        self._params, self._statistics = network.variables["params"], network.variables["batch_stats"]
        self._norm = network.config.generator.norm if network.config.task == "unmask" else "batch"
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

    def conv(self, x: str, layer: str) -> str:
        """`models.convolutions.Conv`, by the name of its parameters; what goes up is a transposed convolution."""
        params, up = self._params[layer], layer.startswith("up_")
        kernel = np.asarray(params["kernel"], np.float32)
        if kernel.shape[0] == 3:
            kernel = np.asarray(enlarging_kernel(kernel))
        # ONNX has [out, in, ...], and transposed [in, out, ...].
        inputs = [x, self.weight(f"{layer}.weight", kernel.transpose((2, 3, 0, 1) if up else (3, 2, 0, 1)))]
        if "bias" in params:
            inputs.append(self.weight(f"{layer}.bias", params["bias"]))
        attributes = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        return self.add("ConvTranspose" if up else "Conv", *inputs, **attributes)

    def norm(self, x: str, layer: str) -> str:
        """`models.normalization.Normalization` with fixed statistics."""
        if layer not in self._params:
            return x
        inputs = [x, *(self.weight(f"{layer}.{name}", self._params[layer][name]) for name in ("scale", "bias"))]
        if self._norm == "instance":
            return self.add("InstanceNormalization", *inputs, epsilon=EPSILON)
        statistics = self._statistics[layer]
        inputs += [self.weight(f"{layer}.{name}", statistics[name]) for name in ("mean", "variance")]
        return self.add("BatchNormalization", *inputs, epsilon=EPSILON)

    def dense(self, x: str, layer: str) -> str:
        """`flax.linen.Dense`."""
        params = self._params[layer]
        return self.add("Gemm", x, *(self.weight(f"{layer}.{name}", params[name]) for name in ("kernel", "bias")))

    def model(self, onnx: Any, described: Signature, batch: int | None) -> Any:
        """The whole as an `onnx.ModelProto`."""
        helper = onnx.helper

        def value(name: str, shape: tuple[int | None, ...]) -> Any:
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [batch or "batch", *shape[1:]])

        graph = helper.make_graph(
            [helper.make_node(operator, inputs, [name], name, **more) for operator, inputs, name, more in self._nodes],
            "maskgan_jax",
            [value(*item) for item in described.inputs.items()],
            [value(*item) for item in described.output.items()],
            [onnx.numpy_helper.from_array(array, name) for name, array in self._weights.items()],
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="maskgan_jax")


def _draw_generator(graph: _Graph, network: StoredNetwork) -> None:
    """`models.unet.UNet`."""
    depth = network.config.data.size.bit_length() - 1
    picture = graph.add("Transpose", "picture", perm=TO_CHANNELS_FIRST)
    x = picture
    if network.config.generator.inpaints:
        mask = graph.add("Transpose", "mask", perm=TO_CHANNELS_FIRST)
        zero = graph.weight("zero", 0.0)
        hidden = graph.add("Greater", mask, zero)
        x = graph.add("Concat", graph.add("Where", hidden, zero, picture), mask, axis=1)
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
    x = graph.add("Tanh", graph.conv(x, "up_0"))
    if network.config.generator.inpaints:
        x = graph.add("Where", hidden, x, picture)
    graph.add("Transpose", x, name="unmasked", perm=TO_CHANNELS_LAST)


def _draw_landmark_net(graph: _Graph, network: StoredNetwork) -> None:
    """`models.landmark_net.LandmarkNet`."""
    side = network.config.data.size
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
    depth = network.config.data.size.bit_length() - 3
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


DRAW: dict[str, Callable[[_Graph, StoredNetwork], None]] = {
    "unmask": _draw_generator,
    "landmarks": _draw_landmark_net,
    "segmentation": _draw_segmentation_net,
}
