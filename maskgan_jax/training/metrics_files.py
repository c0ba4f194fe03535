"""The numbers and images of a run, for programs and for people."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_json, write_png, write_text
from maskgan_jax.run_files import EVENTS, METRICS, PICTURES, read_rows
from maskgan_jax.storage import Unreachable, is_remote, reaching


class MetricsFiles:
    """`metrics.jsonl`, TensorBoard event files and `pictures/` in the folder of a run; written by process 0 alone.

    Nothing can be appended to a file in a bucket. If the workdir is there, the files are written to a temporary folder, and
    those that have changed are copied at each flush.

    Attributes:
      folder: where the files are written: the workdir, or the temporary folder.
    """

    def __init__(self, workdir: Path | epath.Path, start: int, check: Callable[[], None] = lambda: None):
        """Opens the files in `workdir`, and drops what was written after step `start`: that part of the run comes again.

        `check` is called before anything is copied to a bucket, and raises UserError if the workdir is another run's by now.
        """
        self.check = check
        self.first = jax.process_index() == 0
        self.workdir = self.folder = workdir
        if is_remote(workdir):
            self.temporary = tempfile.TemporaryDirectory(prefix="maskgan-")
            self.folder = Path(self.temporary.name)
            self.copied: dict[Path, int] = {}
        if not self.first:
            return
        kept = [json.dumps(row) + "\n" for row in read_rows(workdir) if row["step"] <= start]
        path = self.folder / METRICS
        write_text(path, "".join(kept))
        self.lines = path.open("a")
        self.board = EventFile(self.folder)
        self.board.write(
            start + 1, session_log=SessionLog(status=SessionLog.START)
        )  # What is of this step and later is dropped.

    def write(self, step: int, phase: str, values: dict[str, float]) -> None:
        """Writes values as of `step`, under `phase` ('train' or 'validation'), and flushes.

        The line in `metrics.jsonl` comes last: a run that goes on takes it as a sign that the rest is there.
        """
        if not self.first:
            return
        for name, value in values.items():
            self.board.write(step, summary=summary.scalar(f"{phase}/{name}", value))
        self.board.flush()
        self.lines.write(json.dumps({"step": step, "phase": phase, **values}) + "\n")
        self.lines.flush()
        self.flush()

    def draw(self, step: int, image: np.ndarray) -> None:
        """Writes an image `[H, W, 3]` uint8 as of `step`, and flushes."""
        if not self.first:
            return
        write_png(self.folder / PICTURES / f"step_{step:08d}.png", image)
        self.board.write(step, summary=summary.image("pictures", image, dataformats="HWC"))
        self.board.flush()
        if is_remote(self.workdir):
            # Each flush copies whole files: TensorBoard's, of which there may be many, ends before it becomes large.
            self.board.close()
            self.board = EventFile(self.folder, f".{step}")
        self.flush()

    def write_json(self, name: str, value: Any) -> None:
        """Writes a file of its own, in place of the last one of this name, and flushes."""
        if self.first:
            write_json(self.folder / name, value)
            self.flush()

    def flush(self) -> None:
        """Copies what has changed to the bucket, if the workdir is in one; if it cannot be reached, at the next flush."""
        try:
            self._copy()
        except Unreachable as error:
            tqdm.write(f"{error}; the run goes on, and tries again")

    def __enter__(self) -> MetricsFiles:
        """Itself; `close` is called at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes the files; an error that is on its way is not replaced by another one."""
        try:
            self.close()
        except UserError as error:
            if kind is None:
                raise
            if isinstance(error, Unreachable):
                tqdm.write(str(error))

    def close(self) -> None:
        """Closes the files. Raises UserError if a bucket cannot be reached, or is another run's by now."""
        try:
            if self.first:
                try:
                    self.lines.close()
                finally:
                    self.board.close()
            self._copy()
        finally:
            if self.folder is not self.workdir:
                self.temporary.cleanup()  # A process of a run of several may end without its finalizers.

    def _copy(self) -> None:
        if self.folder is self.workdir:
            return
        self.check()
        for path in self.folder.rglob("*"):
            if path.is_file() and (version := path.stat().st_mtime_ns) != self.copied.get(path):
                target = self.workdir / path.relative_to(self.folder)
                with reaching(target):
                    target.write_bytes(path.read_bytes())
                self.copied[path] = version


class EventFile:
    """A file for TensorBoard.

    tensorboardX's `SummaryWriter` has a thread that writes it. On a full disk that prints tracebacks, and the run goes on.
    """

    def __init__(self, folder: Path, suffix: str = ""):
        """Opens a new file in a folder; `suffix` ends its name, which otherwise has the second and the host."""
        self._events = EventsWriter(str(folder / EVENTS), suffix)
        self.flush = self._events.flush

    def write(self, step: int, **content: Any) -> None:
        """Adds an event: a field of TensorBoard's `Event`, such as `summary`."""
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))

    def close(self) -> None:
        """Flushes and closes the file; also on a full disk, of which Python 3.13 would otherwise tell once more as it ends."""
        try:
            self._events.close()
        finally:
            self._events._py_recordio_writer.close()
