"""Who sees what: each rater's list of trials, balanced over methods, faces and raters, from a seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from maskgan_jax.errors import UserError

# The paper's five.
EXPRESSIONS = ("neutral", "happy", "angry", "sad", "surprised")
QUALITIES = tuple(range(1, 8))
REAL = "real"
# Methods that raters who look tell from real faces at once, the clearest first.
ANCHORS = ("masked", "telea")
# What is asked in each task, and the answers.
QUESTIONS = {
    "rating": {"expression": EXPRESSIONS, "quality": QUALITIES},
    "pair": {"choice": ("left", "right")},
    "real": {"real": ("yes", "no")},
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One image, or two side by side, and the questions of its task.

    Attributes:
      task: of `QUESTIONS`.
      face: the name of the face.
      methods: whose images are shown, from left to right: two in the task `pair`, else one.
      repeat: whether the rater has seen it before; such answers only serve to exclude raters.
    """

    task: str
    face: str
    methods: tuple[str, ...]
    repeat: bool = False


@dataclasses.dataclass(frozen=True)
class Design:
    """What determines all trials.

    Attributes:
      faces: {name: true expression, or ""}.
      methods: the names of all methods, the real faces and anchors among them.
      tasks: {task: how many images of each method a rater sees in it; in `pair`: of each two methods}.
      repeats: how many trials of each task come again.
      seed: of order, sides and assignment.
    """

    faces: Mapping[str, str]
    methods: Sequence[str]
    tasks: Mapping[str, int]
    repeats: int
    seed: int

    def treatments(self, task: str) -> list[tuple[str, ...]]:
        """What is compared in a task: the methods, or each two of them."""
        return list(itertools.combinations(self.methods, 2 if task == "pair" else 1))

    def needed(self, task: str) -> int:
        """How many faces a rater sees in a task."""
        return self.tasks[task] * len(self.treatments(task))

    def check(self) -> None:
        """Raises UserError if there are too few faces for a rater to see none twice, or nothing to do."""
        for task, number in self.tasks.items():
            if task not in QUESTIONS:
                raise UserError(f"there is no task {task!r}; choose some of {', '.join(QUESTIONS)}, as in rating=10,pair=2")
            if number < 1:
                raise UserError(f"the task {task} needs at least one image of each method; leave it out, or give {task}=1")
        if not self.tasks:
            raise UserError(f"there is no task; give --tasks, with some of {', '.join(QUESTIONS)}")
        if self.seed < 0:
            raise UserError("--seed cannot be negative; give 0 or more")
        if self.repeats < 0:
            raise UserError("--repeats cannot be negative; 0 repeats no trial")
        needed = sum(map(self.needed, self.tasks))
        if needed > len(self.faces):
            of_each = " + ".join(f"{len(self.treatments(task))} x {n} ({task})" for task, n in self.tasks.items())
            raise UserError(
                f"no rater sees a face twice, so that this study needs {of_each} = {needed} faces, but there are "
                f"{len(self.faces)}; give more faces or lower --tasks"
            )

    def sets_of_faces(self) -> dict[str, list[tuple[str, ...]]]:
        """{task: sets of as many faces as there are treatments}, of one expression each where the numbers allow it.

        Each task has faces of its own. Every expression is spread evenly over the list.
        """
        rng = np.random.default_rng(self.seed)
        names = rng.permutation(sorted(self.faces)).tolist()
        faces = _interleaved(_by(names, self.faces.get))
        total, begin, sets = sum(map(self.needed, self.tasks)), 0, {}
        for task in self.tasks:
            end = begin + len(faces) * self.needed(task) // total
            size = len(self.treatments(task))
            equal, mixed = [], []
            for group in _by(faces[begin:end], self.faces.get):
                whole = len(group) // size * size
                equal.append(_cut(group[:whole], size))
                mixed.extend(group[whole:])
            sets[task] = [*_interleaved(equal), *_cut(mixed[: len(mixed) // size * size], size)]
            begin = end
        return sets

    def trials(self, rater: int) -> list[Trial]:
        """All trials of a rater, task by task.

        In each task, every set of faces is a Latin square: as many raters in a row as there are treatments see each of its
        faces by each treatment once; each of them sees another face by each treatment. The next ones go on with the next sets.

        Args:
          rater: the rater's number, from 0 on.
        """
        sets_of_faces, trials = self.sets_of_faces(), []
        for task, number in self.tasks.items():
            rng = np.random.default_rng([self.seed, rater, list(QUESTIONS).index(task)])
            treatments, sets = self.treatments(task), sets_of_faces[task]
            first = rater // len(treatments) * number
            shown = [
                Trial(task, face, treatments[(place + rater) % len(treatments)])
                for turn in range(number)
                for place, face in enumerate(sets[(first + turn) % len(sets)])
            ]
            # Half of them, give or take one, are mirrored; a treatment that is shown twice is so once.
            shown.sort(key=lambda trial: (trial.methods, trial.face))
            start = int(rng.integers(2))
            shown = [_mirrored(trial) if (start + place) % 2 else trial for place, trial in enumerate(shown)]
            trials += _with_repeats([shown[index] for index in rng.permutation(len(shown))], self.repeats, rng)
        return trials


def _with_repeats(trials: list[Trial], number: int, rng: np.random.Generator) -> list[Trial]:
    """The trials, with some from the first half once more, mirrored, at places in the second half."""
    half = (len(trials) + 1) // 2
    first, second = trials[:half], trials[half:]
    for index in rng.permutation(half)[:number]:
        again = dataclasses.replace(_mirrored(first[index]), repeat=True)
        second.insert(int(rng.integers(len(second) + 1)), again)
    return first + second


def _mirrored(trial: Trial) -> Trial:
    return dataclasses.replace(trial, methods=trial.methods[::-1])


def _by(names: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    """The names in groups of one key each; groups in the order of their keys, names as they come."""
    return [list(group) for _, group in itertools.groupby(sorted(names, key=key), key)]


def _interleaved(lists: Sequence[list]) -> list:
    """All elements, in turn from each list, as evenly spread as their lengths allow."""
    places = [((place + 0.5) / len(each), number, item) for number, each in enumerate(lists) for place, item in enumerate(each)]
    return [item for _, _, item in sorted(places, key=lambda entry: entry[:2])]


def _cut(names: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(names[begin : begin + size]) for begin in range(0, len(names), size)]
