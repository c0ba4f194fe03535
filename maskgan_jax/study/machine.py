"""A machine in the raters' place: a classifier of expressions, which is no person and says nothing about quality."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.metrics.face_quality import FacePair, NoFaceError, check_face_metrics
from maskgan_jax.models.expression_net import EXPRESSIONS as CLASSES
from maskgan_jax.study.analysis import expression_table
from maskgan_jax.study.design import EXPRESSIONS, REAL
from maskgan_jax.study.images import Images

NAME = "face-api's classifier of expressions (a machine, not a person)"
_CHOICES = [CLASSES.index(expression) for expression in EXPRESSIONS]


def machine_tables(images: Images, faces: Mapping[str, str]) -> dict:
    """What the classifier says to every image of every method, as in the paper's Table 5; its accuracy, too.

    It chooses among the raters' five expressions, on the crop that the landmarks of the real face give.

    Args:
      images: where the images are.
      faces: {name: true expression}.

    Returns:
      `rater`: what it is, `faces`: how many could be judged, `accuracy`: {method: percentage}, and `table5` as
      `analysis.expression_table` has it.

    Raises:
      UserError: the classifier has not been fetched, or no expressions are known, or no image can be read.
    """
    if not any(faces.values()):
        raise UserError("the expressions of this study's faces are not known; leave out --machine")
    check_face_metrics(["expression"])
    given: dict[str, list[tuple[str, str]]] = {method: [] for method in images.methods}
    for face in tqdm(images.faces, desc="classify", unit="face"):
        real = images.read(face, REAL)
        nothing = np.zeros(real.shape[:2], bool)
        try:
            landmarks = FacePair(real, real, nothing).landmarks
        except NoFaceError:
            continue
        for method in images.methods:
            probabilities = FacePair(images.read(face, method), real, nothing, landmarks).expressions[0]
            given[method].append((faces[face], EXPRESSIONS[int(probabilities[_CHOICES].argmax())]))
    judged = len(given[REAL])
    if not judged:
        raise UserError("dlib finds a face in none of the real images; leave out --machine")
    accuracy = {method: 100 * float(np.mean([true == said for true, said in of])) for method, of in given.items()}
    return {"rater": NAME, "faces": judged, "accuracy": accuracy, "table5": expression_table(given)}
