"""Many inputs in turn: one that fails is reported, and the rest goes on."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from maskgan_jax.errors import UserError, describe, one_line
from maskgan_jax.unmasking.inputs import Job


def unmask_each(jobs: Sequence[Job], unmask: Callable[[Job], str | None], *, again: str = "--resume") -> int:
    """Unmasks inputs one after the other, with a progress bar.

    An input that fails, with any exception, is reported in one line on standard error. Ctrl-C ends the batch, even if a library
    turns it into another exception, and so does a full disk.

    Args:
      jobs: the inputs.
      unmask: does one; a line that it returns is printed.
      again: the flag to go on with when there is space again.

    Returns:
      How many inputs failed.

    Raises:
      UserError: all of them did, or the disk or quota is full.
    """
    failed = 0
    with tqdm(jobs, desc="unmask", unit="file", disable=len(jobs) == 1) as bar:
        for job in bar:
            try:
                line = unmask(job)
            except Exception as error:  # If no UserError, a fault of this program or of a library.
                causes = list(_causes(error))
                if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
                    raise
                if len(jobs) > 1 and any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
                    raise UserError(f"{error}; free some space, and go on with {again}") from error
                failed += 1
                tqdm.write(f"maskgan unmask: skipped: {one_line(_told(job, error))}", file=sys.stderr)
            else:
                if line:
                    tqdm.write(one_line(line))
    if failed == len(jobs):
        raise UserError("nothing was unmasked, because no input that was tried could be used; the lines above say why")
    return failed


def _told(job: Job, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{job.path} takes more memory than there is; make it smaller"
    return f"{job.path}: {describe(error, most=500)}"[:500]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and the chain of its causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
