import configparser
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from maskgan_jax.data.build.face_file import kept_faces
from maskgan_jax.data.build.make_record import FoundFace
from maskgan_jax.data.build.sources import any_folder
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png

SMALL = ["--config.data.size=64", "--config.generator.width=4", "--config.discriminator.width=4"]
PROJECT = Path(__file__).parents[2]


def test_what_the_package_requires_is_there_or_packed(load_tool):
    """What the package itself requires; the rehearsal, which is run on demand only, shows what that requires in turn."""
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    machine = (PROJECT / "tests" / "tools" / "gpu_machine.txt").read_text()

    def names(text):
        lines = (line for line in text.splitlines() if line and not line.startswith("#"))
        return {canonicalize_name(Requirement(line).name) for line in lines}

    required = names(setup["options"]["install_requires"])
    assert len(required) > 20 and required <= names(machine) | {*load_tool("gpu_kit/pack").WHEELS}


def test_gradients_of_a_machine_without_accelerator(load_tool, monkeypatch, capsys):
    numerics = load_tool("gpu_kit/numerics")
    # Without an accelerator, TF32 is float32.
    monkeypatch.delitem(numerics.ARITHMETIC, "tf32")
    numerics.main(["--config=pix2pix", *SMALL])
    rows = {row["arithmetic"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows.keys() == {"float32", "bfloat16"}
    for name in ("generator", "discriminator"):
        assert rows["float32"][name] < 1e-6
        assert 1e-4 < rows["bfloat16"][name] < 1


def test_relative_error_by_numpy(load_tool):
    numerics = load_tool("gpu_kit/numerics")
    found, expected = np.array([3.0, 0.0], np.float32), np.array([3.0, 4.0], np.float32)
    assert numerics.relative_error([found, expected], [expected, expected]) == pytest.approx(4 / 50**0.5)


def test_profile_of_a_step(load_tool, tmp_path, capsys):
    out = tmp_path / "profile"
    load_tool("gpu_kit/profile_step").main(
        ["--config=pix2pix", *SMALL, "--config.input.batch_size=2", "--steps=2", f"--out={out}"]
    )
    report = json.loads((out / "operations.json").read_text())
    operations = report["operations"]
    assert report["steps"] == 2 and len(operations) > 50 and list(out.rglob("*.xplane.pb"))
    assert [row["ms"] for row in operations] == sorted((row["ms"] for row in operations), reverse=True)
    # Most operations are run once in a step.
    assert np.median([row["calls"] for row in operations]) == 1
    assert operations[0]["name"] in capsys.readouterr().out


def test_profile_of_no_steps(load_tool, tmp_path):
    with pytest.raises(UserError, match="--steps is 0; it must be at least 1"):
        load_tool("gpu_kit/profile_step").main(["--steps=0", f"--out={tmp_path}"])


# ---- packing ----


@pytest.fixture(scope="module")
def pack(load_tool):
    return load_tool("gpu_kit/pack")


@pytest.fixture(scope="module")
def run(load_tool):
    return load_tool("gpu_kit/run")


def part(pack, path, name):
    return pack.Part(name, pack.digest(path), lambda folder: {f"files/{path.name}": path})


def test_parts_are_made_once(pack, tmp_path, capsys):
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_text(file.name * 1000)
    out = tmp_path / "out"

    def made():
        pack.pack([part(pack, files[0], "a.tar"), part(pack, files[1], "b.tar.xz")], out, 10**6)
        return [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()[:2]]

    assert made() == ["made", "made"]
    entries = json.loads((out / "MANIFEST.json").read_text())["parts"]
    assert entries.keys() == {"a.tar", "b.tar.xz"} and (out / "run.py").is_file()
    for name, entry in entries.items():
        data = (out / name).read_bytes()
        assert entry["bytes"] == len(data) and entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert made() == ["already there", "already there"]
    before = (out / "a.tar").read_bytes()
    (out / "a.tar").write_bytes(b"half")
    os.utime(files[0], (0, 0))  # The same bytes come again.
    assert made() == ["made", "already there"] and (out / "a.tar").read_bytes() == before
    files[1].write_text("changed")
    assert made() == ["already there", "made"]
    pack.pack([part(pack, files[0], "a.tar")], out, 10**6)
    assert not (out / "b.tar.xz").exists()


def test_a_part_that_is_too_large(pack, tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(2 * 10**6))
    with pytest.raises(UserError, match=r"a.tar has 2.0 MB; give --part_size=3 or more"):
        pack.pack([part(pack, tmp_path / "a", "a.tar")], tmp_path / "out", 10**6)
    assert not (tmp_path / "out" / "a.tar").exists()


def test_a_damaged_manifest(pack, tmp_path):
    (tmp_path / "MANIFEST.json").write_text("{")
    with pytest.raises(UserError, match="MANIFEST.json is damaged; delete it"):
        pack.pack([], tmp_path, 10**6)


def test_photos_in_parts(pack, tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(300_000))
    (tmp_path.parent / "secret.jpg").touch()
    (tmp_path / "faces.csv").write_text("file,source\n0.jpg,x\n1.jpg,x\n2.jpg,x\n3.jpg,x\nlost.jpg,x\n../secret.jpg,x\n")
    parts = list(pack.photo_parts(tmp_path, 10**6))
    assert [part.name for part in parts] == ["photos-001.tar", "photos-002.tar"]
    names = [name for part in parts for name in part.contents(tmp_path)]
    assert names == [f"photos/{number}.jpg" for number in range(4)]
    pack.pack(parts, tmp_path / "out", 10**6)
    with pytest.raises(UserError, match=r"0.jpg has 0.3 MB; leave it out, or raise --part_size"):
        list(pack.photo_parts(tmp_path, 200_000))
    (tmp_path / "faces.csv").unlink()
    assert len([name for part in pack.photo_parts(tmp_path, 10**6) for name in part.contents(tmp_path)]) == 5


def test_wrong_requests_to_pack(pack, tmp_path):
    (tmp_path / "empty").mkdir()
    faces = tmp_path / "faces.jsonl"
    with kept_faces(faces):
        pass
    out, faces, photos = str(tmp_path / "out"), f"--faces={faces}", f"--photos={tmp_path / 'empty'}"
    for flags, message in (
        ([out, faces, "--photos=/nowhere"], "--photos=/nowhere is not a folder"),
        ([out, photos, "--faces=/nowhere"], "cannot read /nowhere"),
        ([out, photos, faces, "--part_size=0.5"], "--part_size=0.5: give at least 1"),
        ([out, photos, faces, "--part_size=nan"], "--part_size=nan: give at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            pack.main(flags)
    (tmp_path / "empty" / "faces.csv").write_text("file\nlost.jpg\n")
    with pytest.raises(UserError, match="there are no photos in"):
        list(pack.photo_parts(tmp_path / "empty", 10**6))
    (tmp_path / "empty" / "faces.csv").write_bytes(b"file\n\xff.jpg\n")
    with pytest.raises(UserError, match="cannot read .*faces.csv"):
        list(pack.photo_parts(tmp_path / "empty", 10**6))


# ---- on the other machine ----


@pytest.fixture
def call(run, tmp_path, monkeypatch, capfd):
    """A function that calls run.py with steps of one's own: the exit code and what was printed."""

    def call(steps, *flags):
        monkeypatch.setattr(run, "STEPS", steps)
        code = run.main([*steps, f"--parts={tmp_path}", f"--work={tmp_path / 'work'}", f"--out={tmp_path / 'out'}", *flags])
        return code, capfd.readouterr().out

    return call


def step(run, *programs, **options):
    """A step that runs Python programs."""

    def commands(kit):
        """does this and that"""
        for number, program in enumerate(programs):
            yield run.Command(f"command{number}", (sys.executable, "-c", program), **options)

    return commands


def test_what_is_done_is_not_done_again(run, call, tmp_path):
    program = f"print('hello'); open({str(tmp_path / 'calls')!r}, 'a').write('x')"
    fails = f"import os, sys; sys.exit(not os.path.exists({str(tmp_path / 'mended')!r}))"
    steps = {"one": step(run, program, fails, "print('last')")}
    code, printed = call(steps)
    assert code == 1 and "command1: FAILED, exit code 1" in printed and "hello" in printed and "last" in printed
    (tmp_path / "mended").touch()
    code, printed = call(steps)
    assert code == 0 and "command0: done before" in printed and "FAILED" not in printed
    assert (tmp_path / "calls").read_text() == "x"
    with tarfile.open(tmp_path / "out" / "one.tar.xz") as archive:
        assert b"hello" in archive.extractfile("one/command0.log").read()


@pytest.fixture
def sleeper(tmp_path):
    """A program that sleeps for a minute, and what waits for its end and tells whether it had woken up."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    program = f"import time; pipe = open({str(path)!r}, 'w'); print('begun', flush=True); time.sleep(60); pipe.write('up')"

    def woke():
        os.set_blocking(pipe, True)
        return bool(os.read(pipe, 1))

    yield program, woke
    os.close(pipe)


def test_a_command_is_ended_in_time_with_all_that_it_started(run, call, tmp_path, sleeper):
    child, woke = sleeper
    program = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    code, printed = call({"long": step(run, program, "print('after')")}, "--minutes=0.04")
    assert code == run.AGAIN and "begun" in printed and "call this step again" in printed
    assert not woke() and not list((tmp_path / "work" / "done").rglob("command0"))


def test_a_call_that_is_ended_ends_what_it_has_started(tmp_path, sleeper):
    command, woke = sleeper
    program = f"""
import sys
sys.path.insert(0, {str(PROJECT / "tools" / "gpu_kit")!r})
import run

def sleeps(kit):
    "sleeps"
    yield run.Command("sleep", (sys.executable, "-c", {command!r}))

run.STEPS = {{"sleep": sleeps}}
sys.exit(run.main(["sleep", "--work={tmp_path}"]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    while "begun" not in process.stdout.readline():
        pass
    process.terminate()
    assert process.wait(timeout=30) == 75
    assert not woke()


def test_a_training_is_told_its_time_and_goes_on(run, call):
    """Until the exit code is 0; what follows it is done each time."""
    program = "import sys; print(sys.argv[1]); sys.exit(75)"
    code, printed = call({"train": step(run, program, trains=True)}, "--minutes=12")
    assert code == run.AGAIN and f"--config.training.minutes={12 - run.RESERVE / 60:.2f}" in printed
    code, printed = call({"export": step(run, "print('exported')", repeats=True)})
    assert (code, call({"export": step(run, "print('exported')", repeats=True)})[1].count("exported")) == (0, 1)


def test_large_results_come_in_pieces(run, call, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "MAX_RESULT", 1000)
    data = np.random.default_rng(0).bytes(2500)
    work = tmp_path / "work" / "results" / "big"
    work.mkdir(parents=True)
    (work / "weights").write_bytes(data)
    assert call({"big": step(run)})[0] == 0
    pieces = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in pieces] == ["big.tar.xz.00", "big.tar.xz.01", "big.tar.xz.02"]
    assert all(path.stat().st_size <= 1000 for path in pieces)
    (tmp_path / "whole.tar.xz").write_bytes(b"".join(path.read_bytes() for path in pieces))
    with tarfile.open(tmp_path / "whole.tar.xz") as archive:
        assert archive.extractfile("big/weights").read() == data


def test_unpacking_what_has_arrived(pack, run, call, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    pack.pack([part(pack, tmp_path / "a", "a.tar"), part(pack, tmp_path / "b", "b.tar.xz")], tmp_path, 10**6)
    shutil.move(tmp_path / "b.tar.xz", tmp_path / "later")
    steps = {"unpack": run._unpack}
    code, printed = call(steps)
    assert code == 0 and "a.tar: unpacked" in printed and "missing: b.tar.xz" in printed
    (tmp_path / "b.tar.xz").write_bytes(b"half")
    assert call(steps)[0] == 1
    shutil.move(tmp_path / "later", tmp_path / "b.tar.xz")
    code, printed = call(steps)
    assert code == 0 and "a.tar" not in printed and "all parts are unpacked" in printed
    assert sorted(path.name for path in (tmp_path / "work" / "files").iterdir()) == ["a", "b"]


def test_weights_that_are_larger_than_a_part_come_in_pieces(pack, run, call, tmp_path, monkeypatch):
    data = {name: np.random.default_rng(size).bytes(size) for name, size in (("small.bin", 9), ("large.dat", 250_000))}
    (tmp_path / "cache").mkdir()
    for name, content in data.items():
        (tmp_path / "cache" / name).write_bytes(content)
    monkeypatch.setattr(pack, "NEEDED_WEIGHTS", tuple(data))
    monkeypatch.setattr(pack, "weight_file", lambda name: tmp_path / "cache" / name)
    pack.pack(pack.weight_parts(100_000), tmp_path, 100_000)
    names = [f"large.{number}-of-3.tar.xz" for number in (1, 2, 3)]
    assert json.loads((tmp_path / "MANIFEST.json").read_text())["parts"].keys() == {"small.tar.xz", *names}
    shutil.move(tmp_path / names[1], tmp_path / "later")
    cache = tmp_path / "work" / "cache"
    assert call({"unpack": run._unpack})[0] == 0
    assert {path.name for path in cache.iterdir()} == {"small.bin", "large.dat.1-of-3", "large.dat.3-of-3"}
    shutil.move(tmp_path / "later", tmp_path / names[1])
    assert call({"unpack": run._unpack})[0] == 0
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == data


def test_wrong_requests_to_run(run, tmp_path, capsys):
    flags = [f"--parts={tmp_path}", f"--work={tmp_path / 'work'}"]
    assert run.main(["fly", *flags]) == 1 and "there is no step fly; choose among unpack, " in capsys.readouterr().err
    assert run.main(["unpack", *flags]) == 1 and "there is no MANIFEST.json" in capsys.readouterr().err
    for damaged in ("{", "[]", "{}"):
        (tmp_path / "MANIFEST.json").write_text(damaged)
        assert run.main(["unpack", *flags]) == 1 and "MANIFEST.json is damaged; send it again" in capsys.readouterr().err
    assert run.main(["install", *flags]) == 1 and "send wheels.tar and project.tar.xz" in capsys.readouterr().err
    assert run.main(["build", *flags]) == 1 and "send faces.tar.xz" in capsys.readouterr().err
    assert run.main(flags) == 0
    printed = capsys.readouterr().out
    assert all(f". {name}: " in printed for name in run.STEPS)


def test_it_needs_the_standard_library_alone():
    names = subprocess.run(
        [sys.executable, "-I", "-S", PROJECT / "tools" / "gpu_kit" / "run.py"], capture_output=True, text=True, check=True
    )
    assert "numerics" in names.stdout


# ---- all of it ----


def python_3_12():
    candidates = ["python3.12", *map(str, Path.home().glob(".pyenv/versions/3.12.*/bin/python3"))]
    # pyenv has a python3.12 of no use where another version is chosen.
    works = [
        path
        for path in candidates
        if shutil.which(path) and not subprocess.run([path, "-c", ""], capture_output=True).returncode
    ]
    return next(iter(works), None)


@pytest.mark.rehearsal
def test_rehearsal(load_tool, pack, tmp_path, capfd):
    """All from packing to the last step, on an empty machine without a network, for which the CPU plays the GPU."""
    if not python_3_12():
        pytest.skip("needs Python 3.12")
    python = tmp_path / "machine" / "bin" / "python"
    subprocess.run([python_3_12(), "-m", "venv", tmp_path / "machine"], check=True)
    versions = [line for line in (PROJECT / "constraints-py312.txt").read_text().splitlines() if not line.startswith("jax")]
    (tmp_path / "versions.txt").write_text("\n".join(versions))
    has = PROJECT / "tests" / "tools" / "gpu_machine.txt"
    pip = [python, "-m", "pip", "install", "--quiet", f"--requirement={has}", f"--constraint={tmp_path / 'versions.txt'}"]
    subprocess.run(pip, check=True)

    photos = tmp_path / "photos"
    landmarks = {}
    for number in range(80):  # Their names decide on splits: with these, each has some.
        face = render_face(number, seed=0, size=128)
        write_png(photos / f"{number:03}.png", face.image)
        landmarks[f"{number:03}.png"] = face.landmarks
    with kept_faces(tmp_path / "faces.jsonl") as keep:
        for photo in any_folder(epath.Path(photos)):
            keep(FoundFace(photo, landmarks[Path(photo.path).name], None))
    parts = tmp_path / "parts"
    pack.main([str(parts), f"--photos={photos}", f"--faces={tmp_path / 'faces.jsonl'}"])
    assert all(path.stat().st_size <= 60e6 for path in parts.iterdir())

    (tmp_path / "home").mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
    }
    # Where we may, without a network at all.
    offline = ["unshare", "--net"] if not subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode else []
    work, out = tmp_path / "work", tmp_path / "out"
    command = [*offline, python, parts / "run.py", "--small", "--minutes=30", f"--work={work}", f"--out={out}"]
    steps = load_tool("gpu_kit/run").STEPS
    for name in steps:
        done = subprocess.run([*command, name], env=environment, cwd=tmp_path / "home", stdout=subprocess.PIPE, text=True)
        with capfd.disabled():
            print("\n".join(line for line in done.stdout.splitlines() if line.startswith(("== ", "-- ")) or "passed" in line))
        assert done.returncode == 0, done.stdout[-5000:]
    assert {path.name for path in out.iterdir()} == {f"{name}.tar.xz" for name in steps if name != "unpack"}
    assert all(path.stat().st_size <= 16 * 2**20 for path in out.iterdir())
    names = []
    for path in out.iterdir():
        with tarfile.open(path) as archive:
            names += archive.getnames()
    assert {"numerics/default.xml", "default/unmask.safetensors", "default/default_model.json"} < set(names)
    assert {
        *("paper/proposed/scores.json", "paper/pix2pix/metrics.jsonl", "paper/figures/faces.png"),
        "default/default_model/metrics.jsonl",
        "profile/bfloat16/operations.json",
        "speed/128_pix2pix_float32_upsampling_phases.json",
    } < set(names)
    done = subprocess.run([*command, *steps], env=environment, cwd=tmp_path / "home", stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stdout.count("done before") >= 10
