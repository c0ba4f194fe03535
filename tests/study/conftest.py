"""Small studies of the images of `study_images`."""

import shutil

import pytest

from maskgan_jax.study.database import Database
from maskgan_jax.study.images import find_images
from maskgan_jax.study.start import open_study


@pytest.fixture(scope="session")
def images(study_images):
    """Those images: real, ours, masked, and Telea's, which is drawn."""
    return find_images({"ours": study_images / "ours"}, study_images / "real", study_images / "masked", study_images / "mask")


@pytest.fixture(scope="session")
def settings(study_images) -> dict:
    """What `open_study` wants beside a path and images."""
    return {
        "tasks": {"rating": 2, "pair": 1, "real": 1},
        "repeats": 1,
        "seed": 3,
        "exclusion": {},
        "expressions": study_images / "expressions.csv",
    }


@pytest.fixture(scope="session")
def study_without_raters(tmp_path_factory, images, settings):
    return open_study(tmp_path_factory.mktemp("study") / "study.db", images, **settings).path


@pytest.fixture
def database(study_without_raters, tmp_path):
    """A study of these images without raters."""
    return Database(shutil.copy(study_without_raters, tmp_path))


@pytest.fixture(scope="session")
def reply():
    """What makes an answer to a trial, as a browser sends it."""

    def make(trial_id, trial, expression="happy", quality=5, choice="left", real="yes", milliseconds=1500):
        of_task = {
            "rating": {"expression": expression, "quality": quality},
            "pair": {"choice": choice},
            "real": {"real": real},
        }
        given = of_task[trial.task]
        return {"trial": trial_id, "given": given, "milliseconds": dict.fromkeys(given, milliseconds), "scale": 1}

    return make
