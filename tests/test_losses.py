import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskgan_jax.losses import (
    TERMS,
    Context,
    Judgement,
    adversarial_loss,
    contour_loss,
    discriminator_loss,
    feature_matching_loss,
    gradient_penalty,
    l1_loss,
    masked_loss,
    ssim_loss,
)
from maskgan_jax.models.landmark_net import LandmarkNet


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def faces(rng):
    """Two generated and two real pictures in [-1, 1]."""
    return rng.uniform(-1, 1, (2, 2, 8, 8, 3))


@pytest.fixture
def landmarks(rng):
    """Two generated and two real sets of points."""
    return rng.uniform(0, 64, (2, 2, 68, 2))


def test_equation_1_generator_makes_d_fake_close_to_one(rng):
    logits = rng.normal(0, 3, (2, 5, 5))
    assert adversarial_loss(logits) == pytest.approx(-np.log(sigmoid(logits)).mean(), rel=1e-5)
    assert adversarial_loss(logits + 1) < adversarial_loss(logits)


def test_equation_1_l1_over_the_whole_picture(faces):
    generated, real = faces
    assert l1_loss(generated, real) == pytest.approx(np.abs(generated - real).mean(), rel=1e-5)


def test_equation_2_discriminator_halved(rng):
    real, fake = rng.normal(0, 3, (2, 2, 5, 5))
    expected = -(np.log(sigmoid(real)).mean() + np.log(1 - sigmoid(fake)).mean()) / 2
    assert discriminator_loss(real, fake) == pytest.approx(expected, rel=1e-5)


def test_adversarial_losses_are_finite_for_any_logits():
    extreme = jnp.array([[[-1e4, 1e4]]])
    for loss in (adversarial_loss, lambda logits: discriminator_loss(logits, logits)):
        value, gradient = jax.value_and_grad(loss)(extreme)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_equation_4_errors_of_seventeen_points(landmarks):
    generated, real = landmarks
    total = 0.0
    for one, other in zip(generated, real, strict=True):
        for i in range(17):
            total += abs(one[i, 0] - other[i, 0]) + abs(one[i, 1] - other[i, 1])
    assert contour_loss(generated, real) == pytest.approx(total / (2 * 17), rel=1e-5)


def test_equation_4_sees_the_contour_alone(landmarks):
    generated, real = landmarks
    moved = generated.copy()
    moved[:, 17:] += 10
    assert contour_loss(moved, real) == contour_loss(generated, real)
    gradient = jax.grad(contour_loss)(jnp.asarray(generated), real)
    assert (gradient[:, :17] != 0).all() and not gradient[:, 17:].any()


def test_equation_5_squared_error_of_the_hidden_pixels(faces, rng):
    generated, real = faces
    mask = (rng.random((2, 8, 8, 1)) < 0.3).astype(np.float32)
    total = 0.0
    for one, other, hidden in zip(generated, real, mask[..., 0], strict=True):
        levels = 127.5 * (one - other)[hidden > 0]
        total += (levels**2).sum() / len(levels)
    assert masked_loss(generated, real, mask) == pytest.approx(total / 2, rel=1e-5)


def test_equation_5_is_on_the_scale_of_saved_pictures():
    mask = jnp.ones((1, 8, 8, 1))
    white, black = jnp.ones((1, 8, 8, 3)), -jnp.ones((1, 8, 8, 3))
    assert masked_loss(white, black, mask) == pytest.approx(3 * 255**2)


def test_equation_5_ignores_what_is_visible(faces):
    generated, real = faces
    mask = np.zeros((2, 8, 8, 1), np.float32)
    mask[:, 4:] = 1
    changed = generated.copy()
    changed[:, :4] = 0
    assert masked_loss(changed, real, mask) == masked_loss(generated, real, mask)
    gradient = jax.grad(masked_loss)(jnp.asarray(generated), real, mask)
    assert gradient[:, 4:].any() and not gradient[:, :4].any()


def test_equation_5_is_zero_where_nothing_is_hidden(faces):
    value, gradient = jax.value_and_grad(masked_loss)(*map(jnp.asarray, faces), jnp.zeros((2, 8, 8, 1)))
    assert value == 0 and not gradient.any()


def test_gradients_equal_finite_differences(faces, landmarks, rng):
    mask = (rng.random((2, 8, 8, 1)) < 0.5).astype(np.float64)
    logits = rng.normal(0, 2, (2, 2, 5, 5))
    cases = [
        (adversarial_loss, logits[0]),
        (lambda fake: discriminator_loss(logits[0], fake), logits[1]),
        (lambda real: discriminator_loss(real, logits[1]), logits[0]),
        (lambda generated: l1_loss(generated, faces[1]), faces[0]),
        (lambda generated: contour_loss(generated, landmarks[1]), landmarks[0]),
        (lambda generated: masked_loss(generated, faces[1], mask), faces[0]),
    ]
    with jax.enable_x64(True):
        for loss, at in cases:
            direction = rng.normal(size=at.shape)
            slope = np.vdot(jax.grad(loss)(jnp.asarray(at)), direction)
            step = 1e-7
            difference = (loss(at + step * direction) - loss(at - step * direction)) / (2 * step)
            assert slope == pytest.approx(float(difference), rel=1e-5)


def draw_ellipses(rng, count, side=64):
    """Bright ellipses `[N, S, S, 3]` in [-1, 1], and 68 points `[N, 68, 2]`: 17 along the lower rim, the rest in the centre."""
    centre = rng.uniform(0.42, 0.58, (count, 1, 2)) * side
    axes = rng.uniform(0.2, 0.32, (count, 1, 2)) * side
    angles = np.linspace(np.pi, 0, 17)
    rim = centre + axes * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = np.concatenate([rim, np.repeat(centre, 51, axis=1)], axis=1)
    y, x = np.mgrid[:side, :side]
    distance = ((np.stack([x, y], axis=-1).reshape(1, -1, 2) - centre) / axes) ** 2
    pictures = np.tanh(6 * (1 - distance.sum(-1))).reshape(count, side, side, 1)
    return np.repeat(pictures, 3, axis=-1).astype(np.float32), points.astype(np.float32)


def test_contour_gradient_reaches_the_picture_and_moves_the_contour_towards_the_real_one(draw_variables):
    network = LandmarkNet(8)
    rng = np.random.default_rng(0)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def train_step(variables, state, pictures, points):
        def loss(params):
            predicted, updated = network.apply({**variables, "params": params}, pictures, train=True, mutable=["batch_stats"])
            return jnp.abs(predicted - points).mean(), updated

        gradient, updated = jax.grad(loss, has_aux=True)(variables["params"])
        changes, state = optimizer.update(gradient, state)
        return {"params": optax.apply_updates(variables["params"], changes), **updated}, state

    variables = draw_variables(network, jnp.zeros((1, 64, 64, 3)))
    state = optimizer.init(variables["params"])
    for _ in range(150):
        variables, state = train_step(variables, state, *draw_ellipses(rng, 16))

    frozen = jax.jit(functools.partial(network.apply, variables))
    pictures, points = draw_ellipses(rng, 16)
    # The network has learnt where the contour is, to about a pixel: below 2.5 on one processor and 2.6 on another.
    assert contour_loss(frozen(pictures), points) < 3

    # The real contours are those of other ellipses.
    real = np.roll(points, 1, axis=0)

    @jax.jit
    def contours_and_gradient(pictures):
        value, gradient = jax.value_and_grad(lambda p: contour_loss(network.apply(variables, p), real))(pictures)
        return value, network.apply(variables, pictures)[:, :17], gradient

    before, contours, gradient = contours_and_gradient(pictures)
    assert (jnp.abs(gradient).max((1, 2, 3)) > 0).all()
    step = 0.02 * gradient / jnp.abs(gradient).max((1, 2, 3), keepdims=True)
    after, moved, _ = contours_and_gradient(pictures - step)
    assert after < before
    # In each picture the contour as a whole has moved in the direction of the real one.
    assert (((moved - contours) * np.sign(real[:, :17] - contours)).sum((1, 2)) > 0).all()
    # A step along the gradient does the opposite.
    assert contours_and_gradient(pictures + step)[0] > before


def test_feature_matching_is_the_mean_over_layers_of_mean_differences(rng):
    shapes = [(2, 8, 8, 3), (2, 4, 4, 16)]
    ours, theirs = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
    expected = np.mean([np.abs(one - other).mean() for one, other in zip(ours, theirs, strict=True)])
    assert float(feature_matching_loss(ours, theirs)) == pytest.approx(expected, rel=1e-5)
    assert float(feature_matching_loss(ours, ours)) == 0


def test_ssim_equals_scikit_image(rng):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    real = rng.uniform(-1, 1, (2, 24, 24, 3)).astype(np.float32)
    generated = np.clip(real + 0.4 * rng.normal(size=real.shape), -1, 1).astype(np.float32)
    settings = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2}
    expected = np.mean([structural_similarity(one, other, **settings) for one, other in zip(generated, real, strict=True)])
    assert 0.2 < expected < 0.95
    assert float(ssim_loss(generated, real)) == pytest.approx(1 - expected, abs=1e-4)
    assert float(ssim_loss(real, real)) == pytest.approx(0, abs=1e-5)


def test_adversarial_term_is_weighted_by_discriminator(rng):
    logits = {name: rng.normal(size=(2, 3, 3)).astype(np.float32) for name in ("one", "other")}
    fake = {name: Judgement(value, []) for name, value in logits.items()}
    one, other = (float(np.log1p(np.exp(-value)).mean()) for value in logits.values())
    context = Context(None, None, None, None, fake)
    assert float(TERMS["adversarial"](context)) == pytest.approx(one + other, rel=1e-5)
    context = dataclasses.replace(context, weights={"one": 0.3, "other": 0.7})
    assert float(TERMS["adversarial"](context)) == pytest.approx(0.3 * one + 0.7 * other, rel=1e-5)


def test_feature_matching_leaves_out_a_discriminator_that_has_not_joined(rng):
    layers = {name: [rng.normal(size=(1, 2, 2, 3)).astype(np.float32)] for name in ("one", "other")}
    fake, true = ({name: Judgement(None, [k * x for x in of]) for name, of in layers.items()} for k in (1, 0))
    sizes = {name: float(np.abs(of[0]).mean()) for name, of in layers.items()}
    context = Context(None, None, None, None, fake, true)
    assert float(TERMS["feature_matching"](context)) == pytest.approx(sum(sizes.values()), rel=1e-5)
    context = dataclasses.replace(context, weights={"one": 0.3, "other": 0.0})
    assert float(TERMS["feature_matching"](context)) == pytest.approx(sizes["one"], rel=1e-5)


def test_gradient_penalty_of_a_linear_judge():
    """Its gradient is its kernel, wherever it is applied: the penalty is the sum of the squares of what each pixel meets."""
    rng = np.random.default_rng(0)
    weights, real = rng.normal(size=(8, 8, 3)), rng.normal(size=(5, 8, 8, 3))
    value, gradient = jax.value_and_grad(lambda w: gradient_penalty(lambda x: (x * w).sum(-1), jnp.asarray(real)))(
        jnp.asarray(weights)
    )
    assert value == pytest.approx(np.square(weights).sum(), rel=1e-5)
    np.testing.assert_allclose(gradient, 2 * weights, rtol=1e-5)
