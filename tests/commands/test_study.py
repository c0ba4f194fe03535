"""`maskgan study`: flags and what they lead to."""

import errno
import http.client
import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.study.exclusion import RULE


@pytest.fixture
def flags(study_images, tmp_path):
    return [
        "serve",
        "--images",
        f"ours={study_images}/ours",
        f"--real={study_images}/real",
        f"--db={tmp_path}/study.db",
        "--tasks=rating=2",
        "--port=0",
    ]


def error(capsys, *arguments):
    assert main(["study", *arguments]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("maskgan study: error: ")
    return message


def start(flags):
    command = [sys.executable, "-m", "maskgan_jax", "study", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def printed_address(server):
    """The line in which a server prints its address. Skips the test if it cannot start without the JavaScript libraries."""
    if line := server.stdout.readline():
        return line
    said = server.stderr.read()
    if "maskgan javascript" not in said:
        pytest.fail(said)
    pytest.skip(said.splitlines()[-1])


def test_simulate_and_report(tmp_path, capsys):
    assert main(["study", "simulate", f"--db={tmp_path}/s.db", "--raters=3", "--faces=40", "--tasks=rating=3,pair=1"]) == 0
    assert main(["study", "report", f"--db={tmp_path}/s.db", f"--out={tmp_path}/out", "--resamples=100"]) == 0
    assert "3 simulated raters have answered" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "report.json",
        "answers.csv",
        "datapackage.json",
    }
    assert "there is a file at" in error(capsys, "simulate", f"--db={tmp_path}/s.db")


def test_power(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("maskgan_jax.study.simulation.RATERS", (5, 10))
    assert main(["study", "simulate", "--power=choice=0.2", f"--out={tmp_path}/power.json"]) == 0
    assert "choice: a difference of 0.2" in capsys.readouterr().out
    assert json.loads((tmp_path / "power.json").read_text())["choice"]["10"].keys() == {"5", "10", "20"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate"], "give --db, .* or --power"),
        (["simulate", "--db=a", "--power=quality=1"], "give --db, .* or --power"),
        (["simulate", "--power=quality=1", "--faces=9"], "9 faces are too few to simulate two methods; give at least 10"),
        (["simulate", "--db=a", "--raters=2", "--careless=5"], "of 2 raters, 5 cannot be careless; give 0 to 2"),
        (["report", "--db=nowhere.db", "--out=x"], "there is no study at nowhere.db"),
        (["report", "--db=nowhere.db", "--out=x", "--resamples=10"], "--resamples must be at least 100"),
    ],
)
def test_flags_that_do_not_go_together(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, error(capsys, *arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flag",
    [
        "--images=ours",
        "--images= =folder",
        "--tasks=rating",
        "--tasks=rating=x",
        "--tasks=rating=1,rating=2",
        "--exclude=seconds",
        "--port=x",
        "--port=65536",
        "--port=-1",
    ],
)
def test_flags_that_cannot_be_read(flags, flag, capsys):
    with pytest.raises(SystemExit) as end:
        main(["study", *flags, flag])
    assert end.value.code == 2


def test_help_names_all_rules_for_excluding_raters(capsys):
    with pytest.raises(SystemExit):
        main(["study", "serve", "--help"])
    said = "".join(capsys.readouterr().out.split())
    assert ",".join(f"{rule}={limit:g}" for rule, limit in RULE.items()) in said


def test_a_method_twice(flags, capsys, study_images):
    images = [f"--images=a={study_images}/ours"] * 2  # A second --images adds to the first.
    assert "--images has a method twice" in error(capsys, *flags, *images)
    assert "--images has a method twice" in error(capsys, *flags, "--images", *[f"a={study_images}/ours"] * 2)


@pytest.mark.parametrize("name", ["ou\udcffrs", "ou\x1b[2Jrs"])  # A byte that is no UTF-8 comes as such a surrogate.
def test_a_name_of_a_method_that_cannot_be_shown(flags, capsys, study_images, tmp_path, name):
    flags = [*flags, "--images", f"{name}={study_images}/ours"]
    assert f"the name {name!r} of a method has characters that cannot be shown" in error(capsys, *flags)
    assert not (tmp_path / "study.db").exists()


def test_a_database_that_cannot_be_written(flags, capsys):
    assert "cannot write /proc/study.db" in error(capsys, *flags, "--db=/proc/study.db")


def test_a_database_of_something_else_is_left_as_it_was(flags, capsys, tmp_path):
    (tmp_path / "study.db").write_text("notes")
    assert "study.db is not a study, or is damaged" in error(capsys, *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    assert (tmp_path / "study.db").read_text() == "notes"


def test_missing_packages(flags, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "waitress" else found(name))
    assert "the study needs waitress; install them with: pip install 'maskgan_jax[study]'" in error(capsys, *flags)


def test_a_port_in_use(flags, capsys, tmp_path):
    """Nothing is begun."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port} (" in error(capsys, *flags, f"--port={port}")
    assert "cannot listen on 192.0.2.7 port 0" in error(capsys, *flags, "--host=192.0.2.7")
    assert not (tmp_path / "study.db").exists()


def test_without_the_javascript_libraries(flags, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "empty"))
    assert "run `maskgan javascript` once" in error(capsys, *flags)


def test_a_folder_without_locks(flags, monkeypatch, capsys, tmp_path):
    """As on some network file systems."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["study", *flags, f"--port={other.getsockname()[1]}"]) == 1
    said = capsys.readouterr()
    assert f"the folder of {tmp_path}/study.db has no locks: see to it that no other" in said.out
    assert "cannot listen on" in said.err


def test_two_servers_on_one_database(flags, tmp_path):
    """And the end of the first, by Ctrl-C."""
    first = start(flags)
    try:
        assert printed_address(first).startswith("the study is at http://127.0.0.1:")
        second = start(flags)
        assert second.wait(60) == 1
        assert f"another `maskgan study serve` uses {tmp_path}/study.db; end it" in second.stderr.read()
        assert (tmp_path / "study.db-lock").exists()
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) in (0, 130)
        assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
        assert "Traceback" not in first.stderr.read()
    finally:
        first.kill()
        first.wait()


def test_on_a_network_the_printed_address_has_the_token(flags):
    server = start([*flags, "--host=0.0.0.0"])
    try:
        address = re.fullmatch(r"the study is at http://0\.0\.0\.0:(\d+)/(\?token=[\w-]{20,})\n", printed_address(server))
        port, token = address.groups()

        def status(path):
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
            connection.request("GET", path)
            return connection.getresponse().status

        assert [status(path) for path in ("/", "/study", "/?token=other", f"/{token}")] == [403, 403, 403, 302]
    finally:
        server.kill()
        server.wait()
