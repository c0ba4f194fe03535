"""The study's SQLite file: what was fixed at its start, who takes part, what is asked, and the answers.

Every change is a transaction that is on the disk when its function returns.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maskgan_jax.errors import UserError
from maskgan_jax.study.design import QUESTIONS, Design, Trial

_SCHEMA = """
CREATE TABLE study (settings TEXT NOT NULL, secret TEXT NOT NULL, started TEXT NOT NULL);
CREATE TABLE images (
  id TEXT PRIMARY KEY, face TEXT NOT NULL, method TEXT NOT NULL, digest TEXT NOT NULL, UNIQUE (face, method));
CREATE TABLE raters (
  id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, number INTEGER NOT NULL UNIQUE, joined TEXT NOT NULL);
CREATE TABLE trials (
  id TEXT PRIMARY KEY, rater TEXT NOT NULL REFERENCES raters, place INTEGER NOT NULL, task TEXT NOT NULL, face TEXT NOT NULL,
  methods TEXT NOT NULL, repeat INTEGER NOT NULL, UNIQUE (rater, place));
CREATE TABLE answers (
  trial TEXT PRIMARY KEY REFERENCES trials, given TEXT NOT NULL, milliseconds TEXT NOT NULL, scale REAL NOT NULL,
  stored TEXT NOT NULL);
"""
_VERSION = 1
# What an answer may have taken, in milliseconds.
_LONGEST = 24 * 3_600_000
# With a hyphen in front, a spreadsheet would compute it in the report's answers.csv.
RATER_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}")


class Unusable(UserError):
    """The file cannot be read or written, now or ever; an answer that came is not stored. The message has the file's name."""


class Answer(NamedTuple):
    """A trial of a rater, with what the rater said to it.

    Attributes:
      rater: the rater's id.
      place: of the trial among the rater's, from 0 on.
      trial: what was shown and asked.
      given: {question: answer}.
      milliseconds: {question: from the painted image, or the painted question if it is not the first, to the answer}; None
        where the rater was away meanwhile, or had begun the trial before.
      scale: how many pixels of the screen an image pixel was wide.
    """

    rater: str
    place: int
    trial: Trial
    given: Mapping[str, Any]
    milliseconds: Mapping[str, float | None]
    scale: float


class Database:
    """A study on the disk. Every function raises Unusable if the file cannot be read or written."""

    def __init__(self, path: str | os.PathLike):
        """Opens a study.

        Raises:
          UserError: there is none at `path`.
        """
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"there is no study at {self.path}; `maskgan study serve` begins one")
        with self._connection() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                raise UserError(f"{self.path} is not a study of this version of the program; give another file")
            if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'study'").fetchone():
                raise UserError(f"{self.path} is the database of another program; give another file")
            study = connection.execute("SELECT * FROM study").fetchone()
            if study is None or len(study) != 3:
                raise UserError(f"{self.path} is the database of another program; give another file")
        with _parsing(self.path):
            settings, self.secret, self.started = map(_text, study)
            self.settings = _settings(json.loads(settings))
            self.design = _design(self.settings["design"])

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        design: Design,
        digests: Mapping[tuple[str, str], str],
        settings: Mapping[str, Any],
    ) -> Database:
        """Begins a study, whole or not at all.

        Args:
          path: the file; there is none yet.
          design: what determines the trials.
          digests: {(face, method): SHA-256 of the image}.
          settings: what else is fixed before the first answer, as JSON has it.
        """
        design.check()
        path = Path(path)
        if path.exists():
            raise UserError(f"there is a file at {path} already; delete it, or give another name")
        temporary = path.with_name(f".{secrets.token_hex(16)}.db")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _errors(path), contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                connection.executescript(f"PRAGMA user_version = {_VERSION}; BEGIN; {_SCHEMA}")
                _begin(connection, design, digests, settings, secrets.token_urlsafe(24))
                connection.execute("COMMIT")
                connection.execute("PRAGMA journal_mode = WAL")
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}); check the folder's permissions and free space") from error
        finally:
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{temporary}{suffix}").unlink(missing_ok=True)
        return cls(path)

    def begin_anew(self, design: Design, digests: Mapping[tuple[str, str], str], settings: Mapping[str, Any]) -> bool:
        """Begins the study again with what `create` takes, unless a rater has joined; returns whether it did.

        The secret stays, and with it the address. What this object has read of the old study does not follow.
        """
        design.check()
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM raters").fetchone():
                return False
            connection.execute("DELETE FROM study")
            connection.execute("DELETE FROM images")
            _begin(connection, design, digests, settings, self.secret)
        return True

    def images(self) -> dict[str, tuple[str, str]]:
        """{id: (face, method)} of all images. The ids are random: they tell nothing."""
        with self._connection() as connection:
            return {row[0]: row[1:] for row in connection.execute("SELECT id, face, method FROM images")}

    def digests(self) -> dict[tuple[str, str], str]:
        """{(face, method): SHA-256 of the image}, as it was when the study began."""
        with self._connection() as connection:
            return {row[:2]: row[2] for row in connection.execute("SELECT face, method, digest FROM images")}

    def rater_of(self, key: str) -> str | None:
        """The id of the rater whose browser has this key, or None."""
        with self._connection() as connection:
            row = connection.execute("SELECT id FROM raters WHERE key = ?", (key,)).fetchone()
        return row and row[0]

    def join(self, key: str, rater: str) -> str:
        """Adds a rater with trials of their own, unless the browser with this key has joined already; returns the rater's id.

        Raises:
          UserError: the id is not of 1 to 32 letters, digits, hyphens and underscores, no hyphen first, or is another rater's.
        """
        if not RATER_ID.fullmatch(rater):
            raise UserError("an id has 1 to 32 letters, digits, hyphens and underscores, no hyphen first; choose another one")
        with self._transaction() as connection:
            row = connection.execute("SELECT id FROM raters WHERE key = ?", (key,)).fetchone()
            if row:
                return row[0]
            if connection.execute("SELECT 1 FROM raters WHERE id = ?", (rater,)).fetchone():
                raise UserError(f"another rater has the id {rater} already; choose another one")
            (number,) = connection.execute("SELECT COALESCE(MAX(number), -1) + 1 FROM raters").fetchone()
            connection.execute("INSERT INTO raters VALUES (?, ?, ?, ?)", (rater, key, number, _now()))
            connection.executemany(
                "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (secrets.token_urlsafe(12), rater, place, trial.task, trial.face, json.dumps(trial.methods), trial.repeat)
                    for place, trial in enumerate(self.design.trials(number))
                ],
            )
        return rater

    def trials(self, rater: str) -> dict[str, Trial]:
        """{id: trial} of a rater, in their order."""
        with self._connection() as connection:
            rows = connection.execute(f"SELECT id, {_TRIAL} FROM trials WHERE rater = ? ORDER BY place", (rater,))
            with _parsing(self.path):
                return {row[0]: self._trial(row[1:]) for row in rows}

    def answered(self, rater: str) -> set[str]:
        """The ids of the trials that a rater has answered."""
        with self._connection() as connection:
            rows = connection.execute("SELECT trial FROM answers JOIN trials ON id = trial WHERE rater = ?", (rater,))
            return {row[0] for row in rows}

    def store(self, rater: str, answers: Sequence[Any]) -> tuple[list[str], dict[str, str]]:
        """Stores answers of a rater; of several to one trial, the first stays.

        Args:
          rater: the rater's id.
          answers: {"trial": id, "given": {...}, "milliseconds": {...}, "scale": ...} each, as a browser sent them.

        Returns:
          The ids of the trials that have an answer now, and {id: what is wrong} of those that were refused.

        Raises:
          Unusable: nothing was stored.
        """
        trials = self.trials(rater)
        stored, refused = [], {}
        with self._transaction() as connection:
            for answer in answers:
                name = answer.get("trial") if isinstance(answer, dict) else None
                if not isinstance(name, str) or name not in trials:
                    refused[str(name)] = "there is no such trial"
                elif wrong := _what_is_wrong(answer, trials[name].task):
                    refused[name] = wrong
                else:
                    given, milliseconds = (json.dumps(answer[part]) for part in ("given", "milliseconds"))
                    row = (name, given, milliseconds, answer["scale"], _now())
                    connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
                    stored.append(name)
        return stored, refused

    def answers(self) -> list[Answer]:
        """All answers, rater by rater, in the order of the trials."""
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT raters.id, place, given, milliseconds, scale, {_TRIAL} FROM answers JOIN trials ON trials.id = trial "
                "JOIN raters ON raters.id = rater ORDER BY number, place"
            )
            with _parsing(self.path):
                return [self._answer(row) for row in rows.fetchall()]

    def _answer(self, row: Sequence[Any]) -> Answer:
        """Raises ValueError if it could not have been stored."""
        answer = Answer(row[0], row[1], self._trial(row[5:]), json.loads(row[2]), json.loads(row[3]), row[4])
        if wrong := _what_is_wrong(answer._asdict(), answer.trial.task):
            raise ValueError(f"of an answer, {wrong}")
        return answer

    def _trial(self, row: Sequence[Any]) -> Trial:
        trial = Trial(row[0], row[1], tuple(json.loads(row[2])), bool(row[3]))
        number = 2 if trial.task == "pair" else 1
        is_known = trial.task in self.design.tasks and trial.face in self.design.faces
        if not is_known or len(trial.methods) != number or not set(trial.methods) <= set(self.design.methods):
            raise ValueError("a trial does not belong to the design")
        return trial

    def asked(self) -> dict[str, int]:
        """{rater: how many trials they have}, in the order of joining."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT raters.id, COUNT(*) FROM raters JOIN trials ON rater = raters.id GROUP BY raters.id ORDER BY number"
            )
            return dict(rows.fetchall())

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with _errors(self.path), contextlib.closing(_open(self.path)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            yield connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # Some errors have ended the transaction already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


_TRIAL = "task, face, methods, repeat"


def _open(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there: otherwise, SQLite would make an empty one."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10, isolation_level=None)


def _begin(
    connection: sqlite3.Connection,
    design: Design,
    digests: Mapping[tuple[str, str], str],
    settings: Mapping[str, Any],
    secret: str,
) -> None:
    """Writes what is fixed at the start."""
    fixed = json.dumps({"design": vars(design), **settings})
    connection.execute("INSERT INTO study VALUES (?, ?, ?)", (fixed, secret, _now()))
    rows = [(secrets.token_urlsafe(12), *image, digest) for image, digest in digests.items()]
    connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a value that should be text is not")
    return value


def _settings(values: Any) -> dict[str, Any]:
    """Raises LookupError if one is missing that every study has, TypeError if they are of the wrong type."""
    rule = values["exclusion"]
    numbers = [*rule.values(), *(rule[name] for name in ("answered", "seconds", "repeats", "anchor"))]
    folders = (values.get(name) or {} for name in ("files", "mask", "truth"))
    if not all(map(_is_number, numbers)) or not all(isinstance(folder, dict) for folder in folders):
        raise TypeError("the settings have values of the wrong type")
    _text(values["consent"])
    return values


def _design(values: Mapping[str, Any]) -> Design:
    """Raises TypeError or ValueError if they are no design."""
    design = Design(**values)
    texts = (*design.faces, *design.faces.values(), *design.methods, *design.tasks)
    numbers = (*design.tasks.values(), design.repeats, design.seed)
    if not (all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)):
        raise TypeError("the design has values of the wrong type")
    try:
        design.check()
    except UserError as error:  # Its advice is about flags.
        raise ValueError("no rater could have been asked so") from error
    return design


def _what_is_wrong(answer: Mapping[str, Any], task: str) -> str | None:
    """What keeps an answer from being stored; None if nothing does."""
    given, milliseconds, scale = (answer.get(part) for part in ("given", "milliseconds", "scale"))
    questions = QUESTIONS[task]
    for values in (given, milliseconds):
        if not isinstance(values, dict) or values.keys() != questions.keys():
            return f"the questions are {', '.join(questions)}"
    # True would count as 1.
    if any(isinstance(given[name], bool) or given[name] not in choices for name, choices in questions.items()):
        return "an answer is none of the choices"
    if not all(value is None or (_is_number(value) and 0 <= value <= _LONGEST) for value in milliseconds.values()):
        return "a time is impossible"
    if not (_is_number(scale) and 0 < scale <= 100):
        return "the scale is impossible"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Raises Unusable for what SQLite says about the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unusable(f"cannot use {path} ({error}); check its permissions, the free space and what else uses it") from error
    except sqlite3.DatabaseError as error:
        raise Unusable(f"{path} is not a study, or is damaged ({error}); give another file, or a copy") from error


@contextlib.contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Raises Unusable if the file holds what no study can hold."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Unusable(f"{path} is not a study, or is damaged ({error}); give another file, or a copy") from error


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
