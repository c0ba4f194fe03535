import email.message
import importlib.metadata
from pathlib import Path

import pytest

from maskgan_jax.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def licences(load_tool):
    return load_tool("list_licences")


def test_the_docs_name_all_pins_with_their_versions(licences):
    docs = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    beam = licences.pinned(ROOT / "constraints-beam.txt")
    for name, version in (beam | licences.pinned(ROOT / "constraints.txt")).items():
        lines = f"| {name} | {version} | ", f"| **{name}** | {version} | "
        assert any(line in docs for line in lines), f"make docs/licences.md anew: {name}"


def test_copyleft_stands_out(licences, tmp_path):
    (tmp_path / "pins.txt").write_text(
        "# comment\ntqdm == 1.0 ; python_version == '3.12'\nabsl_py==2.0  # two\npillow_heif==3.0\n"
    )
    licences.main([str(tmp_path / "pins.txt"), f"--out={tmp_path / 'out.md'}"])
    copyleft, others = (tmp_path / "out.md").read_text().split("## All others")
    assert (
        "| **tqdm** | 1.0 | MPL-2.0 AND MIT |" in copyleft
        and "| **pillow-heif** | 3.0 | BSD-3-Clause; its wheels carry" in copyleft
    )
    assert "| absl-py | 2.0 | Apache" in others and "tqdm" not in others


@pytest.mark.parametrize(
    ("told", "licence"),
    [
        ({"License-Expression": "MIT", "License": "x"}, "MIT"),
        ({"License": "Apache\n 2.0"}, "Apache 2.0"),
        ({"License": "x" * 999, "Classifier": "License :: OSI Approved :: BSD License"}, "BSD License"),
        ({}, "not told"),
    ],
)
def test_what_packages_tell(told, licence, licences, monkeypatch):
    message = email.message.Message()
    for name, value in told.items():
        message[name] = value
    monkeypatch.setattr(importlib.metadata, "metadata", lambda package: message)
    assert licences.licence_of("any") == licence


def test_a_file_of_something_else(licences, tmp_path):
    (tmp_path / "pins.txt").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "pins.txt", tmp_path):
        with pytest.raises(UserError, match=f"cannot read {path} .*; give files of constraints"):
            licences.pinned(path)


def test_a_package_that_is_not_installed(licences, tmp_path):
    (tmp_path / "pins.txt").write_text("no-such-package==1.0\n")
    with pytest.raises(UserError, match="no-such-package is pinned, but not installed"):
        licences.main([str(tmp_path / "pins.txt"), f"--out={tmp_path / 'out.md'}"])
