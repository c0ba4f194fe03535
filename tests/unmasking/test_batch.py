import errno
from pathlib import Path

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.unmasking.batch import unmask_each
from maskgan_jax.unmasking.inputs import Job

JOBS = [Job(Path(f"{name}.png"), Path(f"{name}.png")) for name in "abc"]


def failing_at_b(error):
    def unmask(job):
        if job.path.name == "b.png":
            raise error
        return f"{job.path}: done"

    return unmask


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("b.png is no photo"), "b.png is no photo"),
        (ValueError("not\nthat value"), "b.png: ValueError: not that value"),
        (MemoryError(), "b.png takes more memory than there is; make it smaller"),
        (RuntimeError("x" * 1000), f"b.png: RuntimeError: {'x' * 479}"),
    ],
)
def test_whatever_one_raises_the_others_are_done(error, told, capsys):
    assert unmask_each(JOBS, failing_at_b(error)) == 1
    captured = capsys.readouterr()
    assert captured.out == "a.png: done\nc.png: done\n"
    (line,) = [line for line in captured.err.replace("\r", "\n").split("\n") if "skipped" in line]
    # The bar of another test may still be open; then the cursor moves first.
    assert line.removeprefix("\x1b[A") == f"maskgan unmask: skipped: {told}"


def test_none_that_can_be_used_is_an_error():
    with pytest.raises(UserError, match="no input that was tried could be used"):
        unmask_each(JOBS[1:2], failing_at_b(UserError("no")))


def test_ctrl_c_ends_it_whatever_a_library_made_of_it():
    done = []

    def unmask(job):
        done.append(job)
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ValueError("while checking equality") from error

    with pytest.raises(ValueError, match="while checking"):
        unmask_each(JOBS, unmask)
    assert len(done) == 1


def test_a_full_disk_ends_it():
    done = []

    def unmask(job):
        done.append(job)
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise UserError("cannot write out/a.png (No space left on device)") from error

    with pytest.raises(UserError, match=r"cannot write out/a.png \(.*\); free some space, and go on with --resume"):
        unmask_each(JOBS, unmask)
    assert len(done) == 1
