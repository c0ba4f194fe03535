"""Begins a study, or goes on with it: what was fixed at its start stays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from maskgan_jax.errors import UserError
from maskgan_jax.study.database import Database
from maskgan_jax.study.design import Design
from maskgan_jax.study.exclusion import complete_rule
from maskgan_jax.study.images import Images, read_expressions

CONSENT = Path(__file__).parent / "page" / "consent.txt"
# SHA-256 of the package's former text: a study that began with it goes on with it.
_FORMER_CONSENT = "d307deaf9840843ea6f77127da8c13ba70795c4d9480acba5e94612eab41bd97"


def open_study(
    path: str | os.PathLike,
    images: Images,
    *,
    tasks: Mapping[str, int],
    repeats: int,
    seed: int,
    exclusion: Mapping[str, float],
    expressions: str | os.PathLike | None = None,
    consent: str | os.PathLike | None = None,
) -> Database:
    """The study in a database file, which is made if it is not there, and begins anew if it has other settings and no rater.

    Args:
      path: the file.
      images: what raters judge.
      tasks, repeats, seed: as in `Design`.
      exclusion: the limits that differ from those in `exclusion.RULE`.
      expressions: the table for `read_expressions`; without it, accuracy is unknown.
      consent: a text file for the first page, instead of the package's.

    Raises:
      UserError: the images or a file are unfit, or the study at `path` has raters and other images or settings.
    """
    faces = read_expressions(expressions, images.faces) if expressions else dict.fromkeys(images.faces, "")
    design = Design(faces, images.methods, dict(tasks), repeats, seed)
    design.check()
    try:
        text = Path(consent or CONSENT).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {consent} ({error}); give a text file in UTF-8") from error
    files = {method: {face: str(file) for face, file in of.items()} for method, of in images.folders.items()}
    settings = {
        "consent": text,
        "exclusion": complete_rule(exclusion),
        "files": files,
        "mask": {face: str(file) for face, file in images.mask.items()},
    }
    digests = images.digests()
    if not Path(path).exists():
        return Database.create(path, design, digests, settings)
    database = Database(path)
    if not database.settings.get("files"):
        raise UserError(f"the raters of the study in {path} are simulated; give another --db")
    before, rule = database.design, database.settings["exclusion"]
    # A study that began before there were some limits goes on without them.
    known = {name: limit for name, limit in settings["exclusion"].items() if name in rule or name in exclusion}
    begun_with = database.settings["consent"]
    if consent is None and hashlib.sha256(begun_with.encode()).hexdigest() == _FORMER_CONSENT:
        settings["consent"] = begun_with
    for what, was, given in (
        ("faces", dict(before.faces), faces),
        ("methods", list(before.methods), images.methods),
        ("--tasks", dict(before.tasks), dict(tasks)),
        ("--repeats", before.repeats, repeats),
        ("--seed", before.seed, seed),
        ("consent text", begun_with, settings["consent"]),
        ("--exclude", rule, known),
        ("images", database.digests(), digests),
    ):
        if was != given:
            if database.begin_anew(design, digests, settings):
                print(f"the study in {path} had other {what} and no rater yet: it begins anew", flush=True)
                return Database(path)
            raise UserError(
                f"the study in {path} began with other {what}; give the same {what} to go on with it, or another --db for "
                "another study"
            )
    return database
