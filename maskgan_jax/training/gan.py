"""Training the mask remover: the paper's GAN (Eq. 2 and 3), with any of the terms in losses.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from ml_collections import ConfigDict

from maskgan_jax import losses
from maskgan_jax.errors import UserError
from maskgan_jax.images import Batch, binary_mask, composite, denormalize, normalize
from maskgan_jax.losses import TERMS, Context, Judgement
from maskgan_jax.metrics.image_quality import decibels
from maskgan_jax.models.generators import create_discriminators, create_generator
from maskgan_jax.models.st_lpips import load_st_lpips, st_lpips
from maskgan_jax.networks.description import KINDS, Variables, describe
from maskgan_jax.networks.stored import load_network
from maskgan_jax.training.diff_augment import diff_augment
from maskgan_jax.training.state import Task, Tree, mean_of

# With `training.remat`, what the backward pass finds in memory; norms, activations and concatenations it computes again.
KEEP_CONVOLUTIONS = jax.checkpoint_policies.save_only_these_names("convolution")

# The terms that are ST-LPIPS, and the networks they look through.
PERCEPTUAL = {"perceptual": "alex", "perceptual_vgg": "vgg"}

# (variables, images `[B, S, S, 3]` in [-1, 1]) -> landmarks `[B, 68, 2]` in pixels.
FindLandmarks = Callable[[Variables, jax.Array], jax.Array]


class GAN(Task):
    """A generator of unmasked faces, and the discriminators it is trained against."""

    network = "generator"
    sections = ("generator", "discriminator", "losses")
    loss = "generator"

    def __init__(self, config: ConfigDict):
        """The networks that a config describes, and the frozen ones that its losses look through.

        Raises:
          UserError: the landmark network is missing or does not fit, the weights of ST-LPIPS have not been fetched, or there is
            no such generator.
        """
        self.config = config
        self.generator = create_generator(config)
        self.discriminators = create_discriminators(config, self.generator)
        self.joins = {name: each.joins for name, each in self.discriminators.items()}
        self.find_landmarks, landmark_net = load_landmark_net(config)
        self.frozen = {"landmark_net": landmark_net}
        self.frozen |= {name: load_st_lpips(network) for name, network in PERCEPTUAL.items() if config.losses[name]}
        self.parts = load_parts(config, self.generator)
        self.terms = tuple(name for name in TERMS if self._is_computed(name))
        self.criterion = config.training.best_by
        self.st_lpips = load_st_lpips() if self.criterion == "st_lpips" else None
        # Means over the validation records. `_raw` is of the generator's output; the others are of the composite.
        names = ("mse_masked", "psnr", "psnr_raw", "l1_raw")
        self.validation = mean_of(*names, *(["st_lpips"] if self.st_lpips else []))
        self._jitted_unmask = jax.jit(self.unmask)

    def _is_computed(self, term: str) -> bool:
        """Whether a term is a part of the loss, or logged all the same."""
        if term == "contour" and self.find_landmarks is not None:
            return True
        return bool(self.config.losses[term]) or term in losses.ALWAYS

    def first(self) -> Variables | None:
        """The generator that `generator.weights` names. Raises UserError if it does not fit the config."""
        return load_generator(self.config)

    def init(self, key: jax.Array) -> tuple[dict[str, Tree], Tree]:
        """Random parameters of all networks, and the generator's `batch_stats`."""
        image = jnp.zeros((1, self.config.data.size, self.config.data.size, 3))
        mask = image[..., :1]
        generator_key, discriminator_key = jax.random.split(key)
        variables = self.generator.init(generator_key, image, mask)
        variables = {
            kind: trees | {name: part[kind] for name, part in self.parts.items() if kind in part}
            for kind, trees in variables.items()
        }
        params = {"generator": variables["params"]}
        for number, (name, discriminator) in enumerate(self.discriminators.items()):
            # The first one keeps the key it has where it is alone: its runs begin as they always did.
            key = jax.random.fold_in(discriminator_key, number) if number else discriminator_key
            params[name] = discriminator.module.init(key, *discriminator.view(image, image, mask))["params"]
        return params, variables.get("batch_stats", {})

    def gradients(
        self, params: dict[str, Tree], batch_stats: Tree, frozen: Tree, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        """The gradients of Eq. 3 in the generator and of Eq. 2 in each discriminator.

        All networks take them from one forward pass: what a discriminator makes of the generated image serves its own loss and
        the generator's. docs/losses.md says how that differs from the paper.
        """
        masked, real, mask = normalize(batch["masked"]), normalize(batch["real"]), binary_mask(batch["mask"])
        weights = {
            name: jnp.where(batch["progress"] >= each.joins, each.weight, 0.0) if each.joins else each.weight
            for name, each in self.discriminators.items()
        }
        generate = partial(self._generate, batch_stats, masked, mask, key)
        judge = partial(self._judge, masked, mask, jax.random.fold_in(key, 2))
        if self.config.training.remat:
            generate = jax.checkpoint(generate, policy=KEEP_CONVOLUTIONS)
            judge = jax.checkpoint(judge, policy=KEEP_CONVOLUTIONS, static_argnums=0)

        generated, pull_generator, batch_stats = jax.vjp(generate, params["generator"], has_aux=True)
        fake, true, pull_fake, pull_true = {}, {}, {}, {}
        for name, discriminator in self.discriminators.items():
            # The kernels are rounded once for both images, not in each of their layers: the gradients that devices exchange are
            # then the sum for both.
            rounded = jax.tree.map(lambda p, to=discriminator.module.dtype: p.astype(to) if p.ndim == 4 else p, params[name])
            fake[name], pull_fake[name] = jax.vjp(partial(judge, name), rounded, generated)
            true[name], pull_true[name] = jax.vjp(lambda p, name=name: judge(name, p, real), rounded)

        # What the losses are of is differentiated first; the networks' own backward passes follow, one each.
        gradients, logged = {}, {}
        for name in self.discriminators:
            value, cotangents = jax.value_and_grad(
                lambda true, fake: losses.discriminator_loss(true.logits, fake.logits), argnums=(0, 1)
            )(true[name], fake[name])
            gradients[name] = jax.tree.map(
                lambda p, *parts: sum(parts).astype(p.dtype),
                params[name],
                pull_true[name](cotangents[0])[0],
                pull_fake[name](cotangents[1])[0],
            )
            logged[name] = value
            if weight := self.config.losses.gradient_penalty:
                value, penalty = jax.value_and_grad(
                    lambda p, name=name: losses.gradient_penalty(lambda image: judge(name, p, image).logits, real)
                )(params[name])
                gradients[name] = jax.tree.map(lambda one, other: one + weight * other, gradients[name], penalty)
                logged["gradient_penalty"] = logged.get("gradient_penalty", 0.0) + value
            if self.discriminators[name].joins:
                gradients[name] = jax.tree.map(lambda leaf, on=weights[name] > 0: jnp.where(on, leaf, 0), gradients[name])

        networks = self.networks(frozen, mask, jax.random.fold_in(key, 1))
        real_landmarks = networks["contour"](real) if "contour" in networks else None

        def generator_loss(generated: jax.Array, fake: Mapping[str, Judgement]) -> tuple[jax.Array, dict[str, jax.Array]]:
            context = Context(generated, real, masked, mask, fake, true, real_landmarks, networks, weights)
            values = {name: TERMS[name](context) for name in self.terms}
            return sum(self.config.losses[name] * value for name, value in values.items()), values

        (value, terms), (direct, judged) = jax.value_and_grad(generator_loss, (0, 1), has_aux=True)(generated, fake)
        through = sum(pull_fake[name](judged[name])[1] for name in self.discriminators)
        (gradients["generator"],) = pull_generator(direct + through)
        logged |= terms | {f"weighted_{name}": self.config.losses[name] * term for name, term in terms.items()}
        logged["generator"] = value
        if real_landmarks is not None:
            # How exact the landmark network is: its error on the real face, from dlib's points.
            logged["contour_floor"] = losses.contour_loss(real_landmarks, batch["landmarks"])
        return gradients, batch_stats, logged

    def _generate(
        self, batch_stats: Tree, masked: jax.Array, mask: jax.Array, key: jax.Array, params: Tree
    ) -> tuple[jax.Array, Tree]:
        """The generated images, and the new statistics of batch norm."""
        variables = {"params": params, "batch_stats": batch_stats}
        generated, updated = self.generator.apply(
            variables, masked, mask, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        return generated, updated.get("batch_stats", {})

    def _judge(
        self, masked: jax.Array, mask: jax.Array, key: jax.Array, name: str, params: Tree, image: jax.Array
    ) -> Judgement:
        """What a discriminator makes of images; varied by `key`, alike whatever the images, if the config says so."""
        if self.config.discriminator.augment:
            image, masked, mask = diff_augment(key, image, masked, mask)
        discriminator = self.discriminators[name]
        logits, layers = discriminator.module.apply({"params": params}, *discriminator.view(image, masked, mask))
        return Judgement(logits, layers if self.config.losses.feature_matching else [])

    def networks(self, frozen: Tree, mask: jax.Array, key: jax.Array) -> dict[str, Callable[..., jax.Array]]:
        """The frozen networks, by the terms that look through them; ST-LPIPS sees a window about a random hidden pixel.

        Args:
          frozen: `self.frozen`.
          mask: `[B, S, S, 1]`, 1 = hidden.
          key: chooses the windows.
        """
        networks = {}
        if self.find_landmarks is not None:
            networks["contour"] = partial(self.find_landmarks, frozen["landmark_net"])
        window = windows_about(mask, self.config.data.size // 2, key)
        dtype = jnp.dtype(self.config.training.compute)
        # In the dict's order, not a set's: all processes of a run must trace the same program.
        for name in (name for name in PERCEPTUAL if name in frozen):
            weights = jax.tree.map(lambda array: array.astype(dtype), frozen[name])

            def distance(image: jax.Array, other: jax.Array, weights: Tree = weights, name: str = name) -> jax.Array:
                return st_lpips(weights, window(image).astype(dtype), window(other).astype(dtype), PERCEPTUAL[name])

            networks[name] = distance
        return networks

    def unmask(self, variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The generator's output and the composite of it, `[B, S, S, 3]` uint8 each."""
        generated = denormalize(self.generator.apply(variables, normalize(batch["masked"]), binary_mask(batch["mask"])))
        return generated, composite(generated, batch["masked"], batch["mask"])

    def validate(self, variables: Variables, batch: Batch) -> metrics.Collection:
        """Errors of the composite, and of the generator's output."""
        raw, whole = (images.astype(jnp.float32) for images in self.unmask(variables, batch))
        real, mask = batch["real"].astype(jnp.float32), binary_mask(batch["mask"])
        squared = (jnp.square(whole - real) * mask).sum((1, 2, 3))
        scores = {
            "mse_masked": squared / jnp.maximum(mask.sum((1, 2, 3)), 1),
            "psnr": decibels(jnp.square(whole - real).mean((1, 2, 3))),
            "psnr_raw": decibels(jnp.square(raw - real).mean((1, 2, 3))),
            "l1_raw": jnp.abs(raw - real).mean((1, 2, 3)),
        }
        if self.st_lpips:
            scores["st_lpips"] = st_lpips(self.st_lpips, normalize(whole), normalize(real))
        return self.validation.single_from_model_output(**scores, mask=batch["weight"])

    def draw(self, variables: Variables, batch: Batch) -> np.ndarray:
        """One row a face: masked, generated, composite, real."""
        columns = [batch["masked"], *self._jitted_unmask(variables, batch), batch["real"]]
        rows = np.concatenate(columns, axis=2)
        return rows.reshape(-1, *rows.shape[2:])


def load_landmark_net(config: ConfigDict) -> tuple[FindLandmarks | None, Variables]:
    """The frozen network that C1 looks through, and its variables; none where C1 has no weight and no network is given.

    A network for smaller faces sees the images shrunk.

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
    network = load_network(path, "landmarks")
    size, zoom = network.description.size, network.description.zoom
    if not (factor := config.data.size // size):
        raise UserError(f"the landmark network {path} is for {size} px, not {config.data.size}; train one for that size")
    if zoom != config.data.zoom:
        raise UserError(f"the landmark network {path} is for data.zoom={zoom:g}, not {config.data.zoom:g}; train one for that")
    module = network.module.clone(dtype=jnp.dtype(config.training.compute))

    def find_landmarks(variables: Variables, images: jax.Array) -> jax.Array:
        shrunk = images.reshape(-1, size, factor, size, factor, 3).mean((2, 4))
        # Pixel centres are at integers: the left edge of the image is at -0.5.
        return (module.apply(variables, shrunk) + 0.5) * factor - 0.5

    return find_landmarks, network.variables


def load_parts(config: ConfigDict, generator: nn.Module) -> dict[str, Variables]:
    """The variables of networks within the generator that are trained before it, by the names of these parts.

    Raises:
      UserError: the config names none, or one for other faces or with other layers.
    """
    parts = {}
    for name, task in getattr(generator, "parts", {}).items():
        section = KINDS[task].network
        if not (path := config[section].weights):
            raise UserError(
                f"the generator {config.generator.architecture!r} needs a network that was trained for '{task}': give its "
                f"workdir as --config.{section}.weights=DIR"
            )
        network = load_network(path, task)
        for setting in ("size", "zoom"):
            theirs, ours = getattr(network.description, setting), config.data[setting]
            if theirs != ours:
                raise UserError(f"the network {path} was trained with data.{setting}={theirs}, not {ours}; make them alike")
        image = jnp.zeros((1, config.data.size, config.data.size, 3))
        expected = jax.eval_shape(generator.init, jax.random.key(0), image)["params"][name]
        if jax.tree.map(jnp.shape, expected) != jax.tree.map(jnp.shape, network.variables["params"]):
            raise UserError(
                f"the network {path} has other layers than {name!r} of the generator {config.generator.architecture!r}, whose "
                f"config names how it is trained: configs/{config.generator.architecture}.py"
            )
        parts[name] = network.variables
    return parts


def load_generator(config: ConfigDict) -> Variables | None:
    """The variables that `generator.weights` has training begin with; None for random ones.

    Raises:
      UserError: there is no generator, or it is another network or for other faces than the config says.
    """
    path = config.generator.weights
    if not path:
        return None
    network = load_network(path, "unmask")
    old, new = network.description, describe(config)
    pairs = {"data.size": (old.size, new.size), "data.zoom": (old.zoom, new.zoom)}
    # Dropout has no variables.
    settings = [name for name in new.settings if not name.startswith("dropout")]
    pairs |= {f"generator.{name}": (old.settings.get(name), new.settings[name]) for name in settings}
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise UserError(f"the generator {path} was trained with {name}={theirs}, not {ours}; make them alike")
    return network.variables


def windows_about(mask: jax.Array, side: int, key: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """A function that cuts out of images `[B, S, S, 3]` squares of `side` pixels, each about a random hidden pixel.

    Args:
      mask: `[B, S, S, 1]`, 1 = hidden. Where nothing is hidden, the square is at the top left.
      side: of the squares, at most S.
      key: chooses the pixels.
    """
    batch, size, *_ = mask.shape
    chosen = jax.random.categorical(key, jnp.where(mask.reshape(batch, -1) > 0, 0.0, -jnp.inf))
    tops, lefts = (jnp.clip(middle - side // 2, 0, size - side) for middle in (chosen // size, chosen % size))
    cut = jax.vmap(lambda image, top, left: jax.lax.dynamic_slice(image, (top, left, 0), (side, side, 3)))
    return lambda images: cut(images, tops, lefts)
