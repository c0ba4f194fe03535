"""Answers are stored once, whole, or not at all."""

import concurrent.futures
import contextlib
import sqlite3

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.study.database import Database, Unusable


@pytest.fixture
def rater(database):
    return database.join("key", "anna")


def test_a_study_is_what_it_was_begun_with(database):
    again = Database(database.path)
    assert again.design == database.design
    assert again.secret == database.secret and len(again.secret) >= 32
    assert len(again.images()) == len(again.digests()) == 96
    assert not list(database.path.parent.glob(".*"))


def test_ids_of_images_tell_nothing(database):
    ids = list(database.images())
    assert len(set(ids)) == 96
    assert not any(part in name for name in ids for part in ("secret", "real", "ours"))


def test_an_existing_file_is_never_overwritten(database):
    with pytest.raises(UserError, match="there is a file at .* already"):
        Database.create(database.path, database.design, {}, {})


def test_a_rater_gets_the_planned_trials(database, rater):
    assert list(database.trials(rater).values()) == database.design.trials(0)
    assert list(database.trials(database.join("other", "bert")).values()) == database.design.trials(1)


def test_joining_twice_is_joining_once(database, rater):
    trials = database.trials(rater)
    assert database.join("key", "anna") == database.join("key", "somebody") == "anna"
    assert database.trials(rater) == trials and database.asked() == {"anna": len(trials)}


def test_an_id_of_another_rater_is_refused(database, rater):
    with pytest.raises(UserError, match="another rater has the id anna already; choose another one"):
        database.join("another key", "anna")


@pytest.mark.parametrize("name", ["", "Anna Meyer", "a" * 33, "../x", "anna\n", "änna", "-anna", "-5"])
def test_ids_that_are_refused(database, name):
    with pytest.raises(UserError, match="an id has 1 to 32 letters"):
        database.join("key", name)


def test_a_rater_of_a_study_from_before_whose_id_is_refused_now_goes_on(database, rater, reply):
    with contextlib.closing(sqlite3.connect(database.path)) as connection, connection:
        connection.execute("UPDATE raters SET id = '-5'")
        connection.execute("UPDATE trials SET rater = '-5'")
    before = Database(database.path)
    assert before.rater_of("key") == "-5"
    before.store("-5", [reply(name, trial) for name, trial in before.trials("-5").items()])
    assert {answer.rater for answer in before.answers()} == before.asked().keys() == {"-5"}


def test_answers_come_back(database, rater, reply):
    trials = database.trials(rater)
    sent = [reply(name, trial) for name, trial in trials.items()]
    stored, refused = database.store(rater, sent[::-1])
    assert sorted(stored) == sorted(trials) and refused == {}
    answers = database.answers()
    assert [answer.trial for answer in answers] == list(trials.values())
    assert [answer.given for answer in answers] == [each["given"] for each in sent]
    assert answers[0].milliseconds == sent[0]["milliseconds"] and answers[0].scale == 1
    assert database.answered(rater) == set(trials)


def test_the_first_of_two_answers_stays(database, rater, reply):
    name, trial = next(iter(database.trials(rater).items()))
    for expression in ("happy", "sad"):
        assert database.store(rater, [reply(name, trial, expression=expression)]) == ([name], {})
    assert [answer.given["expression"] for answer in database.answers()] == ["happy"]


def test_an_answer_without_a_time_is_stored(database, rater, reply):
    name, trial = next(iter(database.trials(rater).items()))
    assert database.store(rater, [reply(name, trial, milliseconds=None)]) == ([name], {})
    assert database.answers()[0].milliseconds == {"expression": None, "quality": None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"given": {"expression": "glad", "quality": 5}}, "none of the choices"),
        ({"given": {"expression": "happy", "quality": 8}}, "none of the choices"),
        ({"given": {"expression": "happy", "quality": True}}, "none of the choices"),
        ({"given": {"expression": ["happy"], "quality": 5}}, "none of the choices"),
        ({"given": {"expression": "happy"}}, "the questions are expression, quality"),
        ({"given": None}, "the questions are expression, quality"),
        ({"milliseconds": {"expression": 1, "quality": -1}}, "a time is impossible"),
        ({"milliseconds": {"expression": 1, "quality": float("nan")}}, "a time is impossible"),
        ({"milliseconds": {"expression": 1, "quality": "2"}}, "a time is impossible"),
        ({"milliseconds": {"expression": 1, "quality": 1e12}}, "a time is impossible"),
        ({"scale": 0}, "the scale is impossible"),
        ({"scale": None}, "the scale is impossible"),
    ],
)
def test_answers_that_are_refused_do_not_hold_up_others(database, rater, reply, change, reason):
    (name, trial), (other, good), *_ = database.trials(rater).items()
    assert trial.task == good.task == "rating"
    stored, refused = database.store(rater, [reply(name, trial) | change, reply(other, good)])
    assert stored == [other] and reason in refused[name]


def test_trials_of_others_and_of_nobody_are_refused(database, rater, reply):
    other = database.join("other", "bert")
    name, trial = next(iter(database.trials(other).items()))
    assert database.store(rater, [reply(name, trial), "nonsense", {"trial": 3}])[0] == []
    assert database.answers() == []


def test_several_at_once(database, reply):
    def take_part(number):
        rater = database.join(f"key{number}", f"rater{number}")
        for name, trial in database.trials(rater).items():
            database.store(rater, [reply(name, trial)])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(take_part, range(4)))
    assert sorted(database.asked()) == [f"rater{number}" for number in range(4)]
    assert len(database.answers()) == sum(database.asked().values())


def test_a_full_disk_loses_nothing(database, rater, reply, monkeypatch):
    sent = [reply(name, trial) for name, trial in database.trials(rater).items()]
    database.store(rater, sent[:1])
    opened = sqlite3.connect

    def full(*arguments, **options):
        """A connection that may not take more pages than there are; SQLite says of it what it says of a full disk."""
        connection = opened(*arguments, **options)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(Unusable, match=r"cannot use .*study.db \(database or disk is full\); check"):
        for number in range(20):
            database.join(f"key{number}", f"rater{number}")
    monkeypatch.undo()
    # No rater is there in part.
    assert set(database.asked().values()) == {len(sent)}
    assert len(database.answers()) == 1
    database.store(rater, sent)
    assert len(database.answers()) == len(sent)


def test_files_that_are_no_studies(tmp_path, database):
    with pytest.raises(UserError, match="there is no study at .*nothing.db"):
        Database(tmp_path / "nothing.db")
    (tmp_path / "text.db").write_text("not a database, " * 100)
    with pytest.raises(UserError, match="text.db is not a study, or is damaged"):
        Database(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.commit()
    with pytest.raises(UserError, match="other.db is not a study of this version"):
        Database(tmp_path / "other.db")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE answers SET given = 'x'",
        "UPDATE answers SET given = '[]'",
        """UPDATE answers SET given = '{"expression": "<script>", "quality": 5}'""",
        """UPDATE answers SET given = '{"expression": "sad", "quality": "5"}'""",
        "UPDATE answers SET milliseconds = '{}'",
        "UPDATE answers SET scale = 'wide'",
        "UPDATE trials SET methods = 'x'",
        "UPDATE trials SET methods = '[]'",
        "UPDATE trials SET methods = '[[1]]'",
        "UPDATE trials SET face = 'x'",
        "UPDATE trials SET task = 'x'",
        "UPDATE study SET settings = '[]'",
        "UPDATE study SET settings = '{'",
        """UPDATE study SET settings = '{"design": {"faces": 3}}'""",
        "UPDATE study SET settings = json_set(settings, '$.design.seed', 'x')",
        "UPDATE study SET settings = json_set(settings, '$.design.tasks', 3)",
        "UPDATE study SET settings = json_set(settings, '$.design.seed', -1)",
        """UPDATE study SET settings = json_set(settings, '$.design.tasks', json('{"x": 1}'))""",
        "UPDATE study SET settings = json_set(settings, '$.exclusion', 'x')",
        """UPDATE study SET settings = json_set(settings, '$.exclusion', json('{"answered": "x"}'))""",
        *(
            f"UPDATE study SET settings = json_remove(settings, '$.{name}')"
            for name in ("exclusion", "exclusion.answered", "exclusion.anchor", "consent")
        ),
        "UPDATE study SET settings = json_set(settings, '$.files', 5)",
        "UPDATE study SET settings = json_set(settings, '$.consent', 5)",
        "UPDATE study SET started = x'00ff'",
    ],
)
def test_an_edited_study(change, database, rater, reply):
    database.store(rater, [reply(name, trial) for name, trial in database.trials(rater).items()])
    with contextlib.closing(sqlite3.connect(database.path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(change)
    with pytest.raises(UserError, match="study.db is not a study, or is damaged .*; give another file, or a copy"):
        Database(database.path).answers()


def test_a_file_that_vanishes_is_not_made_anew(database, rater):
    database.path.unlink()
    with pytest.raises(UserError, match="cannot use .*study.db"):
        database.trials(rater)
    assert not database.path.exists()


def test_a_folder_that_cannot_be_written(database):
    with pytest.raises(UserError, match="cannot (use|write) /proc/study.db"):
        Database.create("/proc/study.db", database.design, {}, {})


@pytest.mark.parametrize("table", ["songs", "study"])
def test_a_database_of_another_program(table, tmp_path):
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 1")
        other.execute(f"CREATE TABLE {table} (name)")
    with pytest.raises(UserError, match="is the database of another program; give another file"):
        Database(path)
