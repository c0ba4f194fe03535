from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from maskgan_jax import losses
from maskgan_jax.data.pipeline import evaluation_batches
from maskgan_jax.errors import UserError
from maskgan_jax.models.generators import create_generator
from maskgan_jax.models.landmark_net import LandmarkNet, create_landmark_net
from maskgan_jax.models.patchgan import create_discriminator
from maskgan_jax.models.segmentation_net import create_segmentation_net
from maskgan_jax.models.st_lpips import load_st_lpips, st_lpips
from maskgan_jax.networks.safetensors import load_safetensors, save_safetensors
from maskgan_jax.training import gan
from maskgan_jax.training.diff_augment import diff_augment
from maskgan_jax.training.gan import GAN, load_landmark_net, windows_about
from maskgan_jax.training.step import create_state, train_step


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    real, masked = rng.integers(0, 256, (2, 2, 64, 64, 3), np.uint8)
    mask = np.where(rng.random((2, 64, 32, 1)) < 0.3, np.uint8(255), np.uint8(0))
    mask = np.concatenate([mask, mask[:, ::-1, ::-1]], axis=2)
    landmarks = rng.uniform(0, 64, (2, 68, 2)).astype(np.float32)
    return {"real": real, "masked": np.where(mask > 0, masked, real), "mask": mask, "landmarks": landmarks}


@pytest.fixture(scope="module")
def make_step(make_config, landmark_file, batch):
    """What makes one step with every term of the paper's, batch norm, dropout and EMA, after `change` was done to its config.

    It gives config, key, state before, state after, what was logged.
    """

    def make(change=lambda config: None):
        config = make_config()
        config.generator.norm = config.discriminator.norm = "batch"
        config.losses.contour = 0.3
        config.losses.adversarial = 2.0
        config.landmark_net.weights = str(landmark_file)
        config.optimizer.ema = 0.9
        change(config)
        task = GAN(config)
        state = jax.jit(partial(create_state, task, config, 10))(jax.random.key(0))
        # At the start nearly nothing comes out of the networks.
        state = state.replace(params=jax.tree.map(lambda array: 3 * array, state.params))
        key = jax.random.key(7)
        after, logged = jax.jit(partial(train_step, task, config, 10))(state, task.frozen, batch, key)
        return config, key, state, after, logged

    return make


@pytest.fixture(scope="module")
def step(make_step):
    """A step of pix2pix's generator."""
    return make_step()


@pytest.fixture(scope="module")
def inpainting_step(make_step):
    """A step of a generator that is told the region, with the terms beyond the paper."""

    def change(config):
        config.generator.update(inpaints=True, upsampling="nearest")
        config.losses.update(feature_matching=0.7, perceptual=3.0, gradient_penalty=0.02)
        config.discriminator.augment = True

    return make_step(change)


def naive_losses(config, generator_params, discriminator_params, state, batch, key):
    """The discriminator's loss and the terms of the generator's, each with passes of its own on what was drawn once."""
    generator, discriminator = create_generator(config), create_discriminator(config)
    masked, real = (batch[name] / 127.5 - 1.0 for name in ("masked", "real"))
    mask = (batch["mask"] / 255.0).astype(np.float32)

    def seen(picture):
        shown, hidden = masked, mask
        if config.discriminator.augment:
            vary = jax.random.fold_in(jax.random.fold_in(key, state.step), 2)
            picture, shown, hidden = diff_augment(vary, picture, masked, mask)
        # What is hidden says nothing to the discriminator of an inpainting network.
        return jnp.concatenate([shown * (1 - hidden), hidden], -1) if config.generator.inpaints else shown, picture

    variables = {"params": generator_params, "batch_stats": state.batch_stats}
    rngs = {"dropout": jax.random.fold_in(key, state.step)}
    fake, _ = generator.apply(variables, masked, batch["mask"] / 255.0, train=True, rngs=rngs, mutable=["batch_stats"])

    def layers(picture):
        return discriminator.apply({"params": discriminator_params}, *seen(picture))[1]

    def judge(picture):
        return discriminator.apply({"params": discriminator_params}, *seen(picture))[0]

    points, real_points = (LandmarkNet(4).apply(load_safetensors(config.landmark_net.weights), p) for p in (fake, real))
    terms = {
        "adversarial": losses.adversarial_loss(judge(fake)),
        "l1": losses.l1_loss(fake, real),
        "contour": losses.contour_loss(points, real_points),
        "masked": losses.masked_loss(fake, real, batch["mask"] / 255.0),
    }
    if config.losses.feature_matching:
        terms["feature_matching"] = losses.feature_matching_loss(layers(fake), layers(real))
        window = windows_about(mask, 32, jax.random.fold_in(jax.random.fold_in(key, state.step), 1))
        terms["perceptual"] = st_lpips(load_st_lpips(), window(fake), window(real)).mean()
    discriminator_loss = losses.discriminator_loss(judge(real), judge(jax.lax.stop_gradient(fake)))
    if config.losses.gradient_penalty:
        slope = jax.grad(lambda picture: judge(picture).sum())(real)
        discriminator_loss += config.losses.gradient_penalty * (slope**2).sum() / len(real)
    return discriminator_loss, terms


def assert_trees_close(ours, expected):
    for (path, one), other in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(expected), strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, atol=1e-3 * scale + 1e-7, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("kind", ["step", "inpainting_step"])
def test_gradients_equal_those_of_the_composed_losses(kind, request, batch):
    config, key, state, after, logged = request.getfixturevalue(kind)

    def generator_loss(params):
        _, terms = naive_losses(config, params, state.params["discriminator"], state, batch, key)
        return sum(config.losses[name] * value for name, value in terms.items()), terms

    def discriminator_loss(params):
        return naive_losses(config, state.params["generator"], params, state, batch, key)[0]

    (total, terms), generator_gradient = jax.jit(jax.value_and_grad(generator_loss, has_aux=True))(state.params["generator"])
    value, discriminator_gradient = jax.jit(jax.value_and_grad(discriminator_loss))(state.params["discriminator"])
    assert logged["generator"] == pytest.approx(float(total), rel=1e-4)
    penalty = config.losses.gradient_penalty * float(logged.get("gradient_penalty", 0))
    assert logged["discriminator"] + penalty == pytest.approx(float(value), rel=1e-4)
    for name, term in terms.items():
        assert logged[name] == pytest.approx(float(term), rel=1e-4)
    # Adam's first moment after one step is the gradient times 1 - b1.
    for name, expected in (("generator", generator_gradient), ("discriminator", discriminator_gradient)):
        moment = after.optimizer[name][0].mu
        assert_trees_close(jax.tree.map(lambda array: array / (1 - config.optimizer.b1), moment), expected)


def test_windows_lie_about_hidden_pixels():
    mask, pictures = np.zeros((64, 64, 64, 1), np.float32), np.zeros((64, 64, 64, 3), np.float32)
    pictures[..., 0], pictures[..., 1] = np.arange(64)[:, None], np.arange(64)
    mask[:32, 30:41, 20:45] = 1
    mask[32:48, 60:, :3] = 1
    cut = np.asarray(windows_about(mask, 32, jax.random.key(0))(pictures))
    assert cut.shape == (64, 32, 32, 3)
    middles = cut[:32, 16, 16, :2]
    assert np.all((middles >= (30, 20)) & (middles < (41, 45))) and len(np.unique(middles, axis=0)) > 16
    # At an edge, and where nothing is hidden, they stay inside.
    assert np.all(cut[32:48, 0, 0, :2] == (32, 0)) and np.all(cut[48:, 0, 0, :2] == (0, 0))


def test_rematerialisation_changes_no_value(step, batch):
    config, key, state, after, logged = step
    config = ConfigDict(config)
    config.training.remat = True
    task = GAN(config)
    jitted = jax.jit(partial(train_step, task, config, 10))
    assert "remat" in str(jax.make_jaxpr(jitted)(state, task.frozen, batch, key))
    again, terms = jitted(state, task.frozen, batch, key)
    assert {n: float(value) for n, value in terms.items()} == pytest.approx({n: float(v) for n, v in logged.items()}, rel=1e-5)
    for name, optimizer in again.optimizer.items():
        assert_trees_close(optimizer[0].mu, after.optimizer[name][0].mu)
    assert_trees_close(again.batch_stats, after.batch_stats)


def test_landmark_network_takes_the_arithmetic_of_the_run(config, landmark_file):
    config.landmark_net.weights = str(landmark_file)
    config.training.compute = "bfloat16"
    find_landmarks, variables = load_landmark_net(config)
    pictures = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    found = jax.jit(find_landmarks)(variables, pictures)
    np.testing.assert_allclose(found, jax.jit(LandmarkNet(4, jnp.bfloat16).apply)(variables, pictures), rtol=1e-5)
    assert np.any(found != jax.jit(LandmarkNet(4).apply)(variables, pictures))


def test_landmark_network_for_smaller_faces_sees_them_shrunk(config, landmark_file):
    config.landmark_net.weights = str(landmark_file)
    config.data.size = 128
    find_landmarks, variables = load_landmark_net(config)
    small = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    found = jax.jit(find_landmarks)(variables, small.repeat(2, 1).repeat(2, 2))
    # The middle of the first of two pixels lies a quarter of a shrunk pixel before the middle of both.
    np.testing.assert_allclose(found, 2 * jax.jit(LandmarkNet(4).apply)(variables, small) + 0.5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["step", "inpainting_step"])
def test_every_term_is_logged_raw_and_weighted(kind, request):
    config, *_, logged = request.getfixturevalue(kind)
    names = ["adversarial", "l1", "contour", "masked"]
    others = ["contour_floor", "learning_rate", "gradient_norm_generator", "gradient_norm_discriminator"]
    if config.losses.feature_matching:
        names += ["feature_matching", "perceptual"]
    of_discriminator = ["discriminator", *(["gradient_penalty"] if config.losses.gradient_penalty else [])]
    assert set(logged) == {*names, *(f"weighted_{name}" for name in names), "generator", *of_discriminator, *others}
    for name in names:
        assert logged[f"weighted_{name}"] == pytest.approx(config.losses[name] * float(logged[name]), rel=1e-5)
    assert logged["generator"] == pytest.approx(sum(float(logged[f"weighted_{name}"]) for name in names), rel=1e-5)


def test_moving_average_of_the_generator(step):
    _, _, state, after, _ = step
    # 0.9 is what it comes to; in the first step a tenth is kept.
    now = {"params": after.params["generator"], "batch_stats": after.batch_stats}
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, state.ema, now)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), after.ema, expected)


def test_step_counts_and_moves_everything(step):
    _, _, state, after, _ = step
    assert (state.step, after.step) == (0, 1)
    for trees in ((state.params, after.params), (state.batch_stats, after.batch_stats)):
        assert all(np.any(old != new) for old, new in zip(*map(jax.tree.leaves, trees), strict=True))


def test_results_are_the_moving_average_if_there_is_one(plain_task, step):
    *_, after, _ = step
    assert plain_task.results(after) is after.ema
    results = plain_task.results(after.replace(ema={}))
    assert results["params"] is after.params["generator"] and results["batch_stats"] is after.batch_stats


@pytest.fixture(scope="module")
def plain_task(make_config):
    return GAN(make_config())


@pytest.fixture(scope="module")
def validated(plain_task, generator_variables):
    """A function from a batch of two to its validation scores."""
    validate = jax.jit(plain_task.validate)
    return lambda batch: {name: float(score) for name, score in validate(generator_variables, batch).compute().items()}


def test_validation_scores(validated, generator_variables, batch, config):
    scores = validated({**batch, "weight": np.ones(2, np.float32)})
    generated = jax.jit(create_generator(config).apply)(generator_variables, batch["masked"] / np.float32(127.5) - 1)
    raw = np.clip(np.round((np.asarray(generated, np.float64) + 1) * 127.5), 0, 255)
    real, hidden = batch["real"].astype(float), batch["mask"] > 127
    composite = np.where(hidden, raw, batch["masked"])

    def psnr(picture):
        return np.mean(10 * np.log10(255**2 / np.square(picture - real).mean((1, 2, 3))))

    squared = np.square(composite - real).sum(-1)
    expected = {
        "mse_masked": np.mean([s[h].mean() for s, h in zip(squared, hidden[..., 0], strict=True)]),
        "psnr": psnr(composite),
        "psnr_raw": psnr(raw),
        "l1_raw": np.abs(raw - real).mean(),
    }
    # The network's last digit may decide how a pixel is rounded.
    assert scores == pytest.approx(expected, rel=1e-3)


def test_the_best_checkpoint_may_go_by_st_lpips(make_config, generator_variables, batch):
    config = make_config()
    config.training.best_by = "st_lpips"
    task = GAN(config)
    assert task.criterion == "st_lpips"
    scores = jax.jit(task.validate)(generator_variables, {**batch, "weight": np.ones(2, np.float32)}).compute()
    _, composites = jax.jit(task.unmask)(generator_variables, batch)
    pair = [np.asarray(images, np.float32) / 127.5 - 1 for images in (composites, batch["real"])]
    assert float(scores["st_lpips"]) == pytest.approx(float(jax.jit(st_lpips)(load_st_lpips(), *pair).mean()), rel=1e-3)


def test_copies_that_fill_the_last_batch_count_for_nothing(validated, batch):
    records = [{name: array[i] for name, array in batch.items()} for i in range(2)]
    (filled,) = evaluation_batches(records[:1], 2)
    assert filled["weight"].tolist() == [1, 0]
    expected = validated({**batch, "weight": filled["weight"]})
    assert validated(filled) == pytest.approx(expected, rel=1e-5)
    assert validated({**batch, "weight": np.ones(2, np.float32)}) != pytest.approx(expected, rel=1e-5)


def test_pictures_show_masked_raw_put_back_and_real(plain_task, generator_variables, batch):
    drawn = plain_task.draw(generator_variables, batch)
    assert drawn.shape == (2 * 64, 4 * 64, 3) and drawn.dtype == np.uint8
    for i in range(2):
        masked, raw, composite, real = np.split(drawn[64 * i : 64 * (i + 1)], 4, axis=1)
        np.testing.assert_array_equal(masked, batch["masked"][i])
        np.testing.assert_array_equal(real, batch["real"][i])
        np.testing.assert_array_equal(composite, np.where(batch["mask"][i] > 127, raw, masked))


def test_networks_come_in_one_order_in_all_processes(plain_task, monkeypatch):
    names = [f"perceptual_{i}" for i in range(20)]
    monkeypatch.setattr(gan, "PERCEPTUAL", dict.fromkeys(names, "alex"))
    frozen = {name: np.zeros(1, np.float32) for name in reversed(names)}
    assert list(plain_task.networks(frozen, np.zeros((1, 64, 64, 1)), jax.random.key(0))) == names


def test_contour_loss_needs_a_landmark_network(config, make_config, generator_file, tmp_path, draw_variables):
    assert load_landmark_net(config) == (None, {})
    config.losses.contour = 0.1
    with pytest.raises(UserError, match="the contour loss needs a landmark network"):
        GAN(config)
    config.landmark_net.weights = str(generator_file)
    with pytest.raises(UserError, match="trained for 'unmask'"):
        GAN(config)
    config.landmark_net.weights = str(tmp_path / "other.safetensors")
    other = make_config()
    other.task, other.data.size = "landmarks", 128
    variables = draw_variables(create_landmark_net(other), np.zeros((1, 128, 128, 3), np.float32))
    save_safetensors(config.landmark_net.weights, variables, other)
    with pytest.raises(UserError, match="is for 128 px, not 64"):
        GAN(config)


def test_contour_is_measured_without_a_weight_if_a_network_is_given(config, landmark_file):
    config.landmark_net.weights = str(landmark_file)
    find_landmarks, variables = load_landmark_net(config)
    assert find_landmarks is not None and "params" in variables


def test_training_begins_with_given_weights(config, generator_file):
    config.generator.weights = str(generator_file)
    task = GAN(config)
    given = load_safetensors(generator_file)
    jax.tree.map(np.testing.assert_array_equal, task.first(), given)
    config.generator.upsampling = "nearest"
    with pytest.raises(UserError, match=r"was trained with generator\.upsampling=transposed, not nearest; make them alike"):
        GAN(config).first()
    config.generator.weights = ""
    assert GAN(config).first() is None


def test_the_floor_of_c1_is_the_landmark_networks_error(step, batch):
    config, *_, logged = step
    found = jax.jit(LandmarkNet(4).apply)(load_safetensors(config.landmark_net.weights), batch["real"] / 127.5 - 1.0)
    expected = np.abs(np.asarray(found) - batch["landmarks"])[:, :17].sum(-1).mean()
    assert float(logged["contour_floor"]) == pytest.approx(expected, rel=1e-4)


def test_norms_of_the_gradients(step):
    config, _, _, after, logged = step
    for name in ("generator", "discriminator"):
        # Adam's first moment after one step is the gradient times 1 - b1.
        squares = sum(np.square(leaf).sum() for leaf in jax.tree.leaves(after.optimizer[name][0].mu))
        assert float(logged[f"gradient_norm_{name}"]) == pytest.approx(squares**0.5 / (1 - config.optimizer.b1), rel=1e-4)


@pytest.fixture(scope="module")
def yi_config(make_config, draw_variables, tmp_path_factory):
    """The baseline with two discriminators and a network in it that was trained before."""
    config = make_config()
    config.task = "segmentation"
    path = tmp_path_factory.mktemp("map") / "map.safetensors"
    variables = draw_variables(create_segmentation_net(config), np.zeros((1, 64, 64, 3), np.float32))
    save_safetensors(path, variables, config)
    config.task = "unmask"
    config.generator.update(architecture="yi", width=2)
    config.segmentation_net.weights = str(path)
    config.losses.update(ssim=10.0, masked=0.0)
    return config


def test_a_part_that_is_trained_before_and_a_discriminator_that_joins(yi_config, batch):
    task = GAN(yi_config)
    state = jax.jit(partial(create_state, task, yi_config, 10))(jax.random.key(0))
    given = load_safetensors(yi_config.segmentation_net.weights)
    step = jax.jit(partial(train_step, task, yi_config, 10))
    first = state
    for number in range(5):
        before = state
        state, logged = step(state, task.frozen, batch, jax.random.key(7))
        joined = number >= 4  # Two fifths of ten steps are done.
        kernels = [each.params["mask_discriminator"]["conv_0"]["kernel"] for each in (before, state)]
        assert np.any(kernels[0] != kernels[1]) == joined
        # Adam begins here: its first step is of the learning rate.
        assert np.abs(kernels[0] - kernels[1]).max() <= 1.01 * logged["learning_rate"]
        assert logged["mask_discriminator"] > 0 and logged["ssim"] > 0
    assert np.any(first.params["discriminator"]["conv_0"]["kernel"] != state.params["discriminator"]["conv_0"]["kernel"])
    assert np.any(first.params["generator"]["output"]["kernel"] != state.params["generator"]["output"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, state.params["generator"]["map_net"], given["params"])
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats["map_net"], given["batch_stats"])


def test_the_weight_of_a_discriminator_before_and_after_it_joins(yi_config, batch):
    """The logged adversarial term, from the judgements themselves."""
    task = GAN(yi_config)
    params, batch_stats = jax.jit(task.init)(jax.random.key(0))
    masked, real = (jnp.asarray(batch[name], jnp.float32) / 127.5 - 1 for name in ("masked", "real"))

    @jax.jit
    def judged(params, batch_stats):
        generated = task.generator.apply({"params": params["generator"], "batch_stats": batch_stats}, masked)
        shown = {"discriminator": generated, "mask_discriminator": jnp.where(batch["mask"] > 0, generated, masked)}
        judgements = {
            name: task.discriminators[name].module.apply({"params": params[name]}, masked, image)[0]
            for name, image in shown.items()
        }
        return {name: jax.nn.softplus(-judgement).mean() for name, judgement in judgements.items()}

    terms = {name: float(term) for name, term in judged(params, batch_stats).items()}
    gradients = jax.jit(
        lambda progress: task.gradients(params, batch_stats, task.frozen, {**batch, "progress": progress}, jax.random.key(0))
    )
    for progress, weight in ((0.39, 0.0), (0.4, 0.7)):
        expected = 0.3 * terms["discriminator"] + weight * terms["mask_discriminator"]
        assert float(gradients(progress)[2]["adversarial"]) == pytest.approx(expected, rel=1e-4)


def test_parts_that_do_not_fit(yi_config, draw_variables, tmp_path):
    config = yi_config.copy_and_resolve_references()
    config.segmentation_net.weights = ""
    with pytest.raises(
        UserError, match=r"'yi' needs a network that was trained for 'segmentation'.*segmentation_net.weights=DIR"
    ):
        GAN(config)
    config.segmentation_net.weights = yi_config.segmentation_net.weights
    config.data.size = 128
    with pytest.raises(UserError, match="was trained with data.size=64, not 128"):
        GAN(config)
    config.data.size = 64
    config.task = "segmentation"
    config.segmentation_net.width = 24
    variables = draw_variables(create_segmentation_net(config), np.zeros((1, 64, 64, 3), np.float32))
    config.segmentation_net.weights = str(tmp_path / "wide.safetensors")
    save_safetensors(config.segmentation_net.weights, variables, config)
    config.task = "unmask"
    with pytest.raises(UserError, match="wide.safetensors has other layers than 'map_net'.*configs/yi.py"):
        GAN(config)
