"""A lock that keeps two commands from writing to one folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from maskgan_jax.errors import UserError


@contextlib.contextmanager
def locked(path: Path, busy: str = "") -> Iterator[bool]:
    """Holds a lock on a folder, or on a file that is created if need be, until the block or this process ends.

    Args:
      path: the folder or file.
      busy: the message if another process holds the lock; without one, the lock is waited for.

    Yields:
      Whether the lock is held: some network file systems have no locks.

    Raises:
      UserError: another process holds the lock, and there is a message.
      OSError: `path` cannot be opened.
    """
    # Files are opened for writing, as NFS locks nothing else exclusively. A folder that is deleted meanwhile becomes no file.
    flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            held = _lock(descriptor, busy)
            # Whoever held the lock may have deleted the file after it was opened here: a lock on that keeps nobody out.
            if held and not _is_at(path, descriptor):
                continue
            yield held
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, busy: str) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError as error:
        raise UserError(busy) from error
    except OSError as error:
        return error.errno == errno.ESTALE  # Deleted by another computer, as `_is_at` finds; else there are no locks.
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return False
