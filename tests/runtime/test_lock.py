import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.runtime.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from maskgan_jax.runtime.lock import locked

with locked(Path(sys.argv[1]), "") as held:
    print(held, flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["folder", "file"])
def path(request, tmp_path):
    return tmp_path if request.param == "folder" else tmp_path / ".lock"


def test_one_at_a_time(path):
    for _ in range(2):
        with locked(path, "busy") as held:
            assert held
            with pytest.raises(UserError, match="^busy$"), locked(path, "busy"):
                pass


def test_without_a_message_it_waits(path):
    order = []

    def other():
        with locked(path):
            order.append("other")

    with locked(path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_a_file_that_is_deleted_by_whoever_held_its_lock(tmp_path, monkeypatch):
    """Between opening and locking it here: the lock is on the file that others find, not on the one that is gone."""
    path, flock = tmp_path / ".lock", fcntl.flock

    def deleted_first(*arguments):
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", deleted_first)
    with locked(path, "busy") as held:
        assert held and path.exists()
        with pytest.raises(UserError, match="^busy$"), locked(path, "busy"):
            pass


def test_a_folder_that_is_deleted_meanwhile_becomes_no_file(tmp_path, monkeypatch):
    folder, flock = tmp_path / "folder", fcntl.flock
    folder.mkdir()

    def deleted_first(*arguments):
        folder.rmdir()
        flock(*arguments)

    monkeypatch.setattr(fcntl, "flock", deleted_first)
    with pytest.raises(FileNotFoundError), locked(folder, "busy"):
        pass
    assert not folder.exists()


def test_a_killed_process_leaves_no_lock(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with pytest.raises(UserError, match="busy"), locked(path, "busy"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(path, "busy") as held:
        assert held


def test_file_systems_without_locks(path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(path, "busy") as held:
        assert not held


def test_a_failing_block_frees_the_lock_and_its_error_comes_through(path):
    with pytest.raises(OSError, match="of the block"), locked(path, "busy"):
        raise OSError("of the block")
    with locked(path, "busy") as held:
        assert held


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "nowhere" / ".lock", "busy"):
        pass
    assert os.listdir(tmp_path) == []
