"""The one exception whose text is written for the person at the keyboard."""


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, a wrong setting.

    The message is one sentence that says what is wrong and what to do. The command line prints it without a
    traceback and exits with code 1; library callers may catch it.
    """
