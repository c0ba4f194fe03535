"""The server without a browser: what it gives, to whom, and what it refuses."""

import contextlib
import json
import shutil
import sqlite3

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import decode_image, write_png
from maskgan_jax.study import server
from maskgan_jax.study.images import Images
from maskgan_jax.study.server import create_app

UNUSABLE = "the study's computer cannot read or store answers now; tell who runs the study"
KEY, OTHER_KEY = "0123456789abcdef" * 3, "f" * 48


@pytest.fixture
def make_client(database, images, monkeypatch, tmp_path):
    """What makes a client of the study's server; the JavaScript libraries are one line each."""
    library = tmp_path / "library.js"
    library.write_text("// a library\n")
    monkeypatch.setattr(server, "package_file", lambda name: library)

    return lambda host="127.0.0.1": create_app(database, images, host).test_client()


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def session(client):
    """The session of a rater who has just joined."""
    return client.post("/session", json={"key": KEY, "rater": "anna"}).json


@pytest.mark.parametrize("number", [10**400, -1, float("nan"), float("inf")])
def test_impossible_numbers_are_refused_and_the_rest_is_stored(client, session, number):
    first, second = session["trials"][:2]

    def answer(trial, milliseconds):
        given = {question: choices[0] for question, choices in trial["questions"].items()}
        times = dict.fromkeys(trial["questions"], milliseconds)
        return {"trial": trial["id"], "given": given, "milliseconds": times, "scale": 1}

    sent = client.post("/answers", json={"key": KEY, "answers": [answer(first, number), answer(second, 900)]})
    assert sent.status_code == 200
    assert sent.json == {"stored": [second["id"]], "refused": {first["id"]: "a time is impossible"}}


@pytest.mark.parametrize("key", ["", "k", "0" * 47, "0" * 49, "A" * 48, "é" * 48, "\ud800" * 48, "0" * 48 + "\n"])
@pytest.mark.parametrize("path", ["/session", "/answers"])
def test_only_keys_that_the_page_makes(client, database, path, key):
    answer = client.post(path, json={"key": key, "rater": "anna", "answers": []})
    assert answer.status_code == 400
    assert answer.json["error"] == "the key is not one that this study's page makes: 48 digits from 0 to f"
    assert database.asked() == {}


def test_no_personal_data_is_stored(client, database):
    """The columns of the database are these, and its bytes hold neither the address of a rater nor the browser's name."""
    who = {"headers": {"User-Agent": "telling-browser/7"}, "environ_base": {"REMOTE_ADDR": "203.0.113.77"}}
    (trial, *_) = client.post("/session", json={"key": KEY, "rater": "anna"}, **who).json["trials"]
    times = dict.fromkeys(trial["questions"], 900)
    given = {question: choices[0] for question, choices in trial["questions"].items()}
    sent = {"trial": trial["id"], "given": given, "milliseconds": times, "scale": 1, "agent": "telling-browser/7"}
    assert client.post("/answers", json={"key": KEY, "answers": [sent]}, **who).json["stored"] == [trial["id"]]
    with contextlib.closing(sqlite3.connect(database.path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in tables}
        stored = b"".join(path.read_bytes() for path in database.path.parent.glob(f"{database.path.name}*"))
    assert columns == {
        "study": ["settings", "secret", "started"],
        "images": ["id", "face", "method", "digest"],
        "raters": ["id", "key", "number", "joined"],
        "trials": ["id", "rater", "place", "task", "face", "methods", "repeat"],
        "answers": ["trial", "given", "milliseconds", "scale", "stored"],
    }
    assert b"anna" in stored and trial["id"].encode() in stored
    assert b"telling-browser" not in stored and b"203.0.113.77" not in stored


def test_half_a_character_is_refused(client, session):
    answer = client.post("/session", json={"key": OTHER_KEY, "rater": "\ud800"})
    assert answer.status_code == 400 and "an id has 1 to 32 letters" in answer.json["error"]
    trial = session["trials"][0]["id"]
    halves = {"trial": trial, "given": {"expression": "\ud800", "quality": 1}}, {"trial": "\ud800"}
    answer = client.post("/answers", json={"key": KEY, "answers": halves})
    assert answer.json["refused"].keys() == {trial, "\ud800"}


def test_errors_of_the_server_itself_are_json(client):
    answer = client.post("/answers", data=b" " * 2_000_000, content_type="application/json")
    assert answer.status_code in (400, 413) and answer.json["error"]
    assert client.get("/nothing").json["error"] == "not found"


def test_the_practice_tells_no_paths(client, monkeypatch, capsys):
    def gone(*_):
        raise UserError("cannot read /secret/ours/face.png")

    monkeypatch.setattr(Images, "read", gone)
    answer = client.get("/practice/0.png")
    assert answer.status_code == 500
    assert answer.json["error"] == "an image cannot be read on the study's computer; tell who runs the study"
    assert "cannot read" in capsys.readouterr().out


def test_two_studies_on_one_computer_have_cookies_of_their_own(make_client, database):
    first = make_client("0.0.0.0").get(f"/?token={database.secret}").headers["Set-Cookie"]
    database.secret = "other"
    second = make_client("0.0.0.0").get("/?token=other").headers["Set-Cookie"]
    assert first.split("=")[0] != second.split("=")[0]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page/study.js", "text/javascript"),
        ("/page/judge.js", "text/javascript"),
        ("/page/study.css", "text/css"),
        ("/page/jspsych.js", "text/javascript"),
        ("/practice/0.png", "image/png"),
        ("/study", "application/json"),
    ],
)
def test_files_of_the_page(client, path, kind):
    answer = client.get(path)
    assert answer.status_code == 200 and answer.mimetype == kind
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/images/secret-name-00.png",
        "/images/..%2f..%2fetc%2fpasswd",
        "/images/../real/secret-name-00.png",
        "/page/consent.txt",
        "/page/..%2fserver.py",
        "/page/index.html",
        "/practice/2.png",
        "/real/secret-name-00.png",
    ],
)
def test_nothing_else_is_served(client, path):
    assert client.get(path).status_code == 404


def test_images_have_true_pixels_and_tell_nothing_else(client, session, database, images):
    ids = database.images()
    shown = session["trials"][0]["images"][0]
    answer = client.get(shown)
    face, method = ids[shown.removeprefix("/images/").removesuffix(".png")]
    np.testing.assert_array_equal(decode_image(answer.data), images.read(face, method))
    assert "secret" not in str(answer.headers) and b"tEXt" not in answer.data


def test_no_images_are_kept_in_memory(client, session, images, monkeypatch):
    """A study may have any number of images of up to 2048 px a side."""
    read, reads = Images.read, []
    monkeypatch.setattr(Images, "read", lambda *of: reads.append(of) or read(*of))
    shown = session["trials"][0]["images"][0]
    assert client.get(shown).data == client.get(shown).data
    half = len(reads) // 2  # The anchor that is drawn reads another image.
    assert half and reads[:half] == reads[half:]


def test_a_session_is_blind(client, session):
    text = client.post("/session", json={"key": KEY}).text
    assert not any(word in text for word in ("secret-name", "ours", "telea", "masked", "repeat", "method", "face"))
    assert session["rater"] == "anna" and session["answered"] == []
    assert session["trials"][0]["questions"] == {
        "expression": ["neutral", "happy", "angry", "sad", "surprised"],
        "quality": [1, 2, 3, 4, 5, 6, 7],
    }


def test_answers_may_be_sent_again(client, session, database, reply):
    trials = database.trials("anna")
    sent = [reply(trial["id"], trials[trial["id"]]) for trial in session["trials"]]
    for _ in range(2):
        answer = client.post("/answers", json={"key": KEY, "answers": sent})
        assert answer.json == {"stored": [trial["id"] for trial in session["trials"]], "refused": {}}
    assert len(database.answers()) == len(sent)
    assert sorted(client.post("/session", json={"key": KEY}).json["answered"]) == sorted(trials)


def test_without_a_key_nobody_takes_part(client):
    assert client.post("/session", json={"key": OTHER_KEY}).json == {"rater": None}
    for path, body in (
        ("/session", {}),
        ("/session", ["key"]),
        ("/session", {"key": 3}),
        ("/answers", {"key": OTHER_KEY, "answers": []}),
        ("/answers", {"key": ""}),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 400 and answer.json["error"]
    # A form of another site cannot send JSON.
    assert client.post("/session", data=json.dumps({"key": KEY, "rater": "x"}), content_type="text/plain").status_code == 400


def test_who_read_another_consent_does_not_join(client, database):
    study = client.get("/study").json["study"]
    answer = client.post("/session", json={"key": KEY, "rater": "anna", "study": "another"})
    assert answer.status_code == 400 and "the study has begun anew since this page was opened" in answer.json["error"]
    assert database.asked() == {}
    assert client.post("/session", json={"key": KEY, "rater": "anna", "study": study}).json["rater"] == "anna"


def test_an_id_in_use(client, session):
    answer = client.post("/session", json={"key": OTHER_KEY, "rater": "anna"})
    assert answer.status_code == 400 and "another rater has the id anna" in answer.json["error"]


def test_too_large_a_request(client):
    assert client.post("/session", json={"key": KEY * 2_000_000}).status_code in (400, 413)


def test_a_full_disk_is_told_and_nothing_is_lost(client, session, database, reply, monkeypatch, capsys):
    (name, trial), *_ = database.trials("anna").items()

    def full(*arguments, **options):
        raise sqlite3.OperationalError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        answer = client.post("/answers", json={"key": KEY, "answers": [reply(name, trial)]})
    assert answer.status_code == 507 and answer.json["error"] == UNUSABLE
    assert "(disk is full); check its permissions, the free space" in capsys.readouterr().out
    assert client.post("/answers", json={"key": KEY, "answers": [reply(name, trial)]}).json["stored"] == [name]


@pytest.mark.parametrize("path", ["/session", "/answers"])
def test_a_damaged_database_tells_raters_no_paths(client, session, database, capsys, path):
    database.path.write_text("not a database, " * 1000)
    answer = client.post(path, json={"key": KEY, "rater": "anna", "answers": []})
    assert answer.status_code == 507 and answer.json == {"error": UNUSABLE}
    assert f"{database.path} is not a study, or is damaged (" in capsys.readouterr().out


def test_an_image_that_vanished(client, session, images, monkeypatch, capsys):
    monkeypatch.setattr(type(images), "read", lambda *_: server.read_image("/nowhere/secret.png"))
    answer = client.get(session["trials"][0]["images"][0])
    assert answer.status_code == 500 and "secret" not in answer.text
    assert "cannot read /nowhere/secret.png" in capsys.readouterr().out


def test_an_image_that_was_replaced_is_not_shown(make_client, database, images, study_images, tmp_path, capsys):
    shown = shutil.copytree(study_images, tmp_path / "faces")
    folders = {
        method: {face: shown / file.relative_to(study_images) for face, file in of.items()}
        for method, of in images.folders.items()
    }
    images = Images(folders, images.mask)
    client = create_app(database, images).test_client()
    name = next(name for name, (_, method) in database.images().items() if method == "ours")
    assert client.get(f"/images/{name}.png").status_code == 200
    for file in folders["ours"].values():
        write_png(file, np.zeros((64, 64, 3), np.uint8))
    answer = client.get(f"/images/{name}.png")
    assert answer.status_code == 500 and "tell who runs the study" in answer.json["error"]
    assert "is another image than when the study began" in capsys.readouterr().out


@pytest.mark.parametrize(("host", "status"), [("localhost:8000", 200), ("127.0.0.1", 200), ("evil.example:8000", 400)])
def test_on_this_computer_only_its_own_names_are_served(client, host, status):
    assert client.get("/", headers={"Host": host}).status_code == status


def test_on_a_network_the_token_is_asked_for(make_client, database):
    client = make_client("0.0.0.0")
    for path in ("/", "/study", "/page/study.js", "/?token=wrong", f"/study?token={database.secret}", "/?token=ä"):
        assert client.get(path).status_code == 403
    assert client.get("/").text == "This study needs the whole address, as you were given it, with its token."
    answer = client.get(f"/?token={database.secret}")
    assert answer.status_code == 302 and answer.headers["Location"] == "/"
    assert "HttpOnly" in answer.headers["Set-Cookie"] and "SameSite=Lax" in answer.headers["Set-Cookie"]
    assert client.get("/").status_code == client.get("/study").status_code == 200
