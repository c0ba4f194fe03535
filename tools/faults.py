"""Makes faults on purpose, and tells what was lost.

    python tools/faults.py [all|kills|signals|disk|workdir|unmask|numbers|load ...] [--kills=50] [--out=FILE.json]

Each fault is made in programs as users start them (`maskgan ...`), in a temporary folder, with rendered faces. A table is
printed: what was done, how often, what was lost; the exit code is 1 if that is more than may be lost. `disk` and `workdir`
need Linux and root, who may mount small file systems. `load` builds and unmasks many photos and a video, and draws memory,
open files and speed over time:

    python tools/faults.py load --source=folder=FACES --photos=FACES --build=25000 --unmask=6000 --seconds=600 --figure=load.png
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import importlib.util
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from maskgan_jax.demo.run import masked_portrait
from maskgan_jax.errors import Unfinished, UserError, exit_code
from maskgan_jax.files import check_writable, find_images, replacing, write_json, write_png
from maskgan_jax.run_files import read_rows
from maskgan_jax.runtime.signals import sigterm_interrupts
from maskgan_jax.storage import steps_in

# A training whose steps take tenths of a second, so that most of the kills are not at its start.
TINY = [
    "--config=default",
    *(
        f"--config.{setting}"
        for setting in (
            "data.size=64",
            "input.batch_size=4",
            "input.threads=1",
            "input.prefetch=4",
            "generator.width=4",
            "discriminator.width=4",
            "losses.contour=0.0",
            "training.log_every=1",
            "training.validate_every=10",
            "training.pictures=1",
        )
    ),
]
INTERVAL = 5  # Steps between checkpoints.
PATIENCE = 600  # Seconds that a program may take to do what is waited for.


class Row(NamedTuple):
    """One line of the table: the fault, how often it was made, what was lost, and whether that may be."""

    fault: str
    times: int
    lost: str
    fine: bool


def command(*arguments: object) -> list[str]:
    """The command line of `maskgan`."""
    return [sys.executable, "-m", "maskgan_jax", *map(str, arguments)]


def maskgan(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Runs `maskgan` to its end."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)


def must(*arguments: object) -> None:
    """Runs `maskgan`, which must succeed."""
    done = maskgan(*arguments)
    if done.returncode:
        raise UserError(f"maskgan {arguments[0]} failed, without any fault made: {error_of(done)}")


def error_of(done: subprocess.CompletedProcess) -> str:
    """The last line on standard error."""
    return done.stderr.replace("\r", "\n").strip().rpartition("\n")[2]


def is_clear(done: subprocess.CompletedProcess) -> bool:
    """Whether a program failed with one sentence for its user."""
    return done.returncode == 1 and re.search(r"maskgan \w+: error: ", error_of(done)) and "Traceback" not in done.stderr


def unclear(done: subprocess.CompletedProcess, when: str = "") -> list[str]:
    """What is wrong with a program that should have failed so: nothing, or its last line."""
    return [] if is_clear(done) else [f"no clear message{when}: {error_of(done)}"]


def data_set(work: Path, size: int = 64) -> Path:
    """A data set of 40 rendered faces, made once."""
    folder = work / f"data{size}"
    if not folder.exists():
        must("build", "--source=rendered=40", f"--config.data.size={size}", f"--data_dir={folder}", "--workers=1")
    return folder


def training(work: Path, workdir: Path, steps: int, *more: str) -> list[str]:
    """The arguments of a tiny training."""
    given = [f"--data_dir={data_set(work)}", f"--workdir={workdir}", f"--config.training.steps={steps}"]
    return ["train", *TINY, f"--config.training.checkpoint_every={INTERVAL}", *given, *more]


def undisturbed(work: Path, steps: int) -> Path:
    """The workdir of a tiny training of so many steps to which nothing happens."""
    workdir = work / f"undisturbed{steps}"
    if not workdir.exists():
        must(*training(work, workdir, steps))
    return workdir


def same_state(workdir: Path, other: Path) -> bool:
    """Whether two runs ended with the same bytes: parameters, optimizer, everything."""
    import jax

    from maskgan_jax.networks.run_checkpoints import latest, read_tree

    last = [latest(folder / "checkpoints") for folder in (workdir, other)]
    if None in last:
        return False
    states = [read_tree(checkpoint / "state") for checkpoint in last]
    return jax.tree.all(jax.tree.map(np.array_equal, *states))


def other_bytes(workdir: Path, other: Path) -> list[str]:
    """What is wrong with a run that should have ended as an undisturbed one: nothing, or that it has not."""
    return [] if same_state(workdir, other) else ["other bytes than of an undisturbed run"]


def last_step(workdir: Path) -> int:
    """The last step whose numbers are written; 0 if none is."""
    return max((row["step"] for row in read_rows(workdir)), default=0)


def wait_until(happened: Callable[[], object], process: subprocess.Popen) -> None:
    """Waits until something has happened or a process has ended."""
    end = time.monotonic() + PATIENCE
    while not happened() and process.poll() is None:
        if time.monotonic() > end:
            raise UserError(f"nothing has happened for {PATIENCE} s; is the machine too busy?")
        time.sleep(0.002)


@contextlib.contextmanager
def started(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen]:
    """A `maskgan` at work, which does not outlive the block."""
    with log.open("a") as file, subprocess.Popen(command(*arguments), stdout=file, stderr=file) as process:
        try:
            yield process
        except subprocess.TimeoutExpired as error:
            raise UserError(f"`maskgan {arguments[0]}` has not ended within {PATIENCE} s; is the machine too busy?") from error
        finally:
            process.kill()


def ended(process: subprocess.Popen, log: Path) -> subprocess.CompletedProcess:
    """A process that is `started`, when it has ended; its log is all that it printed."""
    return subprocess.CompletedProcess(process.args, process.wait(PATIENCE), "", log.read_text())


# ---- preemption ----


def kills(work: Path, flags: argparse.Namespace) -> Iterator[Row]:
    """Kills a training again and again: while it starts, trains, and writes checkpoints."""
    rng, steps = random.Random(flags.seed), 200
    expected = undisturbed(work, steps)
    workdir, log = work / "killed", work / "killed.log"
    arguments = training(work, workdir, steps)
    done = dict.fromkeys(("at its start", "between steps", "while a checkpoint was written"), 0)
    most_lost, runs, same, newest = 0, 0, True, True
    complete = 0
    while sum(done.values()) < flags.kills:
        at, before = rng.choice(list(done)), len(starts(workdir))
        with started(arguments, log) as process:
            if at == "at its start":
                time.sleep(rng.uniform(0, 6))
            elif at == "between steps":
                wait_until(lambda count=before: len(starts(workdir)) > count, process)
                time.sleep(rng.uniform(0, 1.5))
            else:
                old = unfinished(workdir)
                wait_until(lambda old=old: unfinished(workdir) - old, process)
                time.sleep(rng.uniform(0, 0.02))
            process.kill()
            killed = process.wait() == -signal.SIGKILL
        if len(starts(workdir)) > before:  # It made a step: after the newest checkpoint that was whole at the kill before?
            newest &= starts(workdir)[-1]["from_step"] == complete
        if killed:
            done[at] += 1
        else:
            runs, same = runs + 1, same and process.returncode == 0 and same_state(workdir, expected)
            shutil.rmtree(workdir)
        complete = max(steps_in(workdir / "checkpoints"), default=0)
        most_lost = max(most_lost, last_step(workdir) - complete)
    must(*arguments)
    same &= same_state(workdir, expected)
    damaged = log.read_text().count("is damaged")
    lost = (
        f"at most {most_lost} steps at once, with a checkpoint every {INTERVAL}; went on from the newest whole checkpoint: "
        f"{'always' if newest else 'NOT always'}; {damaged} unreadable ones; {runs + 1} x {steps} steps ended with "
        f"{'the bytes' if same else 'OTHER bytes than those'} of an undisturbed one"
    )
    how = ", ".join(f"{count} {when}" for when, count in done.items())
    fine = same and newest and not damaged and most_lost <= INTERVAL
    yield Row(f"SIGKILL to `maskgan train` ({how})", flags.kills, lost, fine)


def starts(workdir: Path) -> list[dict]:
    """The starts of a run that have written a line, as `wall_time.json` has them."""
    try:
        return json.loads((workdir / "wall_time.json").read_text())["starts"]
    except OSError:
        return []


def unfinished(workdir: Path) -> set[Path]:
    """Checkpoints that are being written, or were when the run was killed."""
    return {path for folder in ("checkpoints", "best") for path in (workdir / folder).glob("*tmp*")}


def signals(work: Path, flags: argparse.Namespace) -> Iterator[Row]:
    """Tells a training to stop again and again, and starts it again as a supervisor does."""
    rng, steps = random.Random(flags.seed), 60
    workdir, log = work / "stopped", work / "stopped.log"
    codes, seconds = [], []
    while not codes or codes[-1] == Unfinished.exit_code:
        number = (signal.SIGTERM, signal.SIGUSR1)[len(codes) % 2]
        before = len(starts(workdir))
        with started(training(work, workdir, steps), log) as process:
            if len(codes) == 1:
                time.sleep(8)  # It compiles, or loads what was compiled.
            elif len(codes) < 6:
                wait_until(lambda count=before: len(starts(workdir)) > count, process)
                time.sleep(rng.uniform(0, 0.7))
            if len(codes) < 6 and process.poll() is None:
                seconds.append(_stopped_in(process, number))
            codes.append(process.wait())
    same = same_state(workdir, undisturbed(work, steps))
    told = " and ".join(map(str, sorted(set(codes))))
    lost = f"nothing: exit codes {told}, within {max(seconds, default=0):.1f} s; the bytes are {'' if same else 'NOT '}the same"
    yield Row(
        "SIGTERM and SIGUSR1 in turn; started again", len(seconds), lost, same and set(codes) == {0, Unfinished.exit_code}
    )

    for when in ("while it compiles", "between steps", "while it validates"):
        workdir = work / f"cpu {when}"
        arguments = ["train", "--config=cpu", f"--data_dir={data_set(work, 128)}", f"--workdir={workdir}"]
        every = ["--config.training.log_every=1", *(f"--config.training.{what}_every=4" for what in ("checkpoint", "validate"))]
        arguments += ["--config.losses.contour=0.0", *every]
        # Without the programs that earlier runs have compiled.
        with mock.patch.dict(os.environ, JAX_ENABLE_COMPILATION_CACHE="false"), started(arguments, log) as process:
            wait_until((workdir / "config.json").exists, process)
            time.sleep(3)
            if when == "between steps":
                wait_until(lambda folder=workdir: last_step(folder) >= 2, process)
            elif when == "while it validates":  # It compiles that first, for longer than a second.
                wait_until(lambda folder=workdir: steps_in(folder / "checkpoints") == [4], process)
                time.sleep(1)
            took, done = _stopped_in(process, signal.SIGTERM), last_step(workdir)
        saved = max(steps_in(workdir / "checkpoints"), default=0)
        is_validated = any(row["phase"] == "validation" for row in read_rows(workdir))
        fine = process.returncode == Unfinished.exit_code and took < 30 and saved == done and not is_validated
        lost = f"{done - saved} of {done} steps; exit code {process.returncode} after {took:.1f} s"
        yield Row(f"SIGTERM to a run of configs/cpu.py, {when}", 1, lost, fine)


def _stopped_in(process: subprocess.Popen, number: int) -> float:
    """The seconds a process takes to end after a signal."""
    begun = time.monotonic()
    process.send_signal(number)
    process.wait(PATIENCE)
    return time.monotonic() - begun


# ---- disks and folders ----


@contextlib.contextmanager
def small_disk(work: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own of that size."""
    folder = Path(tempfile.mkdtemp(dir=work))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        raise UserError(f"cannot mount a small file system ({mounted.stderr.strip()}); run this as root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def full(disk: Path, left: int) -> Iterator[None]:
    """Leaves so many bytes on a disk during the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        remaining = shutil.disk_usage(disk).free - left
        while remaining > 0:
            remaining -= file.write(bytes(min(remaining, 1 << 16)))
    try:
        yield
    finally:
        ballast.unlink()


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "ballast")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def row_of(fault: str, times: int, wrong: Sequence[str]) -> Row:
    """A line of the table for a fault after which nothing may be lost; `wrong` says what was."""
    return Row(fault, times, "; ".join(wrong) or "nothing; one clear message; resumed afterwards", not wrong)


def repeated_on_full_disk(
    disk: Path, first: Sequence[object], again: Sequence[object], lefts: Sequence[int]
) -> tuple[int, list[str]]:
    """Runs a command, then another on a disk with so few bytes left, where it must change nothing, and with space again.

    Returns:
      How often the disk was full, and what was wrong with that.
    """
    must(*first)
    before, wrong = contents(disk), []
    for left in lefts:
        with full(disk, left):
            wrong += unclear(maskgan(*again), f" with {left} bytes left")
            wrong += [f"files changed with {left} bytes left"] if contents(disk) != before else []
    if (done := maskgan(*again)).returncode:
        wrong.append(f"with space again: {error_of(done)}")
    return len(lefts), wrong


def disk(work: Path, flags: argparse.Namespace) -> Iterator[Row]:
    """Fills a disk before and while programs write to it."""
    with small_disk(work, 64) as place:
        build = ["build", "--config.data.size=64", "--source=rendered=16", "--workers=1", f"--data_dir={place / 'data'}"]
        count, wrong = repeated_on_full_disk(place, build, [*build, "--overwrite"], (0, 9000, 60000))
        yield row_of("full disk, `maskgan build --overwrite`", count, wrong)

    with small_disk(work, 64) as place:
        yield row_of("disk fills up, `maskgan train`", *_training_fills_disk(work, place))

    network = undisturbed(work, 60)
    wrong, times = [], 0
    for form in ("safetensors", "stablehlo", "onnx", "pytorch", "orbax"):
        with small_disk(work, 64) as place:
            export = ["export", f"--workdir={network}", f"--format={form}"]
            outs = ("net", "other") if form == "orbax" else ("net", "net")
            count, found = repeated_on_full_disk(place, *([*export, f"--out={place / out}"] for out in outs), (20000,))
            times, wrong = times + count, wrong + [f"{form}: {what}" for what in found]
    yield row_of("full disk, `maskgan export`, 5 formats", times, wrong)

    for name in ("photo.png", "clip.mp4"):
        with small_disk(work, 64) as place:
            unmask = ["unmask", _masked(work) / name, f"--out={place / 'out'}"]
            count, wrong = repeated_on_full_disk(place, unmask, [*unmask, "--overwrite"], (0, 9000))
            yield row_of(f"full disk, `maskgan unmask --overwrite {name}`", count, wrong)

    with small_disk(work, 16) as place:
        simulate = ["study", "simulate", "--raters=5", "--faces=60"]
        first, again = ([*simulate, f"--db={place / name}"] for name in ("a.db", "b.db"))
        count, wrong = repeated_on_full_disk(place, first, again, (0, 9000))
        yield row_of("full disk, `maskgan study simulate`", count, wrong)
        from maskgan_jax.study.database import Database

        study = Database(place / "a.db")
        before, wrong = study.answers(), []
        with full(place, 0):
            try:
                study.join("key", "late")
                wrong.append("a rater joined")
            except UserError:
                pass
        if study.join("key", "late") != "late" or study.answers() != before:
            wrong.append("with space again")
        yield row_of("full disk, a rater joins a study", 1, wrong)


def _training_fills_disk(work: Path, place: Path) -> tuple[int, list[str]]:
    steps, workdir, wrong = 60, place / "run", []
    arguments = training(work, workdir, steps, "--config.training.keep=20")
    lefts = (0, 5000, 500_000)
    for number, left in enumerate(lefts):
        log = place.parent / f"full{number}.log"
        count = len(starts(workdir))
        with started(arguments, log) as process:
            wait_until(lambda count=count: len(starts(workdir)) > count, process)
            with full(place, left):
                whole = {name: digest for name, digest in contents(workdir).items() if _is_whole(name)}
                wrong += unclear(ended(process, log), f" with {left} bytes left")
                if not whole.items() <= contents(workdir).items():
                    wrong.append(f"checkpoints changed with {left} bytes left")
                # On the disk that is full still.
                wrong += unclear(maskgan(*arguments), f" when started again with {left} bytes left")
    must(*arguments)
    return len(lefts), wrong + other_bytes(workdir, undisturbed(work, steps))


def _is_whole(name: str) -> bool:
    return name.startswith("checkpoints/") and name.split("/")[1].isdigit()


def workdir(work: Path, flags: argparse.Namespace) -> Iterator[Row]:
    """Takes from a training what it needs: its folder, its data, the time, its config."""
    steps, expected = 60, undisturbed(work, 60)
    with small_disk(work, 64) as place:
        shutil.copytree(expected, place / "run")
        before = contents(place)
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        arguments = training(work, place / "run", steps + 5)
        wrong = unclear(maskgan(*arguments))
        wrong += ["files changed"] if contents(place) != before else []
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        must(*arguments)
        yield row_of("read-only workdir", 1, wrong)

    run, log, moved = work / "vanishing", work / "vanishing.log", work / "moved"
    data = shutil.copytree(data_set(work), work / "copy")
    arguments = [*training(work, run, steps), f"--data_dir={data}"]
    with started(arguments, log) as process:
        wait_until(lambda: starts(run), process)
        data.rename(moved)
        emptied = [path for path in moved.rglob("*") if "array_record" in path.name]
        for path in emptied:
            os.truncate(path, 0)  # Its open files vanish, too, as those of a server that is gone.
        wrong = unclear(ended(process, log))
    wrong += unclear(maskgan(*arguments), " when started again")
    shutil.copytree(data_set(work), data)
    must(*arguments)
    yield row_of("data set vanishes while a training reads it", 1, wrong + other_bytes(run, expected))

    run = work / "shared"
    arguments = training(work, run, steps)
    with started(arguments, log) as process:
        wait_until(lambda: starts(run), process)
        done = maskgan(*arguments)
        wrong = [] if is_clear(done) and "another run is at work" in done.stderr else [f"the second one: {error_of(done)}"]
        process.wait(PATIENCE)
    yield row_of("two training runs in one workdir", 1, wrong + other_bytes(run, expected))

    run = work / "clock"
    with_jumps = [sys.executable, "-c", JUMPING_CLOCK, *training(work, run, steps)]
    try:
        done = subprocess.run(with_jumps, capture_output=True, text=True, timeout=PATIENCE)
        wrong = [] if done.returncode == 0 and same_state(run, expected) else [error_of(done) or "other bytes"]
    except subprocess.TimeoutExpired:
        wrong = [f"it was still at work after {PATIENCE} s"]
    lost = "; ".join(wrong) or "nothing; the bytes of an undisturbed run"
    yield Row("Python's clock jumps a day ahead and back, ten times a second", 1, lost, not wrong)

    run = work / "changed"
    arguments = training(work, run, steps, "--config.training.keep=2")
    must(*arguments)
    largest = max((run / "checkpoints" / str(steps) / "state").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(255 - byte for byte in data[middle : middle + 64])
    largest.write_bytes(data)
    done = maskgan(*arguments)
    is_told = done.returncode == 0 and f"the checkpoint of step {steps} is damaged" in done.stdout
    wrong = [] if is_told else [f"it was not noticed: {error_of(done)}"]
    wrong += other_bytes(run, expected)
    lost = "; ".join(wrong) or f"{INTERVAL} steps, from the checkpoint before it; the bytes of an undisturbed run"
    yield Row("64 bytes in the middle of the newest checkpoint changed", 1, lost, not wrong)

    run, wrong = shutil.copytree(expected, work / "older"), []
    config = json.loads((run / "config.json").read_text())
    config["generator"] |= {"dropout": 0.25, "spectral": True}
    del config["training"]["not_finite"]
    (run / "config.json").write_text(json.dumps(config))
    before = contents(run)
    done = maskgan(*training(work, run, steps + 5))
    if not (is_clear(done) and "generator.spectral True" in error_of(done)):
        wrong.append(f"generator.spectral is not named: {error_of(done)}")
    wrong += ["files changed"] if contents(run) != before else []
    del config["generator"]["spectral"]
    (run / "config.json").write_text(json.dumps(config))
    done = maskgan(*training(work, run, steps + 5))
    if not (is_clear(done) and "generator.dropout 0.25 (now 0.5)" in error_of(done)):
        wrong.append(f"generator.dropout is not named: {error_of(done)}")
    config["generator"]["dropout"] = 0.5
    (run / "config.json").write_text(json.dumps(config))
    must(*training(work, run, steps + 5))
    yield row_of("workdir of another version: a setting that is new, one that is gone, one that differs", 1, wrong)


# A day ahead and back, ten times a second: in each checkpoint that is written, too.
JUMPING_CLOCK = """
import sys, time

now = time.time
time.time = lambda: now() + 86400 * (int(time.monotonic() * 20) % 2)
from maskgan_jax.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


def _masked(work: Path) -> Path:
    """A folder with a photo and a short video of somebody with a mask."""
    folder = work / "masked"
    if not folder.exists():
        image = masked_portrait().image
        write_png(folder / "photo.png", image)
        write_video(folder / "clip.mp4", itertools.repeat(image, 10))
    return folder


def write_video(path: Path, images: Iterable[np.ndarray], rate: int = 25) -> None:
    """Writes images of one size, of even sides, as a video."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate, options={"preset": "ultrafast"})
        for number, image in enumerate(images):
            if not number:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())


def unmask(work: Path, flags: argparse.Namespace) -> Iterator[Row]:
    """Starts two programs on one folder, and one that must fail."""
    photos, out, wrong = _linked([_masked(work) / "photo.png"], 8, work / "photos"), work / "out", []
    arguments = ["unmask", *sorted(photos.iterdir()), f"--out={out}"]
    logs = [work / f"both{number}.log" for number in range(2)]
    with started(arguments, logs[0]) as one, started(arguments, logs[1]) as other:
        codes = {one.wait(PATIENCE), other.wait(PATIENCE)}
    names = {path.name for path in photos.iterdir()}
    if {path.name for path in out.iterdir()} != names | {f"{name}.json" for name in names}:
        wrong.append("not one result of each photo")
    told = "".join(log.read_text() for log in logs)
    if told.count("1 mask removed") != len(names) or told.count("is there already") < len(names) or 1 not in codes:
        wrong.append(f"results were replaced, or nobody was told: {told[-300:]}")
    yield row_of("two `maskgan unmask` of the same photos into one folder", 1, wrong)

    (work / "empty.jpg").touch()
    wrong = unclear(maskgan("unmask", work / "empty.jpg", f"--out={work / 'never'}"))
    wrong += ["the empty folder is left"] if (work / "never").exists() else []
    yield row_of("`maskgan unmask` that fails, into a new folder", 1, wrong)


# ---- numbers ----


def numbers(work: Path, flags: argparse.Namespace) -> Iterator[Row]:
    """Makes numbers overflow; and the same bytes twice."""
    run = work / "overflow"
    overflows = ["--config.optimizer.learning_rate=1e30"]
    done = maskgan(*training(work, run, 60, *overflows))
    wrong = unclear(done)
    for what in (r"at step \d+ '.* became (nan|inf)", r"first in the layer \w+/", "for record"):
        wrong += [] if re.search(what, done.stderr) else [f"the message has no {what}: {error_of(done)}"]
    wrong += ["something was saved"] if steps_in(run / "checkpoints") else []
    yield Row("a learning rate of 1e30", 1, "; ".join(wrong) or "nothing: stops, names term, layer and records", not wrong)

    run = work / "again"
    must(*training(work, run, 60))
    same = same_state(run, undisturbed(work, 60))
    builds = [work / "data64", work / "data64 again"]
    must("build", "--config.data.size=64", "--source=rendered=40", f"--data_dir={builds[1]}", "--workers=2")
    from maskgan_jax.data.masked_faces.reader import digest_of

    same_data = digest_of(builds[0]) == digest_of(builds[1])
    lost = "the same bytes" if same and same_data else f"the same bytes: training {same}, data {same_data}"
    yield Row("the same seed on the same machine, built and trained twice", 2, lost, same and same_data)


# ---- load ----


class Sample(NamedTuple):
    """What a program and its children have at one moment: seconds since the start, memory, CPU time, open files, progress."""

    seconds: float
    megabytes: float
    cpu: float
    files: int
    bar: str
    done: int


def sampled(arguments: Sequence[object], log: Path) -> list[Sample]:
    """Runs `maskgan` and looks at it every second; its progress is that of the bar that it shows."""
    samples, begun = [], time.monotonic()
    with started(list(map(str, arguments)), log) as process:
        while process.poll() is None:
            time.sleep(1)
            bars = re.findall(r"([\w. ]+):\s+\d+%\|[^|]*\| (\d+)/\d+ \[", log.read_text(errors="replace"))
            megabytes, cpu, files = map(sum, zip(*map(_held, _tree(process.pid)), strict=True))
            if bars and files:
                samples.append(Sample(time.monotonic() - begun, megabytes, cpu, files, bars[-1][0], int(bars[-1][1])))
    if process.returncode not in (0, 1):  # 1: some photos have no face.
        raise UserError(f"maskgan {arguments[0]} ended with {process.returncode}; see {log}")
    return samples


def _tree(process: int) -> Iterator[int]:
    yield process
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from _tree(int(child))


def _held(process: int) -> tuple[float, float, int]:
    try:
        # CPU time of the process and of its ended children: fields 14 to 17. Field 2, the name, may contain spaces.
        ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]
        cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, cpu, len(os.listdir(f"/proc/{process}/fd"))
    except OSError:  # It has ended.
        return 0.0, 0.0, 0


def judged(fault: str, count: int, samples: Sequence[Sample]) -> Row:
    """Compares the second quarter of what the longest bar counts with the last one."""
    bars = collections.Counter(sample.bar for sample in samples)
    of_bar = [sample for sample in samples if sample.bar == max(bars, key=bars.get)]
    quarters = [4 * sample.done / max(1, of_bar[-1].done) for sample in of_bar]
    early, late = ([s for s, at in zip(of_bar, quarters, strict=True) if end - 1 <= at <= end] for end in (2, 4))
    if min(len(early), len(late)) < 2:
        raise UserError(f"{fault} took too short to be judged; give more photos or seconds")
    memory, files = ([np.median([getattr(s, name) for s in part]) for part in (early, late)] for name in ("megabytes", "files"))
    rates = [(part[-1].done - part[0].done) / (part[-1].seconds - part[0].seconds) for part in (early, late)]
    costs = [(part[-1].cpu - part[0].cpu) / max(1, part[-1].done - part[0].done) for part in (early, late)]
    told = f"memory {memory[0]:.0f} → {memory[1]:.0f} MB, open files {files[0]:.0f} → {files[1]:.0f}, "
    told += f"{rates[0]:.2f} → {rates[1]:.2f} per second, {costs[0]:.3f} → {costs[1]:.3f} CPU seconds each"
    fine = memory[1] < 1.1 * memory[0] and files[1] <= files[0] + 5 and rates[1] > 0.8 * rates[0]
    return Row(fault, count, told, bool(fine))


def load(work: Path, flags: argparse.Namespace) -> Iterator[Row]:
    """Builds and unmasks much, and draws what that takes over time."""
    runs = {}
    source = f"rendered={flags.build}"
    if flags.source:
        kind, _, folder = flags.source.partition("=")
        source = f"{kind}={_linked(find_images(folder), flags.build, work / 'to build')}"
    given = find_images(flags.photos) if flags.photos else [_masked(work) / "photo.png"]
    build = ["build", "--config=default_model", f"--source={source}", f"--data_dir={work / 'load'}"]
    runs[f"build, {flags.build} photos"] = flags.build, sampled(build, work / "build.log")

    unmask = ["unmask", _linked(given, flags.unmask, work / "to unmask"), f"--out={work / 'unmasked'}"]
    runs[f"unmask, {flags.unmask} photos"] = flags.unmask, sampled(unmask, work / "photos.log")

    frames = 25 * flags.seconds
    image = np.pad(masked_portrait().image, ((0, 0), (64, 64), (0, 0)), mode="edge")
    write_video(work / "long.mp4", (np.roll(image, round(40 * np.sin(frame / 25)), axis=1) for frame in range(frames)))
    unmask = ["unmask", work / "long.mp4", f"--out={work / 'unmasked video'}"]
    runs[f"unmask, a video of {flags.seconds} s"] = frames, sampled(unmask, work / "video.log")
    if flags.figure:
        draw(flags.figure, {name: samples for name, (_, samples) in runs.items()})
    for name, (count, samples) in runs.items():
        yield judged(name, count, samples)


def _linked(photos: Sequence[Path], count: int, folder: Path) -> Path:
    """A folder of so many photos, evenly chosen, under numbers; if there are fewer, each comes several times."""
    folder.mkdir()
    for number in range(count):
        photo = photos[number * len(photos) // count if count < len(photos) else number % len(photos)].absolute()
        (folder / f"{number:06}{photo.suffix}").symlink_to(photo)
    return folder


def draw(path: Path, runs: Mapping[str, Sequence[Sample]]) -> None:
    """Draws memory, open files and progress of programs over time, a row for each."""
    from matplotlib.figure import Figure

    figure = Figure((12, 3 * len(runs)), layout="constrained")
    for row, (name, samples) in zip(figure.subplots(len(runs), 3, squeeze=False), runs.items(), strict=True):
        seconds = [sample.seconds for sample in samples]
        for axes, what in zip(row, ("megabytes", "files", "done"), strict=True):
            axes.plot(seconds, [getattr(sample, what) for sample in samples])
            axes.set(title=f"{name}: {'open files' if what == 'files' else what}", xlabel="seconds")
            axes.set_ylim(bottom=0)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


FAULTS = {function.__name__: function for function in (kills, signals, disk, workdir, unmask, numbers, load)}


def check(flags: argparse.Namespace) -> None:
    """Raises UserError for what would otherwise be told hours later: wrong flags, packages that are missing."""
    if flags.folder and not Path(flags.folder).is_dir():
        raise UserError(f"--folder={flags.folder} is not a folder; give one that is there")
    if flags.source and not flags.source.partition("=")[2]:
        raise UserError(f"--source={flags.source} names no folder; give KIND=FOLDER")
    for photos in filter(None, (flags.photos, flags.source and flags.source.partition("=")[2])):
        find_images(photos)
    if min(flags.kills, flags.build, flags.unmask, flags.seconds) < 1:
        raise UserError("--kills, --build, --unmask and --seconds are at least 1")
    needed = [("av", "video")] if {"all", "disk", "unmask", "load"} & set(flags.faults) else []
    needed += [("matplotlib", "study")] if flags.figure else []
    for package, extra in needed:
        if not importlib.util.find_spec(package):
            raise UserError(f"this needs {package}: pip install 'maskgan_jax[{extra}]'")
    for path in filter(None, (flags.out, flags.figure)):
        check_writable(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags, makes the faults, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="+", choices=["all", *FAULTS], metavar="FAULT", help=f"all, or of {', '.join(FAULTS)}")
    parser.add_argument("--kills", type=int, default=50, help="of a training (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    parser.add_argument("--source", metavar="KIND=FOLDER", help="load: photos to build from; default: rendered faces")
    parser.add_argument("--photos", metavar="FOLDER", help="load: photos to unmask; default: a portrait with a mask")
    parser.add_argument("--build", type=int, default=25000, help="load: photos to build from (default: 25000)")
    parser.add_argument("--unmask", type=int, default=6000, help="load: photos to unmask (default: 6000)")
    parser.add_argument("--seconds", type=int, default=600, help="load: length of the video (default: 600)")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="load: where memory, files and progress are drawn")
    parser.add_argument("--folder", metavar="DIR", help="for temporary files; default: the system's")
    parser.add_argument("--out", metavar="FILE.json", help="also write the table here")
    flags = parser.parse_args(arguments)
    check(flags)
    rows = []
    print("| fault | times | lost |\n|---|--:|---|", flush=True)
    # The small file systems go, too, if it is ended.
    with sigterm_interrupts(), tempfile.TemporaryDirectory(dir=flags.folder, prefix="faults-") as folder:
        for name in FAULTS if "all" in flags.faults else dict.fromkeys(flags.faults):
            for row in FAULTS[name](Path(folder), flags):
                print(f"| {row.fault} | {row.times} | {'' if row.fine else '**TOO MUCH**: '}{row.lost} |", flush=True)
                rows.append(row)
                if flags.out:
                    write_json(flags.out, [row._asdict() for row in rows])
    return 0 if all(row.fine for row in rows) else 1


if __name__ == "__main__":
    sys.exit(exit_code("faults", main))
