"""One process of a run of several, supervised, so that it can say how its part of the run ended.

JAX aborts a process from within C++ when its coordination service finds another one dead, and that is also how a collective
that waits for a dead process ends. So the process that was started does the work in a child, does not use JAX itself, and
reports.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path

from maskgan_jax.errors import Unfinished, UserError, exit_code
from maskgan_jax.run_files import CHECKPOINTS
from maskgan_jax.runtime import signals
from maskgan_jax.runtime.devices import device_errors
from maskgan_jax.runtime.parent import end_with_parent
from maskgan_jax.storage import path_of, steps_in

# How long a process that fails waits for the others, which may be about to report the same failure.
SHUTDOWN_SECONDS = 10
# The child's exit code after an error that is not a UserError.
FAILED = 3


def run_supervised(program: str, workdir: str | Path, work: Callable[..., None], *arguments: object) -> int:
    """Runs `work(*arguments)` in a child; returns the exit code. If a process of the run was lost, says what to do.

    The child ends with this process, and receives the signals that this process receives (see `signals.forward_to`).

    Args:
      program: for messages.
      workdir: where the run's checkpoints are.
      work: a function that can be pickled; it calls `distributed.join`.
      *arguments: of `work`.
    """
    # multiprocessing would warn, after everything else, of the locks that an aborted child leaves behind.
    ignored = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), ignored)))
    child = multiprocessing.get_context("spawn").Process(target=_work_and_exit, args=(program, work, arguments))
    resource_tracker.ensure_running()  # `child.start` would start it, and end the hold.
    signals.hold()
    child.start()
    signals.forward_to(child.pid)
    signals.release()
    child.join()
    signals.ignore()
    if child.exitcode in (0, UserError.exit_code, Unfinished.exit_code, 130):  # Of `exit_code`, which has printed why.
        return child.exitcode
    if child.exitcode == -signal.SIGKILL:
        lost = "this process of the run was killed (by the system, if memory ran out)"
    else:
        lost = "the run lost a process, another or this one (the lines above tell more)"
    if steps := steps_in(path_of(workdir) / CHECKPOINTS):
        then = f"the checkpoint of step {steps[-1]} is whole: start all processes again to go on from there"
    else:
        then = "there is no checkpoint yet: start all processes again"
    print(f"\n{program}: error: {lost}; {then}", file=sys.stderr)
    return 1


def _work_and_exit(program: str, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.setsid()  # Otherwise Ctrl-C would arrive twice: from the terminal and from the parent.
    signals.exit_on_ctrl_c(program)
    signals.release()
    end_with_parent()

    def interruptible_work() -> None:
        with signals.ctrl_c_interrupts(), device_errors(program):
            work(*arguments)

    try:
        code = exit_code(program, interruptible_work)
    except Exception as error:
        code = FAILED
        if _is_lost_process(error):
            print(f"{program}: {str(error).splitlines()[0]}", file=sys.stderr)
        else:
            traceback.print_exc()
    if code == 0:
        return
    # At exit JAX would wait for the other processes, which may wait for this one.
    if code != FAILED:
        import jax

        shutdown = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        shutdown.start()
        shutdown.join(SHUTDOWN_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _is_lost_process(error: Exception) -> bool:
    """Whether a collective or the coordination service failed; JAX has no exception type for that."""
    return any(name in str(error) for name in ("Gloo", "NCCL", "UNAVAILABLE", "oordination service", "CoordinationService"))
