"""Against the definition of LPIPS written in PyTorch, with random weights: the published ones cannot be fetched."""

import numpy as np
import pytest
import safetensors.numpy

from maskgan_jax.errors import UserError
from maskgan_jax.models.lpips import load_lpips, lpips

SIZES = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]


@pytest.fixture(scope="module")
def states():
    """Random state dicts of AlexNet (with a part of its classifier, which is of no use here) and of the heads."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    alexnet = {"classifier.6.bias": torch.zeros(10), "classifier.6.weight": torch.zeros(10, 4)}
    for layer, (out, features, side) in zip((0, 3, 6, 8, 10), SIZES, strict=True):
        alexnet[f"features.{layer}.weight"] = torch.randn(out, features, side, side) * (2 / features / side**2) ** 0.5
        alexnet[f"features.{layer}.bias"] = 0.1 * torch.randn(out)
    return alexnet, {f"lin{k}.model.1.weight": torch.rand(1, size[0], 1, 1) for k, size in enumerate(SIZES)}


def lpips_in_torch(alexnet, heads, pictures, others):
    import torch
    from torch.nn import functional as F

    def taps(x):
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
        for layer, stride, padding, pool in ((0, 4, 2, 0), (3, 1, 2, 1), (6, 1, 1, 1), (8, 1, 1, 0), (10, 1, 1, 0)):
            x = F.max_pool2d(x, 3, 2) if pool else x
            x = F.relu(F.conv2d(x, alexnet[f"features.{layer}.weight"], alexnet[f"features.{layer}.bias"], stride, padding))
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    pictures, others = (torch.tensor(x).permute(0, 3, 1, 2) for x in (pictures, others))
    pairs = enumerate(zip(taps(pictures), taps(others), strict=True))
    return sum(F.conv2d((x - y) ** 2, heads[f"lin{k}.model.1.weight"]).mean((1, 2, 3)) for k, (x, y) in pairs).numpy()


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("shape", [(3, 64, 64, 3), (1, 37, 50, 3)])
def test_as_in_torch(states, tmp_path, form, shape):
    import torch

    paths = [tmp_path / f"{name}.{'safetensors' if form == 'safetensors' else 'pth'}" for name in ("alexnet", "heads")]
    for path, state in zip(paths, states, strict=True):
        if form == "safetensors":
            safetensors.numpy.save_file({name: tensor.numpy() for name, tensor in state.items()}, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    pictures, others = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    distance = lpips(load_lpips(*paths), pictures, others)
    assert distance.shape == shape[:1]
    np.testing.assert_allclose(distance, lpips_in_torch(*states, pictures, others), rtol=1e-5)


def test_wrong_files_are_named(states, tmp_path):
    import torch

    for name, state in zip(("alexnet.pth", "heads.pth"), states, strict=True):
        torch.save(state, tmp_path / name)
    with pytest.raises(UserError, match=r"heads\.pth is not torchvision's AlexNet"):
        load_lpips(tmp_path / "heads.pth", tmp_path / "alexnet.pth")
    with pytest.raises(UserError, match=r"alexnet\.pth is not the heads"):
        load_lpips(tmp_path / "alexnet.pth", tmp_path / "alexnet.pth")
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.pth"):
        load_lpips(tmp_path / "nowhere.pth", tmp_path / "heads.pth")


@pytest.mark.parametrize(
    "change",
    [
        {"features.0.weight": np.zeros(64, np.float32)},  # As of a norm.
        {"features.0.bias": np.zeros(9, np.float32)},
        {"features.0.bias": None},
    ],
)
def test_other_networks_of_torchvision(change, states, tmp_path):
    arrays = {name: tensor.numpy() for name, tensor in states[0].items()} | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    (tmp_path / "other.safetensors").write_bytes(safetensors.numpy.save(arrays))
    with pytest.raises(UserError, match=r"other\.safetensors is not torchvision's AlexNet"):
        load_lpips(tmp_path / "other.safetensors", tmp_path / "heads.pth")
