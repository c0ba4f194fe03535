"""Speed and memory of training and inference on this machine, alone or compared with the same in PyTorch.

Every contestant runs in a process of its own, so that their threads and memory do not interfere. On CPUs all are warmed up
first and then measured in turn, A B A B, while the others sleep, so that other load on the machine affects them equally. On a
GPU, whose memory each takes, one is measured after the other. PyTorch has a contestant for each way to run it; the fastest
counts.
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

from maskgan_jax.configs import default, default_model
from maskgan_jax.errors import UserError
from maskgan_jax.runtime.allocator import compute_in_main_thread
from maskgan_jax.runtime.chips import chip_of

# How many times PyTorch's images per second ours must reach.
TARGET = 1.2
# The largest difference between outputs, in [-1, 1], of the same weights in float32.
MAX_DIFFERENCE = 1e-4
# The ways to run PyTorch on CPUs and on a GPU.
TORCH_VARIANTS = {
    "eager, channels_last": {"compiled": False, "channels_last": True},
    "eager, contiguous": {"compiled": False, "channels_last": False},
    "torch.compile, channels_last": {"compiled": True, "channels_last": True},
    "torch.compile, contiguous": {"compiled": True, "channels_last": False},
}
GPU_TORCH_VARIANTS = {
    "eager, channels_last": {"compiled": False, "channels_last": True},
    "torch.compile, channels_last": {"compiled": True, "channels_last": True},
    "torch.compile, channels_last, CUDA graphs": {"compiled": True, "channels_last": True, "mode": "reduce-overhead"},
}
# Above this load average the machine is busy with something else. That slows PyTorch more than XLA, so ratios mean little.
MAX_LOAD = 0.5
# Environment variables that may change speed or memory.
SETTINGS = re.compile(r"(JAX|XLA|OMP|KMP|GOMP|MKL|MALLOC|TORCH|TORCHINDUCTOR)_.*|GLIBC_TUNABLES|LD_PRELOAD")


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured.

    `work` is 'pix2pix' or 'proposed', a training step of the U-Net with those losses; 'inference', of the U-Net; or 'unmask',
    inference of the residual generator of `configs/default_model.py`, the default of `maskgan unmask`.
    """

    work: str
    size: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        """Such as '128/pix2pix', '256/pix2pix-64' and '128/inference-8'."""
        is_usual = not self.is_inference and self.batch == TRAINING_BATCHES.get(self.size)
        return f"{self.size}/{self.work}" + ("" if is_usual else f"-{self.batch}")

    @property
    def is_inference(self) -> bool:
        """Whether a network is only run, not trained."""
        return self.work in ("inference", "unmask")


# On CPUs, by the side of the images.
TRAINING_BATCHES = {128: 8, 256: 4}
ROWS = (
    *(
        Row(work, size, width, batch or TRAINING_BATCHES[size])
        for size, width in ((128, 32), (256, 64))
        for work, batch in (("pix2pix", None), ("proposed", None), ("inference", 1), ("inference", 8))
    ),
    *(Row("unmask", 256, 32, batch) for batch in (1, 8)),
)
GPU_ROWS = tuple(Row(work, 256, 64, batch) for work in ("pix2pix", "inference") for batch in (1, 16, 64, 256))


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a contestant runs.

    Attributes:
      row: what to measure.
      config: networks, losses and arithmetic.
      folder: where ours leaves the generator for PyTorch's inference.
      variant: a way to run PyTorch; '' for ours.
      compute: 'float32', 'tf32' or 'bfloat16'.
      device: 'cpu', 'gpu', or '' for what JAX finds.
      upsampling: on a GPU, `convolutions.GPU_UPSAMPLING`.
    """

    row: Row
    config: ConfigDict
    folder: Path
    variant: str
    compute: str
    device: str
    upsampling: str


@dataclasses.dataclass(frozen=True)
class Ready:
    """A contestant after its warm-up.

    Attributes:
      run: does a number of steps.
      device_peak: gives the most bytes that it had on the accelerator so far; None on CPUs.
      compile_seconds: from the first call, or for inference from loading the weights, to the first result; includes PyTorch's
        compilation. Neither framework uses a compilation cache.
      backend: what it runs on.
      step_bytes: XLA's arguments and temporaries of the training step.
      output: images of its generator, `[B, S, S, 3]` in [-1, 1]; for inference.
      device: the accelerator's name.
      flops: of a step on an accelerator; see `count_flops`.
    """

    run: Callable[[int], None]
    device_peak: Callable[[], int | None]
    compile_seconds: float
    backend: str
    step_bytes: dict[str, int] | None = None
    output: np.ndarray | None = None
    device: str | None = None
    flops: float | None = None


def measure(
    rows: Sequence[Row],
    *,
    against: str | None = None,
    compute: str = "float32",
    device: str = "",
    upsampling: str = "native",
    peak: float | None = None,
    pairs: int = 7,
    seconds: float = 2.0,
    keep: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Measures rows; the result can be written as JSON and goes into `format_table`.

    Args:
      rows: some of `ROWS` and `GPU_ROWS`, or others.
      against: 'torch' or None.
      compute: 'float32', 'bfloat16' or, on a GPU, 'tf32', for both. On a GPU, 'float32' is without TF32.
      device: 'cpu' or 'gpu'; by default 'cpu' with `against`, else what JAX finds.
      upsampling: on a GPU, how transposed convolutions are computed: 'native' or 'phases'.
      peak: FLOP/s of the device in this arithmetic, for its utilization; by default that of `runtime/chips.py`.
      pairs: how often each is measured.
      seconds: about how long each time; at least one step is done.
      keep: called with the result so far after each row.

    Raises:
      UserError: PyTorch is not installed, or a process failed.
    """
    if against == "torch" and not importlib.util.find_spec("torch"):
        raise UserError("PyTorch is not installed; install it with `pip install torch==2.13.0`, or leave out --against")
    results: dict[str, Any] = {}
    device = device or ("cpu" if against else "")
    result = {"machine": _machine(against), "compute": compute, "target": TARGET, "pairs": pairs, "rows": results}
    if device == "gpu":
        result["upsampling"] = upsampling
    with tqdm(rows, unit="row") as progress, tempfile.TemporaryDirectory() as folder:
        for row in progress:
            setup = Setup(row, _config(row, compute, Path(folder)), Path(folder), "", compute, device, upsampling)
            measure_row = _measure_alone if device == "gpu" else _measure_row
            results[row.name] = measure_row(setup, against, pairs, seconds, progress.set_description)
            if device == "gpu":
                _add_utilization(results[row.name], compute, peak)
            keep(result)
    return result


def equal_outputs(result: dict[str, Any]) -> bool:
    """Whether the outputs of both differ by at most `MAX_DIFFERENCE` in all rows; always true for bfloat16 and tf32."""
    differences = [row["output_difference"] for row in result["rows"].values() if "output_difference" in row]
    return result["compute"] != "float32" or all(difference <= MAX_DIFFERENCE for difference in differences)


def format_table(result: dict[str, Any]) -> str:
    """The result as a table for the terminal; in a / b, b is PyTorch's."""
    compared = any("torch" in row for row in result["rows"].values())
    comparison = ["PyTorch", "ratio (range)", f"target {result['target']}"] if compared else []
    on_device = any("flops" in row for row in result["rows"].values())
    of_device = ["device MB", "FLOP utilization"] if on_device else []
    lines = [["row", "images/s", *comparison, "step MB/image", "peak MB", *of_device, "compile s"]]
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
        if on_device:
            cells.append(" / ".join(_megabytes(contestant.get("peak_device_bytes")) for contestant in contestants))
            fractions = [contestant.get("flop_utilization") for contestant in contestants]
            cells.append(" / ".join(f"{fraction:.1%}" if fraction else "-" for fraction in fractions))
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
    """The cores that this process may use; both frameworks use all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _measure_row(setup: Setup, against: str | None, pairs: int, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    row = setup.row
    with contextlib.ExitStack() as processes:

        def start(name: str, variant: str) -> Contestant:
            tell(f"{row.name}: warming up {name}")
            return processes.enter_context(_contestant(dataclasses.replace(setup, variant=variant), name))

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


def _measure_alone(
    setup: Setup, against: str | None, pairs: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """As `_measure_row`, each contestant after the other has ended."""
    row = setup.row

    def measured(name: str, variant: str) -> dict[str, Any]:
        tell(f"{row.name}: {name}")
        with _contestant(dataclasses.replace(setup, variant=variant), name) as contestant:
            report = contestant.report([row.batch / contestant.round(seconds) for _ in range(pairs)])
            return {"variant": variant, **report, "output": contestant.facts["output"]}

    ours = measured("maskgan", "")
    result = {**dataclasses.asdict(row), "maskgan": ours}
    if against:
        tried, unavailable = [], {}
        for variant, options in GPU_TORCH_VARIANTS.items():
            try:
                tried.append(measured(f"PyTorch, {variant}", variant))
            except UserError as error:
                if not options["compiled"]:
                    raise
                unavailable[variant] = str(error)
        theirs = max(tried, key=lambda report: report["images_per_second"])
        result["torch"] = {
            **theirs,
            "tried_images_per_second": {report["variant"]: report["images_per_second"] for report in tried},
            "unavailable": unavailable,
        }
        ratio = ours["images_per_second"] / theirs["images_per_second"]
        extremes = [min(ours["rounds"]) / max(theirs["rounds"]), max(ours["rounds"]) / min(theirs["rounds"])]
        result |= {"ratio": ratio, "ratio_range": extremes, "met": ratio >= TARGET}
        if ours["output"] is not None:
            result["output_difference"] = float(np.abs(ours["output"] - theirs["output"]).max())
        del result["torch"]["output"]
    del ours["output"], ours["variant"]
    return result


def _add_utilization(result: dict[str, Any], compute: str, peak: float | None) -> None:
    """Adds the FLOPs of a step, and the fraction that each contestant does of the device's peak, if that is known."""
    ours = result["maskgan"]
    result["flops"] = ours.pop("flops")
    chip = chip_of(ours["device"])
    # Volta and Turing compute float32 without TF32 in any case.
    peak = peak or (chip and (getattr(chip, compute) or (chip.float32 if compute == "tf32" else None)))
    if peak:
        for contestant in (result[name] for name in ("maskgan", "torch") if name in result):
            contestant["flop_utilization"] = contestant["images_per_second"] / result["batch"] * result["flops"] / peak


def _fastest_torch(
    row: Row, seconds: float, start: Callable[[str, str], Contestant]
) -> tuple[Contestant, dict[str, float], dict[str, str]]:
    """The fastest way to run PyTorch, the images per second of each that runs, and the error of each that does not."""
    fastest = None
    tried: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for variant, options in TORCH_VARIANTS.items():
        try:
            challenger = start(f"PyTorch, {variant}", variant)
        except UserError as error:
            # Compiling needs a C++ compiler; without one, the rest is compared.
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
            if rival is not fastest:  # Keep one only, to save memory.
                rival.stop()
    return fastest, tried, unavailable


def _config(row: Row, compute: str, folder: Path) -> ConfigDict:
    config = default.get_config()
    if row.work == "unmask":
        config.generator = default_model.get_config().generator
    config.data.size = row.size
    config.input.batch_size = row.batch
    config.generator.width = config.discriminator.width = row.width
    config.training.compute = "bfloat16" if compute == "bfloat16" else "float32"
    if row.work == "proposed":
        config.landmark_net.weights = str(folder / "landmarks.safetensors")
    else:
        config.losses.contour = config.losses.masked = 0.0
    return config


class Contestant:
    """The parent's end of a contestant's process."""

    def __init__(self, setup: Setup, name: str, process: multiprocessing.process.BaseProcess, connection: Connection):
        """Waits until the process is warmed up. Raises UserError if it fails."""
        self.variant = setup.variant
        self._batch = setup.row.batch
        self._name = name
        self._process = process
        self._connection = connection
        self.facts: dict[str, Any] = self._answer()
        self.step_seconds: float = self.facts["step_seconds"]

    def round(self, seconds: float) -> float:
        """Mean seconds of a step, over as many steps as take about `seconds`."""
        steps = max(1, round(seconds / self.step_seconds))
        return self._answer(steps) / steps

    def report(self, rates: Sequence[float]) -> dict[str, Any]:
        """Its part of the result, given its images per second in each round."""
        facts = {
            "images_per_second": statistics.median(rates),
            "rounds": list(rates),
            "compile_seconds": self.facts["compile_seconds"],
            "backend": self.facts["backend"],
            **self._answer("peak"),
        }
        facts |= {name: self.facts[name] for name in ("device", "flops") if self.facts[name] is not None}
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
def _contestant(setup: Setup, name: str) -> Iterator[Contestant]:
    # A new process, not a fork, with this one's environment.
    context = multiprocessing.get_context("spawn")
    connection, childs = context.Pipe()
    process = context.Process(target=_serve, args=(setup, childs))
    process.start()
    childs.close()
    try:
        yield Contestant(setup, name, process, connection)
    finally:
        _end(process, connection)


def _end(process: multiprocessing.process.BaseProcess, connection: Connection) -> None:
    # It ends when the connection is closed, but not in the middle of its work.
    connection.close()
    process.join(timeout=5)
    process.kill()
    process.join()


def _serve(setup: Setup, connection: Connection) -> None:
    """The process of a contestant: warms up, then does as many steps as it is asked to and sends the seconds they took."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends it.
    try:
        ready = (_torch if setup.variant else _ours)(setup)
        connection.send({**_timed(ready), **{f.name: getattr(ready, f.name) for f in dataclasses.fields(ready)[2:]}})
        while True:
            order = connection.recv()
            connection.send(_peaks(ready) if order == "peak" else _seconds_of(ready, order))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        # Some exceptions cannot be sent as they are.
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        connection.send(RuntimeError(f"{kind}{error}"))


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


def _peaks(ready: Ready) -> dict[str, int | None]:
    """The peak memory of this process, on the machine and, if it uses one, on the accelerator."""
    on_device = ready.device_peak()
    return {"peak_resident_bytes": _peak_resident_bytes()} | ({"peak_device_bytes": on_device} if on_device else {})


def _peak_resident_bytes() -> int | None:
    """The peak memory of this process, including compilation; None where the system does not provide it."""
    try:
        peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(peak[1]) if peak else None


def _batch(row: Row) -> dict[str, np.ndarray]:
    """A batch of random records; speed does not depend on the values."""
    rng = np.random.default_rng(0)
    real, masked = rng.integers(0, 256, (2, row.batch, row.size, row.size, 3), np.uint8)
    mask = np.where(rng.random((row.batch, row.size, row.size, 1)) < 0.3, np.uint8(255), np.uint8(0))
    landmarks = rng.uniform(0, row.size, (row.batch, 68, 2)).astype(np.float32)
    return {"real": real, "masked": masked, "mask": mask, "landmarks": landmarks}


def _ours(setup: Setup) -> Ready:
    import jax

    compute_in_main_thread()
    if setup.device == "cpu" or _cpu_stands_in():
        jax.config.update("jax_platforms", "cpu")
    elif setup.device == "gpu":
        if jax.default_backend() != "gpu":
            raise UserError("JAX finds no GPU here")
        jax.config.update("jax_default_matmul_precision", "highest" if setup.compute == "float32" else "default")
    # Otherwise a second run would only measure reading the cache.
    jax.config.update("jax_enable_compilation_cache", False)
    if not setup.row.is_inference:
        return _our_training(setup)
    return _our_inference_on_gpu(setup) if setup.device == "gpu" else _our_inference(setup)


def _cpu_stands_in() -> bool:
    """Whether the CPU is to play the accelerator, as in tests/test_accelerator.py."""
    return os.environ.get("MASKGAN_ACCELERATOR") == "cpu"


def _our_device_facts(setup: Setup, count_flops: Callable[[], float]) -> dict[str, Any]:
    """What `Ready` has of a GPU; chooses its formulation, for which FLOPs are not counted."""
    import jax

    from maskgan_jax.models import convolutions

    if setup.device != "gpu":
        return {"device_peak": lambda: None}
    device = jax.devices()[0]
    flops = count_flops()
    convolutions.GPU_UPSAMPLING = setup.upsampling
    peak = lambda: (device.memory_stats() or {}).get("peak_bytes_in_use")  # noqa: E731
    return {"device_peak": peak, "device": device.device_kind, "flops": flops}


def _our_training(setup: Setup) -> Ready:
    from functools import partial

    import jax

    from maskgan_jax.networks.safetensors import save_untrained
    from maskgan_jax.training.abstract import count_flops
    from maskgan_jax.training.gan import GAN
    from maskgan_jax.training.step import create_state, train_step

    if setup.row.work == "proposed":
        save_untrained(setup.config.landmark_net.weights, setup.config, "landmarks", seed=2)
    task = GAN(setup.config)
    steps = 10**6  # Long enough for the learning rate to stay.
    state = jax.jit(partial(create_state, task, setup.config, steps))(jax.random.key(0))
    frozen, key, batch = jax.device_put((task.frozen, jax.random.key(1), _batch(setup.row)))
    of_device = _our_device_facts(setup, lambda: count_flops(task, setup.config))
    started = time.perf_counter()
    step = jax.jit(partial(train_step, task, setup.config, steps), donate_argnums=0).lower(state, frozen, batch, key).compile()
    state, _ = jax.block_until_ready(step(state, frozen, batch, key))
    compile_seconds = time.perf_counter() - started

    def run(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, _ = step(state, frozen, batch, key)
        jax.block_until_ready(state)

    memory = step.memory_analysis()
    step_bytes = {"arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes} if memory else None
    return Ready(run, compile_seconds=compile_seconds, backend=jax.default_backend(), step_bytes=step_bytes, **of_device)


def _our_inference_on_gpu(setup: Setup) -> Ready:
    """In the arithmetic of the row, with images and results that stay on the GPU."""
    import jax

    from maskgan_jax.images import binary_mask, denormalize, normalize
    from maskgan_jax.models.convolutions import compiling_for
    from maskgan_jax.models.generators import create_generator

    variables = _stored_generator(setup)
    module = create_generator(setup.config)
    arguments = jax.device_put((variables, *_generator_inputs(setup)))

    def output(variables: Any, masked: jax.Array, *masks: jax.Array) -> jax.Array:
        return module.apply(variables, normalize(masked), *map(binary_mask, masks))

    def function(*arguments: Any) -> jax.Array:
        return denormalize(output(*arguments))

    def count_flops() -> float:
        """As `training.abstract.count_flops` does."""
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
        with compiling_for("gpu"), jax.default_device(jax.devices("cpu")[0]):
            return jax.jit(function).lower(*shapes).cost_analysis()["flops"]

    of_device = _our_device_facts(setup, count_flops)
    started = time.perf_counter()
    infer = jax.jit(function).lower(*arguments).compile()
    infer(*arguments).block_until_ready()
    compile_seconds = time.perf_counter() - started

    def run(count: int) -> None:
        for _ in range(count):
            result = infer(*arguments)
        result.block_until_ready()

    images = np.asarray(jax.jit(output)(*arguments), np.float32)
    return Ready(run, compile_seconds=compile_seconds, backend=jax.default_backend(), output=images, **of_device)


def _stored_generator(setup: Setup) -> Any:
    """The variables of an untrained generator, which is left in the folder, for PyTorch too."""
    import safetensors.numpy

    from maskgan_jax.networks.safetensors import save_untrained
    from maskgan_jax.networks.stored import load_network
    from maskgan_jax.pytorch.convert import generator_to_pytorch, residual_to_pytorch

    weights = setup.folder / "generator.safetensors"
    save_untrained(weights, setup.config, "unmask", seed=2)
    variables = load_network(weights, "unmask").variables
    is_residual = setup.config.generator.architecture == "residual"
    state = residual_to_pytorch(variables, setup.row.size) if is_residual else generator_to_pytorch(variables)
    safetensors.numpy.save_file(state, setup.folder / "torch.safetensors")
    return variables


def _our_inference(setup: Setup) -> Ready:
    import jax

    from maskgan_jax.images import binary_mask, normalize
    from maskgan_jax.networks.face_network import FaceNetwork

    _stored_generator(setup)
    inputs = _generator_inputs(setup)
    started = time.perf_counter()
    network = FaceNetwork(setup.folder / "generator.safetensors", "unmask", setup.row.batch)
    network(*inputs)
    compile_seconds = time.perf_counter() - started

    # The arithmetic that is timed, before it is rounded to 8 bits.
    @jax.jit
    def output(variables: Any, masked: jax.Array, *masks: jax.Array) -> jax.Array:
        return network.module.apply(variables, normalize(masked), *map(binary_mask, masks))

    def run(count: int) -> None:
        for _ in range(count):
            network(*inputs)

    images = np.asarray(output(network.variables, *inputs))
    return Ready(run, lambda: None, compile_seconds, jax.default_backend(), output=images)


def _generator_inputs(setup: Setup) -> tuple[np.ndarray, ...]:
    """Masked images, and masks for a generator that inpaints."""
    batch = _batch(setup.row)
    return (batch["masked"], batch["mask"]) if setup.config.generator.inpaints else (batch["masked"],)


def _torch(setup: Setup) -> Ready:
    # As for ours; it is read at the import.
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    import torch

    from maskgan_jax.pytorch import networks, training

    torch.set_num_threads(_threads())
    on_gpu = setup.device == "gpu" and not _cpu_stands_in()
    if on_gpu and not torch.cuda.is_available():
        raise UserError("PyTorch finds no GPU here")
    device = "cuda" if on_gpu else "cpu"
    if on_gpu:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setup.compute != "float32"
    options = (GPU_TORCH_VARIANTS if setup.device == "gpu" else TORCH_VARIANTS)[setup.variant]
    batch = {name: torch.as_tensor(array, device=device) for name, array in _batch(setup.row).items()}
    generator = networks.create_generator(setup.config).to(device)
    inputs = [torch.as_tensor(array, device=device) for array in _generator_inputs(setup)]
    if setup.row.is_inference:
        from safetensors.torch import load_file

        generator.load_state_dict(load_file(setup.folder / "torch.safetensors"))
        infer = training.create_inference(setup.config, generator, **options)

        def step() -> torch.Tensor:
            levels = training.to_levels(infer(*inputs))
            return levels if setup.device == "gpu" else levels.numpy()
    else:
        landmark_net = networks.create_landmark_net(setup.config).to(device) if setup.row.work == "proposed" else None
        discriminator = networks.create_discriminator(setup.config).to(device)
        train_step = training.create_train_step(setup.config, generator, discriminator, landmark_net, **options)

        def step() -> dict[str, torch.Tensor]:
            return train_step(batch)

    def run(count: int) -> None:
        for _ in range(count):
            step()
        if on_gpu:
            torch.cuda.synchronize()

    started = time.perf_counter()
    run(1)
    compile_seconds = time.perf_counter() - started
    output = infer(*inputs).permute(0, 2, 3, 1).float().cpu().numpy() if setup.row.is_inference else None
    device_peak = torch.cuda.max_memory_allocated if on_gpu else lambda: None
    name = torch.cuda.get_device_name() if on_gpu else None
    return Ready(run, device_peak, compile_seconds, device, output=output, device=name)
