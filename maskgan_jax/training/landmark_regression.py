"""Training the landmark network: dlib's points from masked and unmasked faces in equal parts (paper, section 4.2)."""

from __future__ import annotations

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from ml_collections import ConfigDict

from maskgan_jax.data.points import CONTOUR, landmark_errors
from maskgan_jax.images import Batch, normalize
from maskgan_jax.models.landmark_net import create_landmark_net
from maskgan_jax.networks.description import Variables
from maskgan_jax.training.one_network import OneNetwork
from maskgan_jax.training.state import Tree, mean_of

# Means over the validation records of the distance from dlib's points on the unmasked face, as a fraction of the inter-ocular
# distance: of all 68 points and of the contour.
Validation = mean_of("error", "error_unmasked", "error_masked", "contour_unmasked", "contour_masked")


class LandmarkRegression(OneNetwork):
    """The landmark network, and the mean distance of its points from dlib's."""

    network = "landmark_net"
    sections = ("landmark_net",)
    loss = "landmarks"
    criterion = "error"

    def __init__(self, config: ConfigDict):
        """The network that a config describes."""
        super().__init__(config, create_landmark_net(config))
        self._jitted_predict = jax.jit(self.predict)

    def gradients(
        self, params: dict[str, Tree], batch_stats: Tree, frozen: Tree, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, Tree], Tree, dict[str, jax.Array]]:
        """The gradient of the mean of |dx| + |dy| in pixels."""
        del frozen, key
        # The records come in random order: every other one is shown with its mask.
        shows_mask = batch["number"] % 2 == 1
        images = normalize(jnp.where(shows_mask[:, None, None, None], batch["masked"], batch["real"]))

        def loss(predicted: jax.Array) -> jax.Array:
            return jnp.abs(predicted - batch["landmarks"]).sum(-1).mean()

        return self.gradients_of(loss, images, params, batch_stats)

    def predict(self, variables: Variables, images: jax.Array) -> jax.Array:
        """The landmarks `[B, 68, 2]`, (x, y) in pixels, of images `[B, S, S, 3]` uint8."""
        return self.module.apply(variables, normalize(images))

    def validate(self, variables: Variables, batch: Batch) -> metrics.Collection:
        """Distances from dlib's points on the unmasked face."""
        unmasked, masked = (
            landmark_errors(self.predict(variables, batch[name]), batch["landmarks"]) for name in ("real", "masked")
        )
        return Validation.single_from_model_output(
            error=(unmasked.mean(1) + masked.mean(1)) / 2,
            error_unmasked=unmasked.mean(1),
            error_masked=masked.mean(1),
            contour_unmasked=unmasked[:, CONTOUR].mean(1),
            contour_masked=masked[:, CONTOUR].mean(1),
            mask=batch["weight"],
        )

    def draw(self, variables: Variables, batch: Batch) -> np.ndarray:
        """One row a face, unmasked and masked, enlarged twice: dlib's points in green, the network's in red."""
        columns = []
        for name in ("real", "masked"):
            faces = [cv2.resize(face, None, fx=2, fy=2) for face in np.asarray(batch[name])]
            predicted = np.asarray(self._jitted_predict(variables, batch[name]))
            # Outside, where nothing is drawn: OpenCV takes no number that a diverging network can give.
            predicted = np.clip(np.nan_to_num(predicted, nan=-self.size), -self.size, 2 * self.size)
            for points, colour in ((batch["landmarks"], (0, 255, 0)), (predicted, (255, 0, 0))):
                for face, face_points in zip(faces, np.asarray(points), strict=True):
                    for point in face_points:
                        cv2.circle(face, tuple(int(v) for v in np.round(point * 2 + 0.5)), 1, colour, -1, cv2.LINE_AA)
            columns.append(np.concatenate(faces))
        return np.concatenate(columns, axis=1)
