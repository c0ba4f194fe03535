"""One process of a run of several, watched: it says how its part of the run ended.

JAX ends a process on the spot, from within C++, when its coordination service finds another one dead; and where a collective
waits for ever, that is what ends it. So the process that was started works in a child, and stays to tell. It leaves JAX alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from maskgan_jax.errors import exit_code
from maskgan_jax.runtime.parent import end_with_parent

# For how long a process that fails waits for the others, which may fail for the same reason and want to say so.
FAREWELL_SECONDS = 10
# What the child returns after an error that is not the user's.
FAILED = 3


def run_supervised(program: str, workdir: str | Path, work: Callable[..., None], *arguments: object) -> int:
    """Runs `work(*arguments)` in a child; returns the exit code, and tells what to do if a process of the run was lost.

    The child ends with this process, and gets the SIGINT and SIGTERM that this process gets.

    Args:
      program: for messages.
      workdir: where the run's checkpoints are.
      work: a function that can be pickled; calls `distributed.join`.
      *arguments: of `work`.
    """
    # Of the locks that a child leaves behind which did not end well, Python would complain after all else.
    ignored = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), ignored)))
    child = multiprocessing.get_context("spawn").Process(target=_work_and_leave, args=(program, work, arguments))
    child.start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child.pid, number))
    child.join()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # There is nobody left to tell, and little left to do.
    if child.exitcode in (0, 1, 130):  # What `exit_code` returns, and has told of.
        return child.exitcode
    if child.exitcode == -signal.SIGKILL:
        lost = "this process of the run was killed (by the system, if memory ran out)"
    else:
        lost = "the run lost a process, another or this one (the lines above tell more)"
    steps = [int(path.name) for path in Path(workdir).glob("checkpoints/*") if path.name.isdigit()]
    if steps:
        then = f"the checkpoint of step {max(steps)} is whole: start all processes again to go on from there"
    else:
        then = "there is no checkpoint yet: start all processes again"
    print(f"\n{program}: error: {lost}; {then}", file=sys.stderr)
    return 1


def _work_and_leave(program: str, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.setsid()  # Or Ctrl-C would come twice: from the terminal and from the parent.
    end_with_parent()
    try:
        code = exit_code(program, lambda: work(*arguments))
    except Exception as error:
        code = FAILED
        if _tells_of_lost_process(error):
            print(f"{program}: {str(error).splitlines()[0]}", file=sys.stderr)
        else:
            traceback.print_exc()
    if code == 0:
        return
    # JAX would wait at the exit for the others, which may wait for this one.
    if code != FAILED:
        import jax

        farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        farewell.start()
        farewell.join(FAREWELL_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _tells_of_lost_process(error: Exception) -> bool:
    """Whether a collective or the coordination service failed, for which JAX has no exception of its own."""
    return any(name in str(error) for name in ("Gloo", "NCCL", "UNAVAILABLE", "oordination service", "CoordinationService"))
