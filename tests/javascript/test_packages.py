"""The JavaScript libraries: pinned, checked, fetched whole or not at all."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.errors import UserError
from maskgan_jax.javascript import packages

PINNED = Path(packages.__file__).parent


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """What makes `npm` a shell script of one's own; the cache is an empty folder."""
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bin").mkdir()

    def write(script: str) -> None:
        program = tmp_path / "bin" / "npm"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return write


def test_every_package_is_pinned_with_a_digest():
    wanted = json.loads((PINNED / "package.json").read_text())["dependencies"]
    locked = json.loads((PINNED / "package-lock.json").read_text())["packages"]
    assert locked[""]["dependencies"] == wanted
    for name, version in wanted.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    assert all(package["integrity"].startswith("sha512-") for path, package in locked.items() if path)


def test_fetches_once(npm, tmp_path, capsys):
    npm(f'echo "$@" >> {tmp_path}/calls; mkdir -p node_modules/jspsych; echo code > node_modules/jspsych/index.js')
    assert main(["javascript"]) == 0
    assert main(["javascript"]) == 0
    assert (tmp_path / "calls").read_text().split("\n") == [
        "ci --ignore-scripts --no-audit --no-fund --loglevel=error",
        "",
    ]
    path = packages.package_file("jspsych/index.js")
    assert path.read_text() == "code\n"
    assert str(path.parents[1]) in capsys.readouterr().out


def test_a_failed_installation_leaves_nothing(npm, tmp_path):
    npm("mkdir node_modules; echo 'npm error code EINTEGRITY' >&2; echo 'npm error sha512-abc is wrong' >&2; exit 1")
    with pytest.raises(UserError, match=r"cannot install .* \(sha512-abc is wrong\); check the network"):
        packages.fetch_packages()
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(UserError, match="run `maskgan javascript` once"):
        packages.package_file("jspsych/index.js")


def test_without_npm(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    assert main(["javascript"]) == 1
    assert "npm, which fetches the JavaScript libraries, is missing; install Node.js" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is missing")
def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "slider").mkdir()
    (tmp_path / "slider" / "package.json").write_text('{"name": "slider", "version": "1.0.0"}')
    subprocess.run(["npm", "pack", "--silent", "./slider"], cwd=tmp_path, check=True)
    archive = tmp_path / "slider-1.0.0.tgz"
    wanted = {"name": "page", "dependencies": {"slider": f"file:{archive}"}}
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    monkeypatch.setattr(packages, "_PINNED", tmp_path)

    def fetch(digest: str, cache: str) -> None:
        monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / cache))
        pinned = {"version": "1.0.0", "resolved": f"file:{archive}", "integrity": f"sha512-{digest}"}
        (tmp_path / "package.json").write_text(json.dumps(wanted))
        lock = {"lockfileVersion": 3, "packages": {"": wanted, "node_modules/slider": pinned}}
        (tmp_path / "package-lock.json").write_text(json.dumps(lock))
        packages.fetch_packages()

    fetch(digest, "good")
    assert packages.package_file("slider/package.json").is_file()
    with pytest.raises(UserError, match=r"npm cannot install .*[iI]ntegrity checksum failed"):
        fetch(digest[::-1].replace("=", "") + "==", "bad")
    assert list((tmp_path / "bad").iterdir()) == []
