import pytest
from ml_collections import ConfigDict

from maskgan_jax.export.pytorch import save_pytorch


def load_and_run(network, inputs, path):
    """What the network, written to `path`, gives in PyTorch."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from maskgan_jax.pytorch.networks import create_generator, create_landmark_net, create_segmentation_net

    create = {"unmask": create_generator, "landmarks": create_landmark_net, "segmentation": create_segmentation_net}
    task = network.description.task
    save_pytorch(path, network)
    module = create[task](ConfigDict(network.config))
    module.load_state_dict(load_file(path))
    module.eval()
    with torch.no_grad():
        output = module(*(torch.tensor(array).permute(0, 3, 1, 2) for array in inputs))
    output = output.permute(0, 2, 3, 1) if task == "unmask" else output.sigmoid() if task == "segmentation" else output
    return output.numpy()


def test_pytorch_gives_the_same(network, inputs, expected, assert_close, tmp_path):
    assert_close(load_and_run(network, inputs, tmp_path / "network.safetensors"), expected)


def test_residual_generator_with_other_norms(other_residual, assert_close, tmp_path):
    network, inputs, expected = other_residual
    assert_close(load_and_run(network, inputs, tmp_path / "network.safetensors"), expected)
