"""Errors whose message is meant for the user, and the exit codes of programs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

# Control characters, ends of lines, and what turns the direction of the text around them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class UserError(Exception):
    """Something the user can fix: bad input, a missing file, a wrong setting.

    The message is one sentence that says what is wrong and what to do. The command line prints it without a traceback and
    exits with code 1; library callers may catch it.
    """

    exit_code = 1


class Unfinished(UserError):
    """A run was told to end early and has saved a checkpoint; the same command resumes it.

    Exit code 75 is sysexits' "try again later".
    """

    exit_code = 75


def one_line(text: str) -> str:
    """`text` in one line, with control characters escaped: file names may hold some that move the cursor or hide text."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def describe(error: BaseException, most: int = 200) -> str:
    """The kind of an error and its message, in one line of at most so many characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


def exit_code(program: str, main: Callable[[], int | None]) -> int:
    """Runs `main`; returns its exit code, that of an error, or 130 if interrupted. The latter two print one line.

    Besides UserErrors, these are errors of the system that name a path (a name that is too long, a folder without permission),
    and a lack of memory.
    """
    try:
        return main() or 0
    except UserError as error:
        told = "" if isinstance(error, Unfinished) else "error: "
        print(f"{program}: {told}{one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            raise
        path = one_line(os.fsdecode(error.filename))
        reason = one_line(str(error.strerror or error))
        print(f"{program}: error: cannot use {path} ({reason}); check it and its permissions", file=sys.stderr)
        return UserError.exit_code
    except MemoryError:
        print(f"{program}: error: there is not enough memory; end other programs, or use smaller images", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
