"""The one exception whose text is written for the person at the keyboard."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, a wrong setting.

    The message is one sentence that says what is wrong and what to do. The command line prints it without a
    traceback and exits with code 1; library callers may catch it.
    """


def exit_code(program: str, main: Callable[[], int | None]) -> int:
    """Runs a program; returns its exit code: its own, 1 after a UserError, 130 if interrupted, both told in one line."""
    try:
        return main() or 0
    except UserError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
