"""face-api's classifier of facial expressions, a small network of four dense blocks, with its published weights.

Source: `FaceExpressionNet` of https://github.com/vladmandic/face-api. Its weights are bytes; the manifest beside them gives the
names and shapes, and scale and offset of each array.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from maskgan_jax.weights.fetch import weight_file

EXPRESSION_FILES = ("face_expression_model-weights_manifest.json", "face_expression_model.bin")
# In the order of the network's outputs.
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
# The network sees faces of this many pixels a side.
SIDE = 112
# Of R, G and B; what the network was trained with.
MEAN = (122.782, 117.001, 104.298)

# By the published names: `dense0/conv0/filters`, ..., `fc/bias`.
Weights = Mapping[str, np.ndarray]


def load_expression_net() -> dict[str, np.ndarray]:
    """The published weights, float32.

    Raises:
      UserError: they have not been fetched yet.
    """
    manifest, data = (weight_file(name).read_bytes() for name in EXPRESSION_FILES)
    weights, position = {}, 0
    for entry in json.loads(manifest)[0]["weights"]:
        quantization = entry.get("quantization")
        stored = np.frombuffer(data, np.uint8 if quantization else np.float32, int(np.prod(entry["shape"])), position)
        position += stored.nbytes
        values = stored * quantization["scale"] + quantization["min"] if quantization else stored
        weights[entry["name"]] = values.reshape(entry["shape"]).astype(np.float32)
    return weights


def crop_for_expression(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face as the network wants it: the square around the landmarks' box, the longer side of which is its side.

    Args:
      image: `[H, W, 3]` uint8. Beyond its edges, its outermost pixels are repeated.
      landmarks: `[68, 2]`, (x, y) in pixels.

    Returns:
      `[112, 112, 3]` uint8.
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    side = max(1, round(float((high - low).max())))
    left, top = np.rint((low + high - side) / 2).astype(int)
    # How far the square may reach beyond an edge of the image.
    margin = max(0, -left, -top, left + side - image.shape[1], top + side - image.shape[0])
    image = cv2.copyMakeBorder(image, *[margin] * 4, cv2.BORDER_REPLICATE)
    face = image[top + margin :, left + margin :][:side, :side]
    return cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA if side > SIDE else cv2.INTER_LINEAR)


@jax.jit
def expression_probabilities(weights: Weights, faces: jax.Array) -> jax.Array:
    """The probability of each of `EXPRESSIONS`.

    Args:
      weights: from `load_expression_net`.
      faces: `[B, 112, 112, 3]` RGB in 0..255, of any type.

    Returns:
      `[B, 7]` float32.
    """
    x = (jnp.asarray(faces, jnp.float32) - jnp.array(MEAN)) / 255
    for block in ("dense0", "dense1", "dense2", "dense3"):
        x = _dense_block(weights, block, x)
    # At this size, 7 x 7 are left: the network's pooling is over all of them.
    return nn.softmax(x.mean((1, 2)) @ weights["fc/weights"] + weights["fc/bias"])


def _dense_block(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """Four convolutions, each of which takes the sum of all the results before it; halves the sides."""
    total = nn.relu(_convolution(weights, f"{name}/conv0", x, stride=2))
    for layer in ("conv1", "conv2", "conv3"):
        total += _convolution(weights, f"{name}/{layer}", nn.relu(total))
    return nn.relu(total)


def _convolution(weights: Weights, name: str, x: jax.Array, stride: int = 1) -> jax.Array:
    """A convolution of 3 x 3 with bias: plain, or depthwise and then pointwise."""
    if f"{name}/filters" in weights:
        return _convolve(x, weights[f"{name}/filters"], stride) + weights[f"{name}/bias"]
    depthwise = jnp.swapaxes(weights[f"{name}/depthwise_filter"], 2, 3)
    x = _convolve(x, depthwise, stride, groups=x.shape[-1])
    return _convolve(x, weights[f"{name}/pointwise_filter"]) + weights[f"{name}/bias"]


def _convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=layout, feature_group_count=groups
    )
