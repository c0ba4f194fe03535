"""A study goes on as it began, or not at all."""

import contextlib
import hashlib
import json
import shutil
import sqlite3

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.study import start
from maskgan_jax.study.database import Database
from maskgan_jax.study.images import find_images
from maskgan_jax.study.simulation import simulate_study
from maskgan_jax.study.start import open_study


@pytest.fixture
def begun(database):
    """A study with a rater."""
    database.join("key", "anna")
    return database


def test_goes_on_with_the_same(begun, images, settings):
    assert open_study(begun.path, images, **settings).asked() == begun.asked()


def test_a_study_that_began_before_a_limit_goes_on_without_it(begun, images, settings):
    with contextlib.closing(sqlite3.connect(begun.path)) as connection, connection:
        old = begun.settings | {"exclusion": {"answered": 1.0, "seconds": 0.5, "repeats": 0.67, "anchor": 0.0}}
        connection.execute("UPDATE study SET settings = ?", (json.dumps(old),))
    assert open_study(begun.path, images, **settings).settings == old
    with pytest.raises(UserError, match="began with other --exclude"):
        open_study(begun.path, images, **settings | {"exclusion": {"anchor_pair": 0.5}})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tasks": {"rating": 3}}, "--tasks"),
        ({"repeats": 2}, "--repeats"),
        ({"seed": 4}, "--seed"),
        ({"exclusion": {"seconds": 1}}, "--exclude"),
        ({"expressions": None}, "faces"),
    ],
)
def test_other_settings_are_refused(begun, images, settings, change, what):
    with pytest.raises(UserError, match=f"the study in .*study.db began with other {what}; give the same {what} to go on"):
        open_study(begun.path, images, **settings | change)


def test_without_a_rater_it_begins_anew_with_other_settings(database, images, settings, capsys):
    anew = open_study(database.path, images, **settings | {"seed": 4})
    assert "had other --seed and no rater yet: it begins anew" in capsys.readouterr().out
    assert anew.design.seed == Database(database.path).design.seed == 4
    # Nothing of the old one is left but the secret, and with it the address.
    assert anew.secret == database.secret and len(anew.images()) == 96
    anew.join("key", "anna")
    assert list(anew.trials("anna").values()) == anew.design.trials(0)


def test_other_images_are_refused(begun, study_images, settings, tmp_path):
    folder = shutil.copytree(study_images, tmp_path / "faces")
    write_png(folder / "ours" / "secret-name-00.png", np.full((64, 64, 3), 7, np.uint8))
    images = find_images({"ours": folder / "ours"}, folder / "real", folder / "masked", folder / "mask")
    with pytest.raises(UserError, match="began with other images"):
        open_study(begun.path, images, **settings)
    # The same pixels in another place are the same images.
    shutil.copy(study_images / "ours" / "secret-name-00.png", folder / "ours")
    open_study(begun.path, images, **settings)


def test_other_methods_are_refused(begun, study_images, settings):
    images = find_images({"ours": study_images / "ours"}, study_images / "real")
    with pytest.raises(UserError, match="began with other methods"):
        open_study(begun.path, images, **settings)


def test_consent_of_ones_own(tmp_path, images, settings):
    (tmp_path / "consent.txt").write_text("You may stop.\n\n<b>Any</b> time.\n")
    study = open_study(tmp_path / "study.db", images, **settings, consent=tmp_path / "consent.txt")
    study.join("key", "anna")
    assert study.settings["consent"] == "You may stop.\n\n<b>Any</b> time."
    with pytest.raises(UserError, match="began with other consent text"):
        open_study(tmp_path / "study.db", images, **settings)
    with pytest.raises(UserError, match=r"cannot read .*none.txt"):
        open_study(tmp_path / "study.db", images, **settings, consent=tmp_path / "none.txt")


def test_a_study_with_the_former_consent_goes_on_with_it(begun, images, settings, monkeypatch):
    begun.path.with_name("new.txt").write_text("A new text.")
    monkeypatch.setattr(start, "CONSENT", begun.path.with_name("new.txt"))
    with pytest.raises(UserError, match="began with other consent text"):
        open_study(begun.path, images, **settings)
    former = begun.settings["consent"]
    monkeypatch.setattr(start, "_FORMER_CONSENT", hashlib.sha256(former.encode()).hexdigest())
    assert open_study(begun.path, images, **settings).settings["consent"] == former


def test_a_study_of_simulated_raters_is_refused(tmp_path, images, settings):
    simulate_study(tmp_path / "study.db", raters=1, faces=30, tasks={"rating": 2})
    with pytest.raises(UserError, match="the raters of the study in .* are simulated"):
        open_study(tmp_path / "study.db", images, **settings)


def test_nothing_is_made_if_the_design_does_not_fit(tmp_path, images, settings):
    with pytest.raises(UserError, match="needs 4 x 10"):
        open_study(tmp_path / "study.db", images, **settings | {"tasks": {"rating": 10}})
    assert list(tmp_path.iterdir()) == []
