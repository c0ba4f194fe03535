"""Work on many items by several processes."""

from __future__ import annotations

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from maskgan_jax.errors import UserError
from maskgan_jax.runtime.parent import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def number_of_workers(asked: int) -> int:
    """The processes that `--workers=N` asks for; 0 is one for each core. Raises UserError if it is negative."""
    if asked < 0:
        raise UserError(f"--workers={asked}: give a number of processes, or 0 for one per core")
    return asked or available_cores()


def available_cores() -> int:
    """The cores that this process may use; all of them where the system, such as macOS, does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mapped(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map` by worker processes: results are in the order of the items, and only a few are in memory at a time.

    Args:
      function: must be picklable, as must items and results.
      items: its arguments.
      workers: number of processes; with 1, the calling process does the work.

    Raises:
      UserError: memory ran out, or a worker process was killed. Other errors of `function` come through.
    """
    try:
        yield from (_mapped_here(function, items) if workers == 1 else _mapped_by_processes(function, items, workers))
    except BrokenProcessPool as error:
        raise UserError("a worker process was killed, most likely because memory ran out; use fewer --workers") from error
    except MemoryError as error:
        raise UserError("there is not enough memory; use fewer --workers") from error


def _mapped_here(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from map(function, items)
    finally:
        cv2.setNumThreads(threads)


def _mapped_by_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    # Spawned, not forked: the process may have threads (of JAX, OpenCV, dlib), which do not survive a fork.
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _set_up_worker)
    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 8 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _set_up_worker() -> None:
    """Uses one thread of OpenCV and the CPU, leaves Ctrl-C to the parent process, and ends when that does."""
    cv2.setNumThreads(1)
    # The parent has the accelerators. JAX looks there when it is imported, which may have happened.
    os.environ["JAX_PLATFORMS"] = "cpu"
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
