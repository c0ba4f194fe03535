import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from maskgan_jax.errors import UserError
from maskgan_jax.models.generators import create_generator
from maskgan_jax.models.landmark_net import LandmarkNet
from maskgan_jax.models.patchgan import PatchGAN
from maskgan_jax.models.unet import UNet
from maskgan_jax.networks.safetensors import load_safetensors, read_header, save_safetensors
from maskgan_jax.pytorch import convert

SIDE = 64
NORMS = ("instance", "batch", "none")


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(1).uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def generator(draw_variables):
    """A function from a norm to our generator and its variables, running statistics drawn as well."""

    def make(norm):
        model = UNet(4, norm, dropout=0.0)
        variables = draw_variables(model, np.zeros((1, SIDE, SIDE, 3), np.float32))
        rng = np.random.default_rng(2)
        statistics = jax.tree.map(lambda x: rng.uniform(0.5, 1.5, x.shape).astype(np.float32), variables.get("batch_stats", {}))
        return model, {"params": variables["params"], "batch_stats": statistics}

    return make


@pytest.fixture(scope="module")
def discriminator(draw_variables, picture):
    def make(norm, layers=3):
        model = PatchGAN(4, layers, norm)
        return model, draw_variables(model, picture[:1], picture[:1])

    return make


def assert_equal_trees(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def filled(network, state):
    """The PyTorch network with converted weights; all names and shapes must be the same."""
    torch = pytest.importorskip("torch")
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=True)
    return network


def to_torch(picture):
    return pytest.importorskip("torch").from_numpy(picture).permute(0, 3, 1, 2)


@pytest.mark.parametrize("norm", NORMS)
def test_generator_round_trip(generator, norm):
    _, variables = generator(norm)
    state = convert.generator_to_pytorch(variables)
    assert_equal_trees(convert.generator_from_pytorch(state), variables)
    assert_equal_trees(convert.generator_to_pytorch(convert.generator_from_pytorch(state)), state)


@pytest.mark.parametrize(("norm", "layers"), [("instance", 3), ("batch", 3), ("none", 3), ("instance", 1), ("instance", 4)])
def test_discriminator_round_trip(discriminator, norm, layers):
    _, variables = discriminator(norm, layers)
    state = convert.discriminator_to_pytorch(variables, batch_norm=norm == "batch")
    assert_equal_trees(convert.discriminator_from_pytorch(state), {"params": variables["params"]})
    back = convert.discriminator_to_pytorch(convert.discriminator_from_pytorch(state), batch_norm=norm == "batch")
    assert_equal_trees(back, state)


def test_names_of_pix2pix(generator, discriminator):
    """Written down from the structure of `UnetGenerator` and `NLayerDiscriminator` with batch norm."""
    state = convert.generator_to_pytorch(generator("batch")[1])
    innermost = "model.model.1.model.3.model.3.model.3.model.3.model"
    assert {name for name in state if name.startswith(innermost)} == {
        f"{innermost}.{name}"
        for name in ("1.weight", "3.weight", *(f"4.{n}" for n in ("weight", "bias", "running_mean", "running_var")))
    } | {f"{innermost}.4.num_batches_tracked"}
    assert {"model.model.0.weight", "model.model.3.weight", "model.model.3.bias", "model.model.1.model.5.weight"} < set(state)
    assert "model.model.0.bias" not in state
    state = convert.discriminator_to_pytorch(discriminator("instance")[1])
    numbers = {int(name.split(".")[1]) for name in state}
    assert numbers == {0, 2, 3, 5, 6, 8, 9, 11}


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_same_generator(generator, picture, norm, train):
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("maskgan_jax.pytorch.networks")
    model, variables = generator(norm)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=train, mutable=["batch_stats"])[0])(variables, picture)
    network = filled(networks.UNetGenerator(SIDE, 4, norm, 0.0, ()), convert.generator_to_pytorch(variables)).train(train)
    with torch.inference_mode():
        theirs = network(to_torch(picture)).permute(0, 2, 3, 1).numpy()
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_residual_generator_is_none_of_pix2pix(draw_variables, make_config, picture, tmp_path):
    config = make_config()
    config.generator.update(architecture="residual", inpaints=True)
    variables = draw_variables(create_generator(config), picture[:1], picture[:1, ..., :1])
    save_safetensors(tmp_path / "ours.safetensors", variables, config)
    with pytest.raises(UserError, match="pix2pix does not have; `maskgan export --format=pytorch`"):
        convert.main([str(tmp_path / "ours.safetensors"), f"--out={tmp_path / 'out.safetensors'}"])
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_same_discriminator(discriminator, picture, norm):
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("maskgan_jax.pytorch.networks")
    model, variables = discriminator(norm)
    other = picture[::-1].copy()
    ours, _ = jax.jit(model.apply)(variables, picture, other)
    state = convert.discriminator_to_pytorch(variables, batch_norm=norm == "batch")
    with torch.inference_mode():
        theirs = filled(networks.PatchGAN(4, 3, norm), state)(to_torch(picture), to_torch(other)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_same_landmark_net(draw_variables, picture):
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("maskgan_jax.pytorch.networks")
    model = LandmarkNet(4)
    variables = draw_variables(model, picture[:1])
    network = filled(networks.LandmarkNet(SIDE, 4), convert.twin_to_pytorch(variables, SIDE)).eval()
    with torch.inference_mode():
        theirs = network(to_torch(picture)).numpy()
    np.testing.assert_allclose(jax.jit(model.apply)(variables, picture), theirs, atol=1e-3)


def test_discriminator_of_pix2pix_with_instance_norm(picture):
    """There the norms have no parameters, and the convolutions before them have biases, which change nothing."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    layers = [nn.Conv2d(6, 4, 4, 2, 1), nn.LeakyReLU(0.2)]
    for inputs, outputs, stride in ((4, 8, 2), (8, 16, 2), (16, 32, 1)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride, 1), nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.2)]
    model = nn.Sequential(*layers, nn.Conv2d(32, 1, 4, 1, 1))
    state = {f"model.{name}": array.numpy() for name, array in model.state_dict().items()}
    variables = convert.discriminator_from_pytorch(state)
    with torch.inference_mode():
        theirs = model(torch.cat([to_torch(picture), to_torch(picture)], 1))[:, 0].numpy()
    np.testing.assert_allclose(jax.jit(PatchGAN(4).apply)(variables, picture, picture)[0], theirs, atol=1e-4)


def test_generator_of_pix2pix_with_instance_norm(generator):
    _, variables = generator("none")
    state = convert.generator_to_pytorch(variables)
    for ours, theirs in convert._generator_names(6).items():
        if "norm" not in ours and ours != "up_0":
            kernel = variables["params"][ours]["kernel"]
            state[f"{theirs}.bias"] = np.zeros(kernel.shape[-1], np.float32)
    converted = convert.generator_from_pytorch(state)
    expected = jax.eval_shape(UNet(4, "instance").init, jax.random.key(0), np.zeros((1, SIDE, SIDE, 3)))
    assert jax.tree.map(np.shape, converted["params"]) == jax.tree.map(np.shape, expected["params"])
    state["model.model.0.bias"] += 1
    with pytest.raises(UserError, match="model.model.0.bias changes what comes out"):
        convert.generator_from_pytorch(state)


@pytest.mark.parametrize("norm", NORMS)
def test_program_both_ways(generator, norm, tmp_path, capsys):
    _, variables = generator(norm)
    theirs, ours, again = (tmp_path / f"{name}.safetensors" for name in ("theirs", "ours", "again"))
    state = convert.generator_to_pytorch(variables)
    safetensors.numpy.save_file(state, theirs)
    convert.main([str(theirs), f"--out={ours}"])
    assert str(ours) in capsys.readouterr().out
    description, _ = read_header(ours)
    assert (description.size, description.settings["width"], description.settings["norm"]) == (SIDE, 4, norm)
    assert_equal_trees(load_safetensors(ours), variables)
    convert.main([str(ours), f"--out={again}"])
    assert_equal_trees(safetensors.numpy.load_file(again), state)


def test_pth(generator, tmp_path):
    torch = pytest.importorskip("torch")
    _, variables = generator("batch")
    state = {name: torch.from_numpy(array) for name, array in convert.generator_to_pytorch(variables).items()}
    torch.save(state, tmp_path / "latest_net_G.pth")
    convert.main([str(tmp_path / "latest_net_G.pth"), f"--out={tmp_path / 'ours.safetensors'}"])
    assert_equal_trees(load_safetensors(tmp_path / "ours.safetensors"), variables)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("prefix", ["module.", "state_dict.netG.", "G.module."])
def test_pth_of_several_gpus_and_of_half_precision(prefix, kind, generator, tmp_path):
    """Names with a prefix, within a checkpoint or not; weights rounded as they are in the file."""
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, kind)
    state = convert.generator_to_pytorch(generator("batch")[1])
    rounded = {name: torch.from_numpy(array).to(dtype) if array.ndim else torch.tensor(7) for name, array in state.items()}
    outer, _, inner = prefix.rpartition(".")[0].rpartition(".")
    inside = {f"{inner}.{name}": tensor for name, tensor in rounded.items()}
    torch.save({"epoch": 5, outer: inside, "optimizer": {"x": torch.ones(2)}} if outer else inside, tmp_path / "G.pth")
    convert.main([str(tmp_path / "G.pth"), f"--out={tmp_path / 'ours.safetensors'}"])
    expected = convert.generator_from_pytorch({name: tensor.float().numpy() for name, tensor in rounded.items()})
    assert_equal_trees(load_safetensors(tmp_path / "ours.safetensors"), expected)


def test_several_generators_in_one_file(generator):
    state = convert.generator_to_pytorch(generator("batch")[1])
    both = {f"{which}.{name}": array for which in ("A", "B") for name, array in state.items()}
    with pytest.raises(UserError, match=r"several generators \(A\., B\.\); save one"):
        convert.generator_from_pytorch(both)


def test_weights_of_pytorch_name_the_converter(generator, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(2)}, tmp_path / "G.pth")
    with pytest.raises(UserError, match=r"G\.pth is for PyTorch; .*`python -m maskgan_jax\.pytorch\.convert FILE"):
        read_header(tmp_path / "G.pth")


def test_it_runs_as_its_messages_say(tmp_path):
    command = [sys.executable, "-m", "maskgan_jax.pytorch.convert", "nothing.pth", "--out=generator.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("convert: error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_other_files(generator, discriminator, tmp_path):
    path = tmp_path / "other.safetensors"
    arguments = [str(path), f"--out={tmp_path / 'out.safetensors'}"]
    with pytest.raises(UserError, match="cannot read"):
        convert.main(arguments)
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match="not a readable state dict"):
        convert.main(arguments)
    state = convert.generator_to_pytorch(generator("batch")[1])
    for change, message in (
        ({"model.model.4.weight": np.zeros(3, np.float32)}, "has no model.model.4.weight"),
        ({"model.model.0.weight": np.zeros((4, 1, 4, 4), np.float32)}, "not as wide as pix2pix"),
        ({"model.model.0.weight": np.zeros(4, np.float32)}, "has a kernel model.model.0.weight"),
    ):
        safetensors.numpy.save_file({**state, **change}, path)
        with pytest.raises(UserError, match=message):
            convert.main(arguments)
    safetensors.numpy.save_file(convert.discriminator_to_pytorch(discriminator("batch")[1]), path)
    with pytest.raises(UserError, match="not a UnetGenerator"):
        convert.main(arguments)
    with pytest.raises(UserError, match="not an NLayerDiscriminator"):
        convert.discriminator_from_pytorch(state)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("levels", [3, 31])
def test_generators_for_sizes_that_are_not_here(levels, tmp_path):
    """The size follows from the names: an image of 2 ** 31 pixels a side is not to be made."""
    names = [theirs for ours, theirs in convert._generator_names(levels).items() if "norm" not in ours]
    state = {f"{name}.weight": np.zeros((1, 1, 4, 4), np.float32) for name in names}
    state["model.model.3.bias"] = np.zeros(1, np.float32)
    path = tmp_path / "generator.safetensors"
    path.write_bytes(safetensors.numpy.save(state))
    with pytest.raises(UserError, match=f"is a generator of width 1 for {2**levels} px"):
        convert.main([str(path), f"--out={tmp_path / 'out.safetensors'}"])
