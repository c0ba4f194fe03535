"""The one exception whose text is written for the person at the keyboard."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, a wrong setting.

    The message is one sentence that says what is wrong and what to do. The command line prints it without a
    traceback and exits with code 1; library callers may catch it.
    """

    exit_code = 1


class OutOfTime(UserError):
    """A run has used up its `training.minutes`; the same command goes on. The exit code is 75, sysexits' "try again later"."""

    exit_code = 75


def exit_code(program: str, main: Callable[[], int | None]) -> int:
    """Runs a program; returns its exit code: its own, that of a UserError, 130 if interrupted, both told in one line."""
    try:
        return main() or 0
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
