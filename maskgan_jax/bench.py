"""How fast training and inference are here, by themselves and against the same in PyTorch.

Every contestant has a process of its own, so that neither threads nor memory of one disturb another. All of them are set up
and warmed up first; then they are measured in turn, A B A B, while the others sleep: what the machine does besides hits both.
PyTorch has a contestant for each way it can be run, of which the fastest after warm-up is measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import re
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.configs.default import get_config
from maskgan_jax.errors import UserError
from maskgan_jax.runtime.allocator import compute_in_main_thread

# Ours must do at least this many times the images per second of PyTorch.
TARGET = 1.2
# The same weights must give the same output, in [-1, 1], to this; in float32.
LARGEST_DIFFERENCE = 1e-4
# The ways to run PyTorch.
TORCH_VARIANTS = {
    "eager, channels_last": {"compiled": False, "channels_last": True},
    "eager, contiguous": {"compiled": False, "channels_last": False},
    "torch.compile, channels_last": {"compiled": True, "channels_last": True},
    "torch.compile, contiguous": {"compiled": True, "channels_last": False},
}
# Load average above which the machine is busy with something else. That slows PyTorch more than XLA: ratios mean little then.
MOST_LOAD = 0.5
# Of the environment, what may change speed or memory.
SETTINGS = re.compile(r"(JAX|XLA|OMP|KMP|GOMP|MKL|MALLOC|TORCH|TORCHINDUCTOR)_.*|GLIBC_TUNABLES|LD_PRELOAD")


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured: `work` is 'pix2pix' or 'proposed', a training step with those losses, or 'inference'."""

    work: str
    size: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        """Such as '128/pix2pix' and '128/inference-8'."""
        return f"{self.size}/{self.work}" + (f"-{self.batch}" if self.work == "inference" else "")


ROWS = tuple(
    Row(work, size, width, batch or training_batch)
    for size, width, training_batch in ((128, 32, 8), (256, 64, 4))
    for work, batch in (("pix2pix", None), ("proposed", None), ("inference", 1), ("inference", 8))
)


@dataclasses.dataclass(frozen=True)
class Job:
    """What a contestant's process is told.

    Attributes:
      row: what to do.
      config: networks, losses and arithmetic.
      folder: where ours leaves the generator for the inference of PyTorch.
      variant: a way to run PyTorch; '' for ours.
      cpu: run on the CPU even if JAX finds something better.
    """

    row: Row
    config: ConfigDict
    folder: Path
    variant: str
    cpu: bool


@dataclasses.dataclass(frozen=True)
class Ready:
    """What a contestant's process can do after its warm-up.

    Attributes:
      run: does so many steps.
      compile_seconds: from the first call to its result, or of inference from loading the weights; PyTorch's compilation is in
        it as well. Neither framework reads what it compiled before.
      backend: what it runs on.
      step_bytes: XLA's arguments and temporaries of the training step.
      output: pictures of its generator, `[B, S, S, 3]` in [-1, 1]; for inference.
    """

    run: Callable[[int], None]
    compile_seconds: float
    backend: str
    step_bytes: dict[str, int] | None = None
    output: np.ndarray | None = None


def measure(
    rows: Sequence[Row],
    *,
    against: str | None = None,
    compute: str = "float32",
    pairs: int = 7,
    seconds: float = 2.0,
    keep: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Measures all rows; the result can be written as JSON and is what `table` takes.

    Args:
      rows: some of `ROWS`, or others.
      against: 'torch' or None.
      compute: 'float32' or 'bfloat16', of both.
      pairs: how often each is measured.
      seconds: about how long each time; at least one step is done.
      keep: is given the result so far after each row.

    Raises:
      UserError: PyTorch is not installed, or a process failed.
    """
    if against == "torch" and not importlib.util.find_spec("torch"):
        raise UserError("PyTorch is not installed; install it with `pip install torch==2.13.0`, or leave out --against")
    results: dict[str, Any] = {}
    result = {"machine": _machine(against), "compute": compute, "target": TARGET, "pairs": pairs, "rows": results}
    with tqdm(rows, unit="row") as progress:
        for row in progress:
            results[row.name] = _measure_row(row, against, compute, pairs, seconds, progress.set_description)
            keep(result)
    return result


def equal_outputs(result: dict[str, Any]) -> bool:
    """Whether in all rows the outputs of the two were the same to `LARGEST_DIFFERENCE`; of bfloat16 that is not asked."""
    differences = [row["output_difference"] for row in result["rows"].values() if "output_difference" in row]
    return result["compute"] != "float32" or all(difference <= LARGEST_DIFFERENCE for difference in differences)


def table(result: dict[str, Any]) -> str:
    """The result for people; where it says a / b, b is PyTorch's."""
    compared = any("torch" in row for row in result["rows"].values())
    comparison = ["PyTorch", "ratio (range)", f"target {result['target']}"] if compared else []
    lines = [["row", "images/s", *comparison, "step MB/image", "peak MB", "compile s"]]
    if compared:
        lines[0] += ["difference", "PyTorch run as"]
    for name, row in result["rows"].items():
        ours = row["maskgan"]
        contestants = [ours, row["torch"]] if compared else [ours]
        cells = [name, *(f"{contestant['images_per_second']:.2f}" for contestant in contestants)]
        if compared:
            low, high = row["ratio_range"]
            cells += [f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})", "met" if row["met"] else "MISSED"]
        cells.append(f"{ours['step_bytes_per_image'] / 1e6:.1f}" if "step_bytes_per_image" in ours else "-")
        cells.append(" / ".join(_megabytes(contestant["peak_resident_bytes"]) for contestant in contestants))
        cells.append(" / ".join(f"{contestant['compile_seconds']:.1f}" for contestant in contestants))
        if compared:
            cells.append(f"{row['output_difference']:.1e}" if "output_difference" in row else "-")
            cells.append(row["torch"]["variant"])
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _megabytes(number: int | None) -> str:
    return f"{number / 1e6:.0f}" if number else "-"


def _machine(against: str | None) -> dict[str, Any]:
    """What the numbers depend on."""
    try:
        model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    packages = ["jax", "jaxlib", "flax", "numpy", *(["torch"] if against else [])]
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": _threads(),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "environment": {name: value for name, value in sorted(os.environ.items()) if SETTINGS.fullmatch(name)},
    }


def _threads() -> int:
    """The cores that this process may use, all of which both frameworks do use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _measure_row(
    row: Row, against: str | None, compute: str, pairs: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as processes:
        job = Job(row, _config(row, compute, Path(folder)), Path(folder), "", cpu=against is not None)

        def start(name: str, variant: str) -> Contestant:
            tell(f"{row.name}: warming up {name}")
            return processes.enter_context(_contestant(dataclasses.replace(job, variant=variant), name))

        ours = start("maskgan", "")
        contestants = [ours]
        if against:
            theirs, tried, unavailable = _fastest_torch(row, seconds, start)
            contestants.append(theirs)

        rates: list[list[float]] = [[] for _ in contestants]
        for pair in range(pairs):
            tell(f"{row.name}: round {pair + 1} of {pairs}")
            for contestant, of_contestant in zip(contestants, rates, strict=True):
                of_contestant.append(row.batch / contestant.round(seconds))
        result = {**dataclasses.asdict(row), "maskgan": ours.report(rates[0])}
        if against:
            result["torch"] = {
                "variant": theirs.variant,
                **theirs.report(rates[1]),
                "tried_images_per_second": tried,
                "unavailable": unavailable,
            }
            ratios = [one / other for one, other in zip(*rates, strict=True)]
            ratio = statistics.median(ratios)
            result |= {"ratio": ratio, "ratio_range": [min(ratios), max(ratios)], "met": ratio >= TARGET}
            if ours.facts["output"] is not None:
                result["output_difference"] = float(np.abs(ours.facts["output"] - theirs.facts["output"]).max())
        return result


def _fastest_torch(
    row: Row, seconds: float, start: Callable[[str, str], Contestant]
) -> tuple[Contestant, dict[str, float], dict[str, str]]:
    """The fastest way to run PyTorch, the images per second of each that runs, and what is wrong with those that do not."""
    fastest = None
    tried: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for variant, options in TORCH_VARIANTS.items():
        try:
            challenger = start(f"PyTorch, {variant}", variant)
        except UserError as error:
            # Compiling takes a C++ compiler; without one the comparison is with what there is.
            if not options["compiled"]:
                raise
            unavailable[variant] = str(error)
            continue
        rivals = [challenger, *([fastest] if fastest else [])]
        rounds = [[rival.round(seconds) for rival in rivals] for _ in range(2)]
        best = [min(of_rival) for of_rival in zip(*rounds, strict=True)]
        tried |= {rival.variant: row.batch / step for rival, step in zip(rivals, best, strict=True)}
        fastest = rivals[best.index(min(best))]
        for rival in rivals:
            if rival is not fastest:  # Only one stays, for the sake of memory.
                rival.stop()
    return fastest, tried, unavailable


def _config(row: Row, compute: str, folder: Path) -> ConfigDict:
    config = get_config()
    config.data.size = row.size
    config.input.batch_size = row.batch
    config.generator.width = config.discriminator.width = row.width
    config.training.compute = compute
    if row.work == "proposed":
        config.landmark_net.weights = str(folder / "landmarks.safetensors")
    else:
        config.losses.contour = config.losses.masked = 0.0
    return config


class Contestant:
    """The parent's end of a contestant's process."""

    def __init__(self, job: Job, name: str, process: multiprocessing.process.BaseProcess, connection: Connection):
        """Waits until the process is warmed up. Raises UserError if it fails."""
        self.variant = job.variant
        self._batch = job.row.batch
        self._name = name
        self._process = process
        self._connection = connection
        self.facts: dict[str, Any] = self._answer()
        self.step_seconds: float = self.facts["step_seconds"]

    def round(self, seconds: float) -> float:
        """Seconds of a step, the mean over as many as take about `seconds`."""
        steps = max(1, round(seconds / self.step_seconds))
        return self._answer(steps) / steps

    def report(self, rates: Sequence[float]) -> dict[str, Any]:
        """What is told of it, given its images per second in each round."""
        facts = {
            "images_per_second": statistics.median(rates),
            "rounds": list(rates),
            "compile_seconds": self.facts["compile_seconds"],
            "backend": self.facts["backend"],
            "peak_resident_bytes": self._answer("peak"),
        }
        if step := self.facts["step_bytes"]:
            facts |= {"step_bytes": step, "step_bytes_per_image": sum(step.values()) / self._batch}
        return facts

    def stop(self) -> None:
        """Ends the process."""
        _end(self._process, self._connection)

    def _answer(self, order: int | str | None = None) -> Any:
        try:
            if order is not None:
                self._connection.send(order)
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            code = self._process.exitcode or 0
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise UserError(
                f"the process of {self._name} ended ({how}); free some memory, or measure fewer rows with --rows"
            ) from error
        if isinstance(answer, Exception):
            raise UserError(f"{self._name} failed: {' '.join(str(answer).split()) or type(answer).__name__:.500}") from answer
        return answer


@contextlib.contextmanager
def _contestant(job: Job, name: str) -> Iterator[Contestant]:
    # A new process, not a copy of this one, with this one's environment.
    context = multiprocessing.get_context("spawn")
    connection, childs = context.Pipe()
    process = context.Process(target=_serve, args=(job, childs))
    process.start()
    childs.close()
    try:
        yield Contestant(job, name, process, connection)
    finally:
        _end(process, connection)


def _end(process: multiprocessing.process.BaseProcess, connection: Connection) -> None:
    # It ends when there is nobody to tell it anything; but not in the middle of its work.
    connection.close()
    process.join(timeout=5)
    process.kill()
    process.join()


def _serve(job: Job, connection: Connection) -> None:
    """The process of a contestant: warms up, and then does as many steps as it is told and tells the seconds they took."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends it.
    try:
        ready = (_torch if job.variant else _ours)(job)
        connection.send({**_timed(ready), **{f.name: getattr(ready, f.name) for f in dataclasses.fields(ready)[1:]}})
        while True:
            order = connection.recv()
            connection.send(_peak_resident_bytes() if order == "peak" else _seconds_of(ready, order))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        # Some exceptions cannot be sent as they are.
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _seconds_of(ready: Ready, steps: int) -> float:
    started = time.perf_counter()
    ready.run(steps)
    return time.perf_counter() - started


def _timed(ready: Ready) -> dict[str, float]:
    """The seconds of a step, after some for half a second."""
    since = time.perf_counter()
    times = [_seconds_of(ready, 1)]
    while time.perf_counter() - since < 0.5:
        times.append(_seconds_of(ready, 1))
    return {"step_seconds": statistics.median(times)}


def _peak_resident_bytes() -> int | None:
    """The most memory that this process has had, its compilation included; None where the system does not tell."""
    try:
        peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(peak[1]) if peak else None


def _batch(row: Row) -> dict[str, np.ndarray]:
    """A batch of records; speed does not depend on what is in it."""
    rng = np.random.default_rng(0)
    real, masked = rng.integers(0, 256, (2, row.batch, row.size, row.size, 3), np.uint8)
    mask = np.where(rng.random((row.batch, row.size, row.size, 1)) < 0.3, np.uint8(255), np.uint8(0))
    landmarks = rng.uniform(0, row.size, (row.batch, 68, 2)).astype(np.float32)
    return {"real": real, "masked": masked, "mask": mask, "landmarks": landmarks}


def _ours(job: Job) -> Ready:
    import jax

    compute_in_main_thread()
    if job.cpu:
        jax.config.update("jax_platforms", "cpu")
    # Or it would be the time to read what an earlier run compiled.
    jax.config.update("jax_enable_compilation_cache", False)
    return _our_inference(job) if job.row.work == "inference" else _our_training(job)


def _our_training(job: Job) -> Ready:
    from functools import partial

    import jax

    from maskgan_jax.models.landmark_net import create_landmark_net
    from maskgan_jax.training.gan import GAN
    from maskgan_jax.training.step import create_state, train_step

    if job.row.work == "proposed":
        _save_untrained(job, "landmarks", create_landmark_net, job.config.landmark_net.weights)
    task = GAN(job.config)
    steps = 10**6  # Long enough for the learning rate to stay.
    state = jax.jit(partial(create_state, task, job.config, steps))(jax.random.key(0))
    frozen, key, batch = jax.device_put((task.frozen, jax.random.key(1), _batch(job.row)))
    started = time.perf_counter()
    step = jax.jit(partial(train_step, task, job.config, steps), donate_argnums=0).lower(state, frozen, batch, key).compile()
    state, _ = jax.block_until_ready(step(state, frozen, batch, key))
    compile_seconds = time.perf_counter() - started

    def run(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, _ = step(state, frozen, batch, key)
        jax.block_until_ready(state)

    memory = step.memory_analysis()
    step_bytes = {"arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes} if memory else None
    return Ready(run, compile_seconds, jax.default_backend(), step_bytes)


def _our_inference(job: Job) -> Ready:
    import jax
    import safetensors.numpy

    from maskgan_jax.images import normalize
    from maskgan_jax.models.generators import create_generator
    from maskgan_jax.networks.face_network import FaceNetwork
    from maskgan_jax.networks.stored import load_network
    from maskgan_jax.pytorch.convert import generator_to_pytorch

    weights = job.folder / "generator.safetensors"
    _save_untrained(job, "unmask", create_generator, weights)
    safetensors.numpy.save_file(
        generator_to_pytorch(load_network(weights, "unmask").variables), job.folder / "torch.safetensors"
    )
    masked = _batch(job.row)["masked"]
    started = time.perf_counter()
    network = FaceNetwork(weights, "unmask", job.row.batch)
    network(masked)
    compile_seconds = time.perf_counter() - started
    # The arithmetic that is timed, before it is rounded to 8 bits.
    output = jax.jit(lambda variables, masked: network.module.apply(variables, normalize(masked)))(network.variables, masked)

    def run(count: int) -> None:
        for _ in range(count):
            network(masked)

    return Ready(run, compile_seconds, jax.default_backend(), output=np.asarray(output))


def _save_untrained(job: Job, task: str, create: Callable, path: str | Path) -> None:
    """Writes a network as it is before training; speed does not depend on its weights."""
    import jax
    import jax.numpy as jnp

    from maskgan_jax.networks.safetensors import save_safetensors

    config = ConfigDict(job.config.to_dict())
    config.task = task
    picture = jnp.zeros((1, config.data.size, config.data.size, 3))
    save_safetensors(path, jax.jit(create(config).init)(jax.random.key(2), picture), config)


def _torch(job: Job) -> Ready:
    # As for ours. To be set before the import.
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    import torch

    from maskgan_jax.pytorch import networks, training

    torch.set_num_threads(_threads())
    options = TORCH_VARIANTS[job.variant]
    batch = _batch(job.row)
    generator = networks.create_generator(job.config)
    if job.row.work == "inference":
        from safetensors.torch import load_file

        generator.load_state_dict(load_file(job.folder / "torch.safetensors"))
        infer = training.create_inference(job.config, generator, **options)

        def step() -> np.ndarray:
            return training.to_levels(infer(batch["masked"])).numpy()
    else:
        landmark_net = networks.create_landmark_net(job.config) if job.row.work == "proposed" else None
        discriminator = networks.create_discriminator(job.config)
        train_step = training.create_train_step(job.config, generator, discriminator, landmark_net, **options)

        def step() -> dict[str, torch.Tensor]:
            return train_step(batch)

    def run(count: int) -> None:
        for _ in range(count):
            step()

    started = time.perf_counter()
    run(1)
    compile_seconds = time.perf_counter() - started
    output = infer(batch["masked"]).permute(0, 2, 3, 1).numpy() if job.row.work == "inference" else None
    return Ready(run, compile_seconds, "cpu", output=output)
