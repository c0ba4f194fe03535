"""Unpacks what pack.py made, installs it without a network, and runs steps that go on where they ended.

python3 run.py                          # lists the steps
python3 run.py unpack install numerics  # runs some, one after the other

It needs Python's standard library alone. The exit code is 0 when all steps are done, 75 when the time was over (call it
again), and 1 when something failed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

AGAIN = 75  # sysexits' "try again later", as of `maskgan train` when its minutes are over.
MAX_RESULT = 16 * 2**20
# Seconds kept for what follows a training in its step: the last checkpoint, evaluation, export.
RESERVE = 120.0
ARITHMETIC = ("bfloat16", "tf32", "float32")
BATCHES = (64, 16, 256, 1)  # In order of worth.
# For many cores.
FAST_INPUT = ("--config.input.processes=12", "--config.input.prefetch=512")
# The paper's experiment at its size, for 20 of its 300 epochs.
PAPER_SIZE = (
    *("--config.data.size=256", "--config.generator.width=64", "--config.discriminator.width=64"),
    *("--config.optimizer.learning_rate=2e-4", "--config.training.epochs=20.0", "--config.training.compute=bfloat16"),
)
# What other systems need comes first, then the systems in order of worth.
PAPER_RUNS = ("landmarks", "proposed", "pix2pix", "map", "yi", "input", "telea", "navier_stokes")
# What a rehearsal makes small.
SMALL_DATA = ("--config.data.size=128",)  # The least that the landmark network takes.
SMALL_PAPER = (
    *SMALL_DATA,
    '--config.data.splits={"train": {"*": 0.6}, "validation": {"*": 0.2}, "test": {"*": 0.2}}',
    *("--config.generator.width=4", "--config.discriminator.width=4", "--config.training.epochs=1.0"),
)
SMALL_NETWORKS = (
    *("--config.generator.width=4", "--config.discriminator.width=4", "--config.input.batch_size=2"),
    *("--config.input.processes=0", "--config.training.steps=4", "--config.training.validate_every=4"),
)


@dataclasses.dataclass(frozen=True)
class Command:
    """One command of a step.

    Attributes:
      name: of its mark and its log.
      arguments: the command.
      leaves: seconds of the time that is left which it may not use: they are for what follows it.
      trains: it is a training, which is told the time that is left, and ends with `AGAIN` when that is over.
      repeats: it is run whenever the step is, as it reads what others wrote.
    """

    name: str
    arguments: tuple[str, ...]
    leaves: float = 0.0
    trains: bool = False
    repeats: bool = False


@dataclasses.dataclass(frozen=True)
class Kit:
    """Where everything is.

    Attributes:
      parts: the folder with MANIFEST.json.
      work: the folder that everything is unpacked and made in.
      out: the folder for archives of results.
      small: a rehearsal, on the CPU.
    """

    parts: Path
    work: Path
    out: Path
    small: bool

    @property
    def project(self) -> Path:
        """The unpacked project."""
        return self.work / "project"

    def results(self, step: str) -> Path:
        """The folder for what a step leaves, which goes into an archive."""
        folder = self.work / "results" / step
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def mark(self, step: str, command: str) -> Path:
        """The file that says that a command is done."""
        return self.work / "done" / step / command

    def environment(self) -> dict[str, str]:
        """The environment variables of the commands."""
        settings = {
            "PYTHONPATH": str(self.work / "site"),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "MASKGAN_CACHE": str(self.work / "cache"),
            "PIP_NO_INDEX": "1",
            "TQDM_MININTERVAL": "10",
            # Without it, the tests would turn the compiler's optimization off.
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        }
        if self.small:
            quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
            settings |= {"JAX_PLATFORMS": "cpu", "MASKGAN_ACCELERATOR": "cpu", "XLA_FLAGS": quick}
        return {**os.environ, **settings}


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags, runs the steps; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="steps:\n" + "\n".join(f"  {n}. {name}: {step.__doc__}" for n, (name, step) in enumerate(STEPS.items())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="names of steps")
    parser.add_argument("--parts", type=Path, default=Path(__file__).parent, metavar="DIR", help="default: beside run.py")
    parser.add_argument("--work", type=Path, default=Path("/tmp/maskgan_gpu"), metavar="DIR", help="default: /tmp/maskgan_gpu")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="for results; default: $OUT, else WORK/out")
    parser.add_argument("--minutes", type=float, default=9.0, metavar="M", help="for all steps of this call (default: 9)")
    parser.add_argument("--small", action="store_true", help="a rehearsal: small networks and images, on the CPU")
    flags = parser.parse_args(arguments)
    if unknown := [name for name in flags.steps if name not in STEPS]:
        print(f"run: error: there is no step {unknown[0]}; choose among {', '.join(STEPS)}", file=sys.stderr)
        return 1
    out = flags.out or Path(os.environ.get("OUT") or flags.work / "out")
    kit = Kit(*(path.resolve() for path in (flags.parts, flags.work, out)), flags.small)
    if not flags.steps:
        parser.print_help()
    deadline = time.monotonic() + 60 * flags.minutes
    # Nothing that was started goes on without this program.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(AGAIN))
    try:
        codes = [_reported(name, kit, deadline) for name in flags.steps]
    finally:
        signal.signal(signal.SIGTERM, before)
    return max(codes, key=(0, AGAIN, 1).index, default=0)


def _reported(step: str, kit: Kit, deadline: float) -> int:
    print(f"== {step}: {STEPS[step].__doc__}", flush=True)
    started = time.monotonic()
    try:
        return run_step(step, kit, deadline)
    except (OSError, ValueError, KeyError) as error:
        print(f"run: error: {step}: {error}", file=sys.stderr)
        return 1
    finally:
        print(f"== {step}: {time.monotonic() - started:.0f} s", flush=True)


def run_step(step: str, kit: Kit, deadline: float) -> int:
    """Runs what of a step is not done; archives its results. Returns 0, 1, or `AGAIN` if the time was over."""
    code = 0
    for command in STEPS[step](kit):
        mark = kit.mark(step, command.name)
        if mark.exists() and not command.repeats:
            print(f"-- {command.name}: done before", flush=True)
            continue
        left = deadline - time.monotonic() - command.leaves
        if left < 1:
            print(f"-- {command.name}: no time left; call this step again", flush=True)
            code = code or AGAIN
            break
        print(f"-- {command.name}", flush=True)
        arguments = list(command.arguments)
        if command.trains:
            minutes = max(0.05, (left - RESERVE) / 60)
            arguments.append(f"--config.training.minutes={minutes:.2f}")
        returned = execute(arguments, kit, kit.results(step) / f"{command.name}.log", left)
        if returned == 0:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        elif returned == AGAIN:
            code = code or AGAIN
        else:
            print(f"-- {command.name}: FAILED, exit code {returned}", flush=True)
            code = 1
    if any(kit.results(step).iterdir()):
        archive(kit.results(step), kit.out, step)
    return code


def execute(arguments: Sequence[str], kit: Kit, log: Path, seconds: float) -> int:
    """Runs a command, in a folder of its own, for at most so long; returns its exit code, or `AGAIN` if it was ended.

    What it prints is printed, and kept in a file.
    """
    with log.open("ab", buffering=0) as file, tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=kit.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )

        def copy() -> None:
            while chunk := process.stdout.read1():
                file.write(chunk)
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()

        printer = threading.Thread(target=copy, daemon=True)
        printer.start()
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            print(f"\n-- ended after {seconds:.0f} s; call this step again", flush=True)
            return AGAIN
        finally:
            _end(process)
            printer.join(timeout=10)


def _end(process: subprocess.Popen) -> None:
    """Ends a process and those that it has started."""
    for number, grace in ((signal.SIGTERM, 40), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
            if number == signal.SIGKILL:
                return


def archive(folder: Path, out: Path, name: str) -> None:
    """Packs a folder into `name.tar.xz`, or if that is larger than `MAX_RESULT` into pieces `name.tar.xz.00`, ..."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{name}.tar.xz*"):
        old.unlink()
    with tempfile.TemporaryFile(dir=out) as whole:
        with lzma.open(whole, "wb", preset=1) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
            tar.add(folder, name)
        size = whole.tell()
        whole.seek(0)
        count = -(-size // MAX_RESULT)
        for number in range(count):
            path = out / (f"{name}.tar.xz.{number:02}" if count > 1 else f"{name}.tar.xz")
            path.write_bytes(whole.read(MAX_RESULT))
    print(f"-- results: {size / 2**20:.2f} MiB in {count} file(s), {out / name}.tar.xz", flush=True)


def join_pieces(folder: Path) -> None:
    """Makes NAME of NAME.1-of-2 and NAME.2-of-2, once all are there."""
    for first in sorted(folder.glob("*.1-of-*")):
        count = int(first.suffix.rpartition("-")[2])
        pieces = [first.with_suffix(f".{number}-of-{count}") for number in range(1, count + 1)]
        if all(piece.is_file() for piece in pieces):
            whole = first.with_suffix(".joining")
            with whole.open("wb") as file:
                for piece in pieces:
                    file.write(piece.read_bytes())
            whole.rename(first.with_suffix(""))
            for piece in reversed(pieces):  # So that what is left of an interruption is found again.
                piece.unlink()


# ---- the steps ----


def _unpack(kit: Kit) -> Iterator[Command]:
    """checks and unpacks the parts that are there"""
    try:
        parts = json.loads((kit.parts / "MANIFEST.json").read_text())["parts"]
    except FileNotFoundError:
        raise ValueError(f"there is no MANIFEST.json in {kit.parts}; send it with the parts") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{kit.parts / 'MANIFEST.json'} is damaged; send it again") from None
    missing: list[str] = []
    for name, entry in parts.items():
        mark, path = kit.mark("unpack", f"{name}-{entry['sha256'][:16]}"), kit.parts / name
        if mark.exists():
            continue
        if not path.is_file():
            missing.append(name)
            continue
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                raise ValueError(f"{path} is damaged; send it again")
            file.seek(0)
            with lzma.open(file) if name.endswith(".xz") else contextlib.nullcontext(file) as stream:
                with tarfile.open(fileobj=stream) as tar:
                    tar.extractall(kit.work, filter="data")
        join_pieces(kit.work / "cache")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        print(f"{name}: unpacked")
    print(f"missing: {', '.join(missing)}" if missing else "all parts are unpacked")
    yield from ()


def _install(kit: Kit) -> Iterator[Command]:
    """installs the wheels and the project, without a network"""
    wheels = sorted(map(str, (kit.work / "wheels").glob("*.whl")))
    if not wheels or not kit.project.is_dir():
        raise ValueError("the wheels or the project are missing; send wheels.tar and project.tar.xz, and unpack them")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-cache-dir", "--upgrade")
    target = f"--target={kit.work / 'site'}"
    yield Command("wheels", (*pip, target, *wheels))
    # setuptools builds in the folder that it is given.
    yield Command("project", (*pip, "--no-build-isolation", target, str(kit.project)))
    versions = "import jax, maskgan_jax; print('jax', jax.__version__, jax.devices())"
    yield Command("versions", (sys.executable, "-c", versions))


def _numerics(kit: Kit) -> Iterator[Command]:
    """compares the device with the CPU: pytest -m accelerator"""
    pytest = (sys.executable, "-m", "pytest", "-q", "-rsP", "-m", "accelerator", "-p", "no:cacheprovider")
    where = (f"--rootdir={kit.project}", str(kit.project / "tests" / "test_accelerator.py"))
    # Gradients take minutes on the CPU that they are compared with.
    for name, which in {
        "other": "not gradients_of_a_step",
        "pix2pix": "gradients_of_a_step and pix2pix",
        "default": "gradients_of_a_step and default",
    }.items():
        yield Command(name, (*pytest, f"--junitxml={kit.results('numerics') / name}.xml", f"-k={which}", *where))


def _speed(kit: Kit) -> Iterator[Command]:
    """images per second of training and inference, and the same in PyTorch: maskgan bench"""
    results = kit.results("speed")

    def bench(row: str, arithmetic: str, *flags: str) -> Command:
        name = "_".join([row.replace("/", "_"), arithmetic, *(flag.strip("-").replace("=", "_") for flag in flags)])
        out = f"--out={results / name}.json"
        rows = (f"--rows={row}", f"--compute={arithmetic}", "--pairs=3")
        return Command(name, (*maskgan("bench"), "--device=gpu", *rows, out, *flags))

    if kit.small:
        yield bench("128/pix2pix", "float32", "--upsampling=phases")
        yield bench("128/inference-1", "bfloat16")
        return
    for batch in BATCHES:
        for arithmetic in ARITHMETIC:
            for work in ("pix2pix", "inference"):
                yield bench(f"256/{work}-{batch}", arithmetic, "--against=torch")
            if batch in (16, 64):
                yield bench(f"256/pix2pix-{batch}", arithmetic, "--upsampling=phases")


def _profile(kit: Kit) -> Iterator[Command]:
    """where the time of a training step goes"""
    program = (sys.executable, str(kit.project / "tools" / "gpu_kit" / "profile_step.py"))
    small = (*SMALL_DATA, *SMALL_NETWORKS, "--steps=2") if kit.small else ("--config.input.batch_size=64",)
    for arithmetic in ("bfloat16", "float32"):
        out = f"--out={kit.results('profile') / arithmetic}"
        yield Command(arithmetic, (*program, "--config=pix2pix", f"--config.training.compute={arithmetic}", out, *small))


def _topologies(kit: Kit) -> Iterator[Command]:
    """what the compiler makes of the training step for 8 and 32 GPUs that are not there"""
    program = (sys.executable, str(kit.project / "tools" / "compile_for_tpu.py"))
    if kit.small:  # It takes the CUDA plugin; at least the program starts.
        yield Command("help", (*program, "--help"))
        return
    for topology, gpus in (("1x8x1", 8), ("4x8x1", 32)):
        out = f"--out={kit.results('topologies') / f'{gpus}_gpus.json'}"
        batch = str(64 * gpus)
        yield Command(topology, (*program, f"--topology=gpu:{topology}", "--config=tpu", "--global_batch", batch, out))


def _build(kit: Kit) -> Iterator[Command]:
    """makes the data set of the photos at 256 px, on all cores"""
    yield _built(kit, "default_model", kit.work / "data", SMALL_DATA if kit.small else ())


def _built(kit: Kit, config: str, data: Path, settings: Sequence[str]) -> Command:
    """The building of a data set of the photos. Of one that was ended, nothing is there."""
    if not (kit.work / "faces.jsonl").is_file():
        raise ValueError("the list of faces is missing; send faces.tar.xz, and unpack it")
    source, faces = f"--source=folder={kit.work / 'photos'}", f"--faces={kit.work / 'faces.jsonl'}"
    return Command("build", (*maskgan("build"), f"--config={config}", source, faces, f"--data_dir={data}", *settings))


def _paper(kit: Kit) -> Iterator[Command]:
    """the paper's experiment at 256 px: its data; proposed, pix2pix, yi and OpenCV's, trained and scored; figures"""
    data, runs = kit.work / "paper", kit.work / "runs" / "paper"
    yield _built(kit, "experiment", data, SMALL_PAPER if kit.small else PAPER_SIZE)
    tools, of_data = kit.project / "tools", f"--data_dir={data}"
    # It skips what it has done before.
    only = f"--only={','.join(PAPER_RUNS[:3] if kit.small else PAPER_RUNS)}"
    driver = (sys.executable, str(tools / "run_experiment.py"), "paper", of_data, f"--out={runs}", only)
    yield Command("runs", (*driver, *(() if kit.small else FAST_INPUT)), leaves=30.0)
    for name in (name for name in PAPER_RUNS if (runs / name).is_dir()):
        _keep(runs / name, kit.results("paper") / name)
    scored = (name for name in ("pix2pix", "yi", "proposed") if (runs / name / "scores.json").is_file())
    if systems := ",".join(scored):
        flags = (str(runs), of_data, f"--out={kit.results('paper') / 'figures'}", f"--systems={systems}")
        yield Command("figures", (sys.executable, str(tools / "draw_figures.py"), *flags), repeats=True)


def _default(kit: Kit) -> Iterator[Command]:
    """trains the network that `maskgan unmask` uses"""
    results, run, data = kit.results("default"), kit.work / "runs" / "default_model", f"--data_dir={kit.work / 'data'}"
    landmarks = f"--config.landmark_net.weights={kit.project / 'maskgan_jax' / 'pretrained' / 'landmarks.safetensors'}"
    small = (*SMALL_DATA, *SMALL_NETWORKS) if kit.small else ()
    train = (*maskgan("train"), "--config=default_model", data, f"--workdir={run}", landmarks, *small)
    yield Command("train_default_model", train, trains=True)
    _keep(run, results / "default_model")
    # It goes on each time; what it has reached is scored and exported.
    last = (f"--workdir={run}", "--step=last")
    evaluate = (*maskgan("evaluate"), data, *last, f"--out={results / 'default_model.json'}")
    yield Command("evaluate_default_model", evaluate, repeats=True)
    export = (*maskgan("export"), "--half", *last, f"--out={results / 'unmask.safetensors'}")
    yield Command("export", export, repeats=True)


def _keep(run: Path, results: Path) -> None:
    """Copies what a run has written so far, but for its networks; of its pictures the last, as `pictures.png`."""
    results.mkdir(exist_ok=True)
    for file in (*run.glob("*.json"), *run.glob("*.jsonl")):
        shutil.copyfile(file, results / file.name)
    for file in sorted(run.glob("pictures/*.png"))[-1:]:
        shutil.copyfile(file, results / "pictures.png")


def maskgan(command: str) -> tuple[str, ...]:
    """The start of a command line."""
    return (sys.executable, "-m", "maskgan_jax", command)


STEPS: dict[str, Callable[[Kit], Iterator[Command]]] = {
    "unpack": _unpack,
    "install": _install,
    "numerics": _numerics,
    "speed": _speed,
    "profile": _profile,
    "topologies": _topologies,
    "build": _build,
    "paper": _paper,
    "default": _default,
}

if __name__ == "__main__":
    sys.exit(main())
