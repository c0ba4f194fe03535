"""Training the mask remover: the GAN's gradients of the paper's loss (Eq. 2 and 3), its validation and its pictures."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from ml_collections import ConfigDict

from maskgan_jax import losses
from maskgan_jax.data.pipeline import Batch
from maskgan_jax.errors import UserError
from maskgan_jax.models.patchgan import create_discriminator
from maskgan_jax.models.residual_unet import ResidualUNet
from maskgan_jax.models.st_lpips import load_st_lpips, st_lpips
from maskgan_jax.models.unet import UNet, create_generator
from maskgan_jax.networks.stored import load_network
from maskgan_jax.training.state import Task, Tree, Variables, hidden, mean_of, put_back, to_levels, to_unit

# With `training.remat`, what the backward pass finds in memory; norms, activations and concatenations it computes again.
KEEP_CONVOLUTIONS = jax.checkpoint_policies.save_only_these_names("convolution")

# The terms that are ST-LPIPS, and the networks they look through.
PERCEPTUAL = {"perceptual": "alex", "perceptual_vgg": "vgg"}

# Means over the validation records. `_raw` is of the generator's output; the others are of the known pixels put back.
Validation = mean_of("mse_masked", "psnr", "psnr_raw", "l1_raw")


# (variables, pictures `[B, S, S, 3]` in [-1, 1]) -> landmarks `[B, 68, 2]` in pixels.
FindLandmarks = Callable[[Variables, jax.Array], jax.Array]


def load_landmark_net(config: ConfigDict) -> tuple[FindLandmarks | None, Variables]:
    """The frozen network that C1 looks through, and its variables; none where C1 has no weight and no network is given.

    A network for smaller faces sees the pictures shrunk.

    Raises:
      UserError: C1 has a weight but there is no network, or it is one for larger faces or another zoom.
    """
    path = config.landmark_net.weights
    if not path:
        if config.losses.contour:
            raise UserError(
                "the contour loss needs a landmark network: train one with --config=configs/landmarks.py and give its workdir "
                "as --config.landmark_net.weights=DIR, or set --config.losses.contour=0"
            )
        return None, {}
    stored, landmark_net, variables = load_network(path, "landmarks")
    size, factor = stored.data.size, config.data.size // stored.data.size
    if not factor:
        raise UserError(f"the landmark network {path} is for {size} px, not {config.data.size}; train one for that size")
    if stored.data.zoom != config.data.zoom:
        raise UserError(
            f"the landmark network {path} is for data.zoom={stored.data.zoom:g}, not {config.data.zoom:g}; train one for that"
        )
    # In this run's arithmetic, whatever it was trained in.
    landmark_net = landmark_net.clone(dtype=jnp.dtype(config.training.compute))

    def find_landmarks(variables: Variables, pictures: jax.Array) -> jax.Array:
        shrunk = pictures.reshape(-1, size, factor, size, factor, 3).mean((2, 4))
        # Pixel centres are at integers: the left edge of the picture is at -0.5.
        return (landmark_net.apply(variables, shrunk) + 0.5) * factor - 0.5

    return find_landmarks, variables


def load_generator(config: ConfigDict) -> Variables | None:
    """The variables that `generator.weights` has training begin with; None for random ones.

    Raises:
      UserError: there is no generator, or it is another network or for other faces than the config says.
    """
    path = config.generator.weights
    if not path:
        return None
    stored, _, variables = load_network(path, "unmask")
    of_generator = ("architecture", "width", "blocks", "norm", "upsampling", "inpaints")
    for group, names in (("data", ("size", "zoom")), ("generator", of_generator)):
        for name in names:
            if (old := stored[group][name]) != (new := config[group][name]):
                raise UserError(f"the generator {path} was trained with {group}.{name}={old}, not {new}; make them alike")
    return variables


def load_frozen(config: ConfigDict) -> tuple[FindLandmarks | None, Tree]:
    """What finds landmarks for C1, as `load_landmark_net` gives it, and all weights that the losses look through, by name.

    Raises:
      UserError: see `load_landmark_net`; or the weights of ST-LPIPS are needed and have not been fetched.
    """
    find_landmarks, variables = load_landmark_net(config)
    frozen = {name: load_st_lpips(network) for name, network in PERCEPTUAL.items() if config.losses[name]}
    return find_landmarks, {"landmark_net": variables, **frozen}


def picture_losses(
    config: ConfigDict,
    generated: jax.Array,
    batch: Batch,
    find_landmarks: FindLandmarks | None,
    frozen: Tree,
    key: jax.Array,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """The terms that look at the picture alone (L1, C1, C2, ST-LPIPS), and the gradient of each in it, both unweighted.

    Args:
      config: `losses` is read.
      generated: the generator's output `[B, S, S, 3]` in [-1, 1].
      batch: the records, uint8.
      find_landmarks: for C1, or None to leave C1 out.
      frozen: from `load_frozen`.
      key: for where the window of ST-LPIPS lies.

    Returns:
      Two dicts with the names of `config.losses`: values, and gradients of the shape of `generated`.
    """
    real = to_unit(batch["real"])
    mask = hidden(batch)
    terms = {
        "l1": lambda picture: losses.l1_loss(picture, real),
        "masked": lambda picture: losses.masked_loss(picture, real, mask),
    }
    if find_landmarks is not None:
        real_landmarks = find_landmarks(frozen["landmark_net"], real)
        terms["contour"] = lambda picture: losses.contour_loss(find_landmarks(frozen["landmark_net"], picture), real_landmarks)
    names = [name for name in PERCEPTUAL if config.losses[name]]
    if names:
        window = windows_about(mask, config.data.size // 2, key)
        dtype = jnp.dtype(config.training.compute)
        weights, seen = jax.tree.map(lambda array: array.astype(dtype), ({name: frozen[name] for name in names}, window(real)))
        for name in names:
            terms[name] = lambda picture, name=name: st_lpips(
                weights[name], window(picture).astype(dtype), seen, PERCEPTUAL[name]
            ).mean()
    values_and_gradients = {name: jax.value_and_grad(term)(generated) for name, term in terms.items()}
    return {n: v for n, (v, _) in values_and_gradients.items()}, {n: g for n, (_, g) in values_and_gradients.items()}


def windows_about(mask: jax.Array, side: int, key: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """A function that cuts out of pictures `[B, S, S, 3]` squares of `side` pixels, each about a random hidden pixel.

    Args:
      mask: `[B, S, S, 1]`, 1 = hidden. Where nothing is hidden, the square is at the top left.
      side: of the squares, at most S.
      key: chooses the pixels.
    """
    batch, size, *_ = mask.shape
    chosen = jax.random.categorical(key, jnp.where(mask.reshape(batch, -1) > 0, 0.0, -jnp.inf))
    tops, lefts = (jnp.clip(middle - side // 2, 0, size - side) for middle in (chosen // size, chosen % size))
    cut = jax.vmap(lambda picture, top, left: jax.lax.dynamic_slice(picture, (top, left, 0), (side, side, 3)))
    return lambda pictures: cut(pictures, tops, lefts)


def discriminator_condition(generator: UNet | ResidualUNet, masked: jax.Array, mask: jax.Array) -> jax.Array:
    """What D is told beside the picture to judge: the masked picture `[B, S, S, 3]` or, of inpainting, what the generator sees.

    That is the picture without what is hidden, and the mask, `[B, S, S, 4]`. Under a region other than the drawn mask's, the
    "masked" picture is the real one: D would only have to compare.
    """
    return jnp.concatenate([jnp.where(mask > 0, 0.0, masked), mask], axis=-1) if generator.inpaints else masked


def create_task(config: ConfigDict) -> Task:
    """The task 'unmask'.

    Raises:
      UserError: see `load_frozen` and `load_generator`.
    """
    generator = create_generator(config)
    discriminator = create_discriminator(config)
    find_landmarks, frozen_variables = load_frozen(config)
    first = load_generator(config)
    weights = config.losses

    def init(key: jax.Array) -> tuple[dict[str, Tree], Tree]:
        picture = jnp.zeros((1, config.data.size, config.data.size, 3))
        generator_key, discriminator_key = jax.random.split(key)
        variables = first or generator.init(generator_key, picture, picture[..., :1])
        params = {
            "generator": variables["params"],
            "discriminator": discriminator.init(
                discriminator_key, discriminator_condition(generator, picture, picture[..., :1]), picture
            )["params"],
        }
        return params, variables.get("batch_stats", {})

    def gradients(
        params: dict[str, Tree], batch_stats: Tree, frozen: Tree, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        masked, real, mask = to_unit(batch["masked"]), to_unit(batch["real"]), hidden(batch)

        def generate(generator_params):
            fake, updated = generator.apply(
                {"params": generator_params, "batch_stats": batch_stats},
                masked,
                mask,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            return fake, updated.get("batch_stats", {})

        def discriminate(discriminator_params, picture):
            logits, layers = discriminator.apply(
                {"params": discriminator_params}, discriminator_condition(generator, masked, mask), picture
            )
            return logits, layers if weights.feature_matching else []

        if config.training.remat:
            generate, discriminate = (jax.checkpoint(f, policy=KEEP_CONVOLUTIONS) for f in (generate, discriminate))

        # Both networks take their gradients from one forward pass: D's judgement of the fake serves the loss of either.
        fake, pull_generator, new_batch_stats = jax.vjp(generate, params["generator"], has_aux=True)
        # The kernels are rounded once for both pictures, not in each of their layers: the gradients that devices exchange are
        # then the sum for both.
        rounded = jax.tree.map(lambda p: p.astype(discriminator.dtype) if p.ndim == 4 else p, params["discriminator"])
        (fake_logits, fake_layers), pull_fake = jax.vjp(discriminate, rounded, fake)
        (real_logits, real_layers), pull_real = jax.vjp(lambda p: discriminate(p, real), rounded)

        discriminator_loss, (real_cotangent, fake_cotangent) = jax.value_and_grad(losses.discriminator_loss, (0, 1))(
            real_logits, fake_logits
        )
        discriminator_gradient = jax.tree.map(
            lambda p, one, other: (one + other).astype(p.dtype),
            params["discriminator"],
            pull_real((real_cotangent, jax.tree.map(jnp.zeros_like, real_layers)))[0],
            pull_fake((fake_cotangent, jax.tree.map(jnp.zeros_like, fake_layers)))[0],
        )

        window_key = jax.random.fold_in(key, 1)
        penalty = {}
        if weights.gradient_penalty:
            penalty["gradient_penalty"], gradient = jax.value_and_grad(
                lambda p: losses.gradient_penalty(lambda picture: discriminate(p, picture)[0], real)
            )(params["discriminator"])
            discriminator_gradient = jax.tree.map(
                lambda one, other: one + weights.gradient_penalty * other, discriminator_gradient, gradient
            )

        terms, picture_gradients = picture_losses(config, fake, batch, find_landmarks, frozen, window_key)
        # Likewise all that the generator's loss takes from D's judgement goes back through D at once.
        judged = {"adversarial": lambda logits, _: losses.adversarial_loss(logits)}
        if weights.feature_matching:
            judged["feature_matching"] = lambda _, layers: losses.feature_matching_loss(layers, real_layers)
        for name, term in judged.items():
            terms[name] = term(fake_logits, fake_layers)
        cotangents = jax.grad(lambda *fakes: sum(weights[name] * term(*fakes) for name, term in judged.items()), (0, 1))(
            fake_logits, fake_layers
        )
        gradient = pull_fake(cotangents)[1] + sum(weights[name] * g for name, g in picture_gradients.items())
        (generator_gradient,) = pull_generator(gradient)

        weighted = {name: weights[name] * value for name, value in terms.items()}
        logged = {
            **terms,
            **{f"weighted_{name}": value for name, value in weighted.items()},
            "generator": sum(weighted.values()),
            "discriminator": discriminator_loss,
            **penalty,
        }
        return {"generator": generator_gradient, "discriminator": discriminator_gradient}, new_batch_stats, logged

    def unmask(variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array]:
        raw = to_levels(generator.apply(variables, to_unit(batch["masked"]), hidden(batch)))
        return raw, put_back(raw, batch["masked"], batch["mask"])

    def validate(variables: Variables, batch: Batch) -> metrics.Collection:
        raw, composite = (picture.astype(jnp.float32) for picture in unmask(variables, batch))
        real = batch["real"].astype(jnp.float32)
        region = hidden(batch)

        def psnr(picture):
            # One part in 10^10 of the range keeps a perfect picture finite, at 100 dB.
            return -10 * jnp.log10(jnp.square((picture - real) / 255).mean((1, 2, 3)) + 1e-10)

        squared = (jnp.square(composite - real) * region).sum((1, 2, 3))
        return Validation.single_from_model_output(
            mse_masked=squared / jnp.maximum(region.sum((1, 2, 3)), 1),
            psnr=psnr(composite),
            psnr_raw=psnr(raw),
            l1_raw=jnp.abs(raw - real).mean((1, 2, 3)),
            mask=batch["weight"],
        )

    unmask_jitted = jax.jit(unmask)

    def draw(variables: Variables, batch: Batch) -> np.ndarray:
        """One row a face: masked, raw output, known pixels put back, real."""
        raw, composite = unmask_jitted(variables, batch)
        columns = np.concatenate([batch["masked"], raw, composite, batch["real"]], axis=2)
        return columns.reshape(-1, *columns.shape[2:])

    return Task("generator", frozen_variables, init, gradients, validate, draw, criterion="mse_masked")
