"""Contestants: processes that warm up, and then do as many steps as they are asked to."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import re
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from maskgan_jax.bench.setup import Ready, Setup
from maskgan_jax.errors import UserError


class Contestant:
    """The parent's end of a contestant's process.

    Attributes:
      variant: a way to run PyTorch; '' for ours.
      facts: the fields of `Ready` but for its functions, and `step_seconds`.
    """

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
def started(setup: Setup, name: str) -> Iterator[Contestant]:
    """A contestant in a process of its own, warmed up, which ends with the context. Raises UserError if it fails."""
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
        ready = _prepared(setup)
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


def _prepared(setup: Setup) -> Ready:
    # Only here, in a process of its own: the other framework is not imported.
    if setup.variant:
        from maskgan_jax.bench.pytorch import prepare
    else:
        from maskgan_jax.bench.ours import prepare
    return prepare(setup)


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
