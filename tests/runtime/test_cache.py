import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from maskgan_jax.runtime import cache
from maskgan_jax.runtime.cache import cache_folder, keep_compiled

# Runs `maskgan` with its arguments, and prints how many programs were compiled, and how many were found in the cache.
COUNTED_RUN = """
import sys
sys.modules["torch"] = None  # tensorboardX would import it, for seconds.
from maskgan_jax.__main__ import main
from maskgan_jax.runtime.cache import keep_compiled
keep_compiled()
import jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
code = main(sys.argv[1:])
print(*(events.count(f"/jax/compilation_cache/cache_{what}") for what in ("misses", "hits")))
sys.exit(code)
"""
OURS = {
    "JAX_COMPILATION_CACHE_DIR": "{cache}/compiled",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 1024**3),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache folder of a user who has set nothing else."""
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def settings():
    return {name: os.environ[name] for name in OURS if name in os.environ}


def test_cache_folder(monkeypatch):
    monkeypatch.delenv("MASKGAN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_folder()) == "/somewhere/maskgan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(cache_folder()) == "/home/somebody/.cache/maskgan"


def test_compiled_programs_are_kept_in_the_cache_folder(folder):
    keep_compiled()
    assert settings() == {name: value.format(cache=folder) for name, value in OURS.items()}


def test_what_the_user_has_set_stays(folder, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "1000")
    keep_compiled()
    assert settings()["JAX_COMPILATION_CACHE_MAX_SIZE"] == "1000"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/of/the/user")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    keep_compiled()
    assert settings() == {"JAX_COMPILATION_CACHE_DIR": "/of/the/user", "JAX_COMPILATION_CACHE_MAX_SIZE": "1000"}


def test_cache_that_cannot_be_made(folder):
    folder.touch()
    keep_compiled()
    assert settings() == {}


def test_cache_that_cannot_be_written(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder / "compiled" or mode != os.W_OK)
    keep_compiled()
    assert settings() == {}


def test_user_without_a_home(folder, monkeypatch):
    def fail(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", fail)
    keep_compiled()
    assert settings() == {}


def test_fragments_are_deleted(folder):
    """A program that was killed while it wrote leaves no time of its last use, which JAX writes after it."""
    (folder / "compiled").mkdir(parents=True)
    for name in ("jit_whole-1-cache", "jit_whole-1-atime", "jit_fragment-2-cache", ".lockfile"):
        (folder / "compiled" / name).touch()
    keep_compiled()
    assert {path.name for path in (folder / "compiled").iterdir()} == {"jit_whole-1-cache", "jit_whole-1-atime", ".lockfile"}


def test_without_a_limit_nothing_is_a_fragment(folder, monkeypatch):
    """JAX then keeps no times of use."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "-1")
    (folder / "compiled").mkdir(parents=True)
    (folder / "compiled" / "jit_whole-1-cache").touch()
    keep_compiled()
    assert (folder / "compiled" / "jit_whole-1-cache").exists()


def test_what_another_process_is_writing_is_no_fragment(folder, monkeypatch):
    (folder / "compiled").mkdir(parents=True)
    (folder / "compiled" / "jit_new-1-cache").touch()
    monkeypatch.setattr(cache, "FileLock", lambda path, timeout: FileLock(path, timeout=0.1))
    with FileLock(folder / "compiled" / ".lockfile", is_singleton=False):
        keep_compiled()
    assert (folder / "compiled" / "jit_new-1-cache").exists()
    assert settings() == {name: value.format(cache=folder) for name, value in OURS.items()}


def test_second_run_compiles_nothing(folder, tmp_path, data_dir):
    small = ["data.size=64", "input.batch_size=4", "landmark_net.width=4"]
    flags = [
        "--config=landmarks",
        f"--data_dir={data_dir}",
        *(f"--config.{setting}" for setting in (*small, "training.steps=2")),
    ]
    counts, losses = [], []
    for run in ("first", "second"):
        command = [sys.executable, "-c", COUNTED_RUN, "train", *flags, f"--workdir={tmp_path / run}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "UserWarning" not in done.stderr
        counts.append([int(number) for number in done.stdout.splitlines()[-1].split()])
        losses.append(json.loads((tmp_path / run / "metrics.jsonl").read_text().splitlines()[0])["landmarks"])
    (compiled, found), (compiled_again, found_again) = counts
    assert compiled > 5
    assert compiled_again == 0 and found_again == compiled + found
    assert losses[0] == losses[1]
