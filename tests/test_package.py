"""The wheel: all that the checkout has is in it, and it works from an empty folder."""

import fnmatch
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Everything from a package index, about a gigabyte: a test on demand.
INSTALLS_ALL = pytest.mark.skipif(
    not os.environ.get("MASKGAN_TEST_INSTALL"), reason="installs all dependencies: set MASKGAN_TEST_INSTALL=1 to run it"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what tests read of the checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    names = ["maskgan_jax", "configs", "docs", "tests", "tools", *(path.name for path in ROOT.glob("constraints*.txt"))]
    names += ["setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "MODEL_CARD.md", "Makefile"]
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in names:
        copy = shutil.copy if (ROOT / name).is_file() else functools.partial(shutil.copytree, ignore=ignored)
        copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory, source):
    """A source distribution of it, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    build = f"import setuptools.build_meta as meta; print(meta.build_sdist({str(folder)!r}))"
    name = run(sys.executable, "-c", build, cwd=source).splitlines()[-1]
    shutil.unpack_archive(folder / name, folder, filter="data")
    return folder / name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, unpacked):
    """A wheel, built from that."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", unpacked)
    (built,) = folder.glob("maskgan_jax-*-py3-none-any.whl")
    return built


def run(*command, **options):
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(folder):
    """A fresh virtual environment; its Python."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    return folder / "bin" / "python"


def try_out(python, folder):
    """Runs what needs configs, weights and other data of the package, far from the checkout."""
    folder.mkdir()
    # Nothing of this process's environment may lead to the checkout.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    maskgan = python.parent / "maskgan"
    where = run(python, "-c", "import maskgan_jax; print(maskgan_jax.__file__)", cwd=folder, env=clean).strip()
    assert Path(where).is_relative_to(python.parents[1])
    assert "TFLOP a step" in run(maskgan, "train", "--config=landmarks", "--check=1", cwd=folder, env=clean)
    portrait = Path(where).parent / "data" / "portrait.jpg"
    # No mask is found on it; that the networks are there is the point.
    run(maskgan, "unmask", portrait, "--out=out", cwd=folder, env=clean)
    assert any((folder / "out").iterdir())


def test_everything_is_in_the_wheel(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    tracked = [path for path in (ROOT / "maskgan_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {path.relative_to(ROOT).as_posix() for path in tracked if path.name != "README.md"}
    expected |= {f"maskgan_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert {name for name in packed if not name.endswith("README.md")} == expected
    assert sum(name.endswith(".safetensors") for name in packed) >= 4


def test_model_card_and_licences_are_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("LICENSE", "MODEL_CARD.md", "maskgan_jax/pretrained/LICENSE"):
        assert any(one.endswith(f".dist-info/licenses/{name}") for one in names)


def test_all_of_the_checkout_that_tests_read_is_in_the_source_distribution(source, unpacked):
    """And its tests begin."""
    files = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and ".egg-info" not in path.parent.name}
    assert len(files) > 300
    assert {path for path in files if not (unpacked / path).is_file()} == set()
    clean = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1"}
    run(sys.executable, "-m", "pytest", "-q", "tests/test_images.py", "-p", "no:cacheprovider", cwd=unpacked, env=clean)


def test_the_wheel_works_elsewhere(wheel, tmp_path):
    python = environment(tmp_path / "env")
    run(sys.executable, "-m", "pip", f"--python={python}", "install", "--no-deps", "--no-index", wheel)
    # Dependencies as they are here. Of a folder on this path, Python reads no .pth files: an editable checkout is not found.
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    folders = {sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))}
    (site / "dependencies.pth").write_text("\n".join(folders))
    try_out(python, tmp_path / "empty")


@INSTALLS_ALL
def test_pip_install_into_an_empty_environment(wheel, tmp_path):
    python = environment(tmp_path / "env")
    name = "constraints.txt" if sys.version_info < (3, 12) else "constraints-py312.txt"
    # `promise` comes as source only, which needs setuptools in the environment.
    constraints = f"--constraint={ROOT / name}"
    pip = (sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", constraints)
    run(*pip, "setuptools")
    run(*pip, "--no-build-isolation", f"{wheel}[video]")
    try_out(python, tmp_path / "empty")
    run(sys.executable, "-m", "pip", f"--python={python}", "check")


def test_no_folder_of_tests_is_passed_over(request):
    """By default, pytest does not look into those called `build`."""
    folders = [path.name for path in Path(__file__).parent.rglob("*") if path.is_dir() and path.name != "__pycache__"]
    assert "build" in folders
    patterns = request.config.getini("norecursedirs")
    assert not [name for name in folders if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
