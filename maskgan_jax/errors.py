"""Errors whose message is meant for the user, and the exit codes of programs."""

from __future__ import annotations

import sys
from collections.abc import Callable


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


def exit_code(program: str, main: Callable[[], int | None]) -> int:
    """Runs `main`; returns its exit code, that of a UserError, or 130 if interrupted. The latter two print one line."""
    try:
        return main() or 0
    except UserError as error:
        told = "" if isinstance(error, Unfinished) else "error: "
        print(f"{program}: {told}{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
