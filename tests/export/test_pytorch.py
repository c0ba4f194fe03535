import pytest

from maskgan_jax.export.pytorch import save_pytorch


def test_pytorch_gives_the_same(network, inputs, expected, assert_close, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from maskgan_jax.pytorch.networks import create_generator, create_landmark_net, create_segmentation_net

    create = {"unmask": create_generator, "landmarks": create_landmark_net, "segmentation": create_segmentation_net}
    task = network.config.task
    save_pytorch(tmp_path / "network.safetensors", network)
    module = create[task](network.config)
    module.load_state_dict(load_file(tmp_path / "network.safetensors"))
    module.eval()
    with torch.no_grad():
        output = module(*(torch.tensor(array).permute(0, 3, 1, 2) for array in inputs))
    output = output.permute(0, 2, 3, 1) if task == "unmask" else output.sigmoid() if task == "segmentation" else output
    assert_close(output.numpy(), expected)
