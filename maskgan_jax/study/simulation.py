"""Simulated raters of known truth: to try a study on, to check its statistics, and to tell how many raters it takes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from maskgan_jax.errors import UserError
from maskgan_jax.study.database import Database
from maskgan_jax.study.design import EXPRESSIONS, QUALITIES, Design, Trial
from maskgan_jax.study.exclusion import complete_rule
from maskgan_jax.study.statistics import rank_sum, sign_flip

# The numbers that the power is computed for.
RATERS = (5, 10, 20, 40)
IMAGES = (5, 10, 20)


@dataclasses.dataclass(frozen=True)
class MethodTruth:
    """What raters think of a method.

    Attributes:
      quality: mean of the quality before it is rounded to 1 to 7.
      accuracy: the probability of a right expression, of a rater and face in the middle.
      seconds: the median time to the expression.
      strength: Bradley-Terry score.
      called_real: the probability of being taken for real, of a rater and face in the middle.
    """

    quality: float
    accuracy: float
    seconds: float
    strength: float
    called_real: float


# Quality, accuracy and time are those of the paper's Table 3, where it has the method; the rest is made up.
TRUTH = {
    "real": MethodTruth(6.0, 0.97, 4.7, 2.0, 0.9),
    "masked": MethodTruth(1.3, 0.90, 6.0, -2.0, 0.02),
    "telea": MethodTruth(1.4, 0.96, 6.0, -1.5, 0.05),
    "pix2pix": MethodTruth(2.7, 0.95, 6.0, 0.0, 0.2),
    "proposed": MethodTruth(4.8, 0.94, 5.4, 1.5, 0.6),
}
# Standard deviations. Quality: of raters, of faces and of single answers, in points; choices: of raters and faces, in logits;
# times: of raters and single answers, of logarithms.
SPREAD = {"quality": (0.6, 0.5, 0.9), "choice": (0.3, 0.3), "time": (0.25, 0.4)}


class Rater:
    """A rater whose answers follow `TRUTH`, and who agrees with others on faces only through `face_effects`."""

    def __init__(self, rng: np.random.Generator, careless: bool):
        """Draws a rater; a careless one answers at random, and takes as long as others."""
        self.rng, self.careless = rng, careless
        self.quality, self.logit, self.slowness = rng.normal(0, [SPREAD["quality"][0], SPREAD["choice"][0], SPREAD["time"][0]])

    def answer(self, trial: Trial, expression: str, face: np.ndarray) -> dict[str, Any]:
        """What the rater says to a trial, but for its id.

        Args:
          trial: what is shown.
          expression: the true one, or "".
          face: `[2]`, how the face shifts quality and logits.
        """
        truth = [TRUTH[method] for method in trial.methods]
        seconds = truth[0].seconds * np.exp(self.slowness + self.rng.normal(0, SPREAD["time"][1]))
        if trial.task == "rating":
            right = expression or self.rng.choice(EXPRESSIONS)
            if self.careless or not _says_yes(truth[0].accuracy, self.logit + face[1], self.rng):
                right = self.rng.choice([other for other in EXPRESSIONS if self.careless or other != right])
            quality = truth[0].quality + self.quality + face[0] + self.rng.normal(0, SPREAD["quality"][2])
            if self.careless:
                quality = self.rng.uniform(0.5, 7.5)
            given = {"expression": str(right), "quality": int(np.clip(np.rint(quality), QUALITIES[0], QUALITIES[-1]))}
        elif trial.task == "pair":
            left = 1 / (1 + np.exp(truth[1].strength - truth[0].strength))
            given = {"choice": "left" if self.rng.random() < (0.5 if self.careless else left) else "right"}
        else:
            yes = self.rng.random() < 0.5 if self.careless else _says_yes(truth[0].called_real, self.logit + face[1], self.rng)
            given = {"real": "yes" if yes else "no"}
        times = [seconds, *[1.0] * (len(given) - 1)]
        milliseconds = {question: 1000 * float(time) for question, time in zip(given, times, strict=True)}
        return {"given": given, "milliseconds": milliseconds, "scale": 1.0}


def _says_yes(probability: float | np.ndarray, effect: float | np.ndarray, rng: np.random.Generator) -> bool | np.ndarray:
    """Whether the answer is yes, for each rater and face that together shift the logit of the probability by `effect`."""
    logit = np.log(probability / (1 - probability)) + effect
    return rng.random(np.shape(logit)) < 1 / (1 + np.exp(-logit))


def simulate_study(
    path: str | os.PathLike,
    *,
    raters: int,
    faces: int,
    tasks: Mapping[str, int],
    repeats: int = 3,
    seed: int = 0,
    exclusion: Mapping[str, float] | None = None,
    careless: int = 0,
) -> Database:
    """Writes a study that simulated raters have answered, by the same functions as one of people.

    Args:
      path: the database file; there is none yet.
      raters: how many.
      faces: how many there are, of the five expressions in turn.
      tasks, repeats, seed, exclusion: as of a study.
      careless: so many of the raters, the last ones, answer at random.

    Raises:
      UserError: the design needs more faces, or the file cannot be written.
    """
    if raters < 1 or faces < 1:
        raise UserError("a study has at least one rater and one face")
    if not 0 <= careless <= raters:
        raise UserError(f"of {raters} raters, {careless} cannot be careless; give 0 to {raters}")
    names = {f"face{number:04}": EXPRESSIONS[number % len(EXPRESSIONS)] for number in range(faces)}
    design = Design(names, list(TRUTH), dict(tasks), repeats, seed)
    rng = np.random.default_rng([seed, 1])
    settings = {
        "consent": "",
        "exclusion": complete_rule(exclusion or {}),
        "files": {},
        "mask": {},
        "truth": {method: dataclasses.asdict(of) for method, of in TRUTH.items()},
    }
    database = Database.create(path, design, {(face, method): "" for face in names for method in TRUTH}, settings)
    effects = dict(zip(names, rng.normal(0, [SPREAD["quality"][1], SPREAD["choice"][1]], (faces, 2)), strict=True))
    for number in range(raters):
        rater = Rater(rng, careless=number >= raters - careless)
        name = database.join(f"simulated-{number}", f"simulated-{number + 1:03}")
        answers = [
            {"trial": trial_id, **rater.answer(trial, names[trial.face], effects[trial.face])}
            for trial_id, trial in database.trials(name).items()
        ]
        database.store(name, answers)
    return database


def power_table(
    differences: Mapping[str, float], *, faces: int = 120, seed: int = 0, studies: int = 200
) -> dict[str, dict[int, dict[int, float]]]:
    """In which fraction of studies of two methods a difference shows at the level 0.05, by the report's own tests.

    Args:
      differences: {"quality": points, "accuracy": fraction, "choice": fraction beyond one half}, for a rater and face in the
        middle.
      faces: how many there are; raters see them as a study assigns them.
      seed: of the simulation.
      studies: how many are simulated for each number; the fraction's standard error is at most 1 / (2 sqrt(studies)).

    Returns:
      {name: {raters: {images of each method: fraction}}}, without numbers of images for which there are too few faces.

    Raises:
      UserError: there is no such measure, the difference is impossible, or there are too few faces for any number.
    """
    tests = {"quality": _quality_p, "accuracy": _accuracy_p, "choice": _choice_p}
    limits = {"quality": 3, "accuracy": 0.45, "choice": 0.49}
    for name, difference in differences.items():
        if name not in tests:
            raise UserError(f"there is no power for {name!r}; choose some of {', '.join(tests)}")
        if not 0 < difference <= limits[name]:
            raise UserError(f"a difference of {difference:g} in {name} cannot be simulated; give one of up to {limits[name]}")

    def power(name: str, raters: int, images: int) -> float:
        rng = np.random.default_rng([seed, raters, images])
        shown = _shown("pair" if name == "choice" else "rating", raters, images, faces)
        return float(np.mean([tests[name](differences[name], shown, rng) <= 0.05 for _ in range(studies)]))

    # A rater sees each face once: by one of two methods, but for choices, by both.
    fitting = {name: [images for images in IMAGES if images * (1 if name == "choice" else 2) <= faces] for name in differences}
    if not all(fitting.values()):
        raise UserError(f"{faces} faces are too few to simulate two methods; give at least {2 * min(IMAGES)}")
    return {name: {raters: {n: power(name, raters, n) for n in fitting[name]} for raters in RATERS} for name in differences}


def _shown(task: str, raters: int, images: int, faces: int) -> np.ndarray:
    """`[2, raters, images]`, the numbers of the faces by each of two methods; of the task `pair`, `[1, raters, images]`."""
    design = Design({str(face): "" for face in range(faces)}, ("one", "other"), {task: images}, repeats=0, seed=0)
    design.check()
    trials = [design.trials(rater) for rater in range(raters)]
    return np.array(
        [
            [[int(trial.face) for trial in of_rater if set(trial.methods) == set(treatment)] for of_rater in trials]
            for treatment in design.treatments(task)
        ]
    )


def _effects(kind: str, shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How raters and faces shift each answer, in the shape of `shown`."""
    of_raters = rng.normal(0, SPREAD[kind][0], shown.shape[1])
    of_faces = rng.normal(0, SPREAD[kind][1], shown.max() + 1)
    return of_raters[:, None] + of_faces[shown]


def _quality_p(difference: float, shown: np.ndarray, rng: np.random.Generator) -> float:
    """Two methods around the middle of the scale, judged by the same raters."""
    middle = 4 + difference * np.reshape([-0.5, 0.5], (2, 1, 1))
    quality = middle + _effects("quality", shown, rng) + rng.normal(0, SPREAD["quality"][2], shown.shape)
    return rank_sum(*np.clip(np.rint(quality), QUALITIES[0], QUALITIES[-1]).mean(2))


def _accuracy_p(difference: float, shown: np.ndarray, rng: np.random.Generator) -> float:
    """Two methods of which the better one is right in 95 % of answers."""
    probabilities = 0.95 - difference * np.reshape([0, 1], (2, 1, 1))
    fractions = _says_yes(probabilities, _effects("choice", shown, rng), rng).mean(2)
    # Of two samples, Tukey's test is Student's, which is faster.
    moments = [moment for sample in fractions for moment in (sample.mean(), sample.std(ddof=1), len(sample))]
    return float(stats.ttest_ind_from_stats(*moments).pvalue) if np.var(fractions, axis=1).any() else 1.0


def _choice_p(difference: float, shown: np.ndarray, rng: np.random.Generator) -> float:
    """Two methods, one of which is chosen in so much more than half of the comparisons."""
    (chosen,) = _says_yes(0.5 + difference, _effects("choice", shown, rng), rng)
    return sign_flip((2 * chosen - 1).sum(1))
