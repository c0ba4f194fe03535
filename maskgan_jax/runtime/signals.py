"""What Ctrl-C (SIGINT), SIGTERM and SIGUSR1 do to a program: its start, its work, and the processes that it starts.

At the start and at the end of a program there is nothing to clean up, and `exit_on_ctrl_c` ends it at once. While it works,
`ctrl_c_interrupts` raises KeyboardInterrupt, so that temporary files are removed. `hold` covers the moments in which a new
Python starts and has no handlers yet.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from maskgan_jax.errors import Unfinished, UserError

# How long an interrupt waits that cannot be raised now.
RETRY_SECONDS = 0.01

# SLURM can be told to send SIGUSR1 before a job's time is up; clouds and Kubernetes send SIGTERM.
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_ALL_SIGNALS = (signal.SIGINT, *_STOP_SIGNALS)

_stop = threading.Event()
# What this process says when a stop ends it at once; None while it has something to save first.
_last_words: str | None = (
    "SIGTERM or SIGUSR1 came before there was anything to save: start again to go on from the last checkpoint"
)


def exit_on_ctrl_c(program: str) -> None:
    """From now on, Ctrl-C ends this process at once, with one line and exit code 130. If SIGINT is ignored, it stays so.

    Args:
      program: for the line, such as 'maskgan train'.
    """

    def end(number: int, frame: FrameType | None) -> None:
        # Not by print: the handler may run in the middle of one.
        os.write(2, f"{program}: interrupted\n".encode(errors="backslashreplace"))
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, end)


@contextlib.contextmanager
def ctrl_c_interrupts() -> Iterator[None]:
    """Makes Ctrl-C end the block with KeyboardInterrupt, whatever is interrupted.

    - It waits while a module is imported: an exception in the middle of `import jax` can crash its C++ extensions. A second
      Ctrl-C does not wait.
    - In a callback, such as JAX's at each garbage collection, Python prints and drops the exception: it is raised again.
    - If a library turns it into another exception, KeyboardInterrupt replaces that.

    A block that catches it and ends normally, or with a UserError, has handled it. Does nothing outside the main thread, or
    if SIGINT is ignored. The previous handler returns after the block, unless the block has set one of its own.
    """
    previous = signal.getsignal(signal.SIGINT)
    if not _is_main_thread() or previous is signal.SIG_IGN:
        yield
        return
    previous_hook, previous_alarm = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        is_second = interrupted and number == signal.SIGINT
        interrupted = True
        if _is_importing(frame) and not is_second:
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        else:
            raise KeyboardInterrupt

    def raise_again(unraisable: sys.UnraisableHookArgs) -> None:
        if interrupted and unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)  # Raised here, it would be dropped as well.
        else:
            previous_hook(unraisable)

    sys.unraisablehook = raise_again
    signal.signal(signal.SIGALRM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_alarm)
        sys.unraisablehook = previous_hook
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Makes SIGTERM do what Ctrl-C does, so that the block can remove its temporary files.

    Does nothing outside the main thread, or if SIGTERM has a handler already.
    """
    if not _is_main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    interrupt = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGTERM, interrupt if callable(interrupt) else signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def stop_on_sigterm() -> None:
    """From now on, SIGTERM and SIGUSR1 only set `stop_requested`; until `can_save`, they end this process at once with code 75.

    `nothing_to_save` has them end it at once again. A training compiles for up to minutes before its first step and its first
    validation, and Python runs no handlers meanwhile.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, lambda *_: _stop.set())
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_at_once, args=(reader,), daemon=True).start()


def _end_at_once(reader: int) -> None:
    """Ends this process if a signal whose number comes through a pipe is one to stop, and there is nothing to save."""
    while number := os.read(reader, 1):
        message = _last_words
        if number[0] in _STOP_SIGNALS and message:
            os.write(2, f"\n{message}\n".encode(errors="backslashreplace"))  # There may be a progress bar in the line.
            os._exit(Unfinished.exit_code)


def can_save() -> None:
    """From now on, who asks for `stop_requested` has something to save."""
    global _last_words
    _last_words = None


@contextlib.contextmanager
def nothing_to_save(message: str) -> Iterator[None]:
    """While the block lasts, SIGTERM and SIGUSR1 end this process at once again, after `message` and with code 75.

    For work that takes long and can be done again, when all before it is saved.

    Raises:
      Unfinished: `message`; a signal has come already.
    """
    global _last_words
    _last_words = message
    try:
        if stop_requested():
            raise Unfinished(message)
        yield
    finally:
        _last_words = None


def stop_requested() -> bool:
    """Whether SIGTERM or SIGUSR1 has arrived since `stop_on_sigterm`."""
    return _stop.is_set()


def hold() -> None:
    """Holds the signals back until `release`; they are not lost. Processes that are started inherit this."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)


def release() -> None:
    """Ends `hold`; a signal that arrived meanwhile is delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL_SIGNALS)


def forward_to(process: int) -> None:
    """From now on, the signals go to another process, given by its number: SIGUSR1 as SIGTERM, the only one JAX knows."""
    for number in _ALL_SIGNALS:
        sent = signal.SIGTERM if number in _STOP_SIGNALS else number
        signal.signal(number, lambda *_, sent=sent: os.kill(process, sent))


def ignore() -> None:
    """From now on, the signals do nothing."""
    for number in _ALL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _is_importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
