"""Files that readers must answer in one sentence: made up by hypothesis, and those that tools/fuzz.py found."""

import base64
import json
import struct
import subprocess
import sys

import hypothesis
import pytest

from maskgan_jax import config
from maskgan_jax.errors import UserError

CHECKS = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
# What each reader once answered otherwise, most of it found by fuzzing.
FACES = b'{"format": "maskgan faces", "version": 1}\n'


def face(*points):
    landmarks = base64.b64encode(struct.pack("<136f", *points, *range(136 - len(points)))).decode()
    return FACES + json.dumps({"id": "ffhq/a.png", "landmarks": landmarks, "jpeg_quality": 90}).encode()


CASES = [
    ("state_dict", base64.b64decode("gAKKCmz8nHJhZ2VjdG9yY2gKRmxvYXRTGS6IAooCdGlscwpfci6AQA==")),
    ("faces", FACES + b"[" * 3000),
    ("faces", face(*[1e6] * 8)),
    ("faces", face(*[float("nan")] * 136)),
    ("weights", b'{"__metadata__":{"format":"maskgan_jax","config":"' + b"[" * 3000 + b'"}}'),
    ("config", b"[" * 3000),
    ("config", b'{"__class__": 1}'),
    ("config", b'{"digests": 3}'),
    ("templates", b"[a]\ntemplate: " + b"x" * 5000),
    ("records", b"\2" + b"[" * 3000),
    ("image", b"RIFF....WEBPVP8X...."),
    # EXIF's software, of a type that there is not; also for the second time.
    ("metadata", b"\0Exif\0\0MM\0*\0\0\0\10\0\1\1\x31\xff\xff\0\0\0\2abcd\0\0\0\0"),
    ("metadata", b"\0Exif\0\0MM\0*\0\0\0\10\0\2" + 2 * b"\1\x31\xff\xff\0\0\0\2abcd" + b"\0\0\0\0"),
]


@pytest.fixture(scope="module")
def fuzz(pytestconfig):
    """tools/fuzz.py."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("fuzz", pytestconfig.rootpath / "tools" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def seeds(fuzz):
    """Good files of each reader."""
    return {name: reader.seeds() for name, reader in fuzz.READERS.items()}


READERS = [
    "weights",
    "state_dict",
    "config",
    "templates",
    "records",
    "table",
    "faces",
    "image",
    "metadata",
    "colours",
    "labels",
]


def test_all_readers_are_tried(fuzz):
    assert list(fuzz.READERS) == READERS


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_read(name, fuzz, seeds, tmp_path):
    for number, data in enumerate(seeds[name]):
        if not (name == "weights" and number > 1):  # Headers alone.
            (tmp_path / str(number)).mkdir()
            fuzz.READERS[name].read(data, tmp_path / str(number))


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_answered_in_one_sentence(name, fuzz, seeds, tmp_path):
    @hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=CHECKS)
    @hypothesis.given(fuzz.damaged(seeds[name]))
    def read(data):
        fuzz.answer(name, data, tmp_path)

    read()


@pytest.mark.parametrize(("name", "data"), CASES)
def test_what_was_found(name, data, fuzz, seeds, tmp_path):
    fuzz.answer(name, data, tmp_path)


def test_a_fault_is_kept_once(fuzz, tmp_path, monkeypatch, capfd):
    def read(data, folder):
        if b"x" in data:
            raise ZeroDivisionError

    monkeypatch.setitem(fuzz.READERS, "config", fuzz.Reader(lambda: [b"a"], read))
    (cases := tmp_path / "cases").mkdir()
    try_one = fuzz._keeping_faults("config", cases, tmp_path)
    for data in (b"a", b"a x", b"b x"):
        try_one(data)
    assert capfd.readouterr().err.startswith("fault: config-ZeroDivisionError-test_fuzz")
    kept, told = sorted(cases.iterdir())
    assert kept.read_bytes() == b"a x" and "ZeroDivisionError" in told.read_text()


def test_as_a_program(fuzz, tmp_path, monkeypatch):
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    command = [sys.executable, fuzz.__file__, "faces", "--engine=hypothesis", "--minutes=0.01", f"--cases={tmp_path}"]
    tried, told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert int(tried.removesuffix(" files were tried")) > 0 and told.endswith(f"0 faults in {tmp_path}: none")
    (tmp_path / "faces-earlier").touch()
    assert subprocess.run(command, capture_output=True, text=True).returncode == 1
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("flags", [["--minutes=0"], ["--minutes=nan"], ["--seed=-1"]])
def test_wrong_flags(fuzz, tmp_path, flags):
    with pytest.raises(UserError, match="give minutes above 0, and a seed of 0 or more"):
        fuzz.main(["config", f"--cases={tmp_path / 'cases'}", *flags])
    assert not list(tmp_path.iterdir())


def test_a_reader_may_not_answer_in_several_lines(fuzz, tmp_path, monkeypatch):
    def read(data, folder):
        raise UserError("one\ntwo")

    monkeypatch.setitem(fuzz.READERS, "config", fuzz.Reader(lambda: [b"a"], read))
    with pytest.raises(ValueError, match="several lines"):
        fuzz.answer("config", b"", tmp_path)


def test_nor_may_one_of_several_that_read_the_file(fuzz, tmp_path, monkeypatch):
    def read(path):
        raise UserError("one\ntwo")

    monkeypatch.setattr(config, "read_digests", read)
    with pytest.raises(ValueError, match="several lines"):
        fuzz.answer("config", b"{}", tmp_path)
