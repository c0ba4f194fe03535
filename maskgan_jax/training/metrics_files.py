"""The numbers and images of a run, for programs and for people."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
from tensorboardX import SummaryWriter

from maskgan_jax.files import write_png, write_text


class MetricsFiles:
    """`metrics.jsonl`, TensorBoard event files and `pictures/` in the folder of a run; written by process 0 alone."""

    def __init__(self, workdir: Path, start: int):
        """Opens the files in `workdir`, and drops what was written after step `start`: that part of the run comes again."""
        self.first = jax.process_index() == 0
        if not self.first:
            return
        self.workdir = workdir
        path = workdir / "metrics.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= start:
                        kept.append(line + "\n")
                except ValueError:  # The last line of a run that was killed while it wrote.
                    continue
        write_text(path, "".join(kept))
        self.lines = path.open("a")
        self.board = SummaryWriter(str(workdir), purge_step=start + 1)

    def write(self, step: int, phase: str, values: dict[str, float]) -> None:
        """Writes values as of `step`, under `phase` ('train' or 'validation')."""
        if not self.first:
            return
        self.lines.write(json.dumps({"step": step, "phase": phase, **values}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(f"{phase}/{name}", value, step)

    def draw(self, step: int, image: np.ndarray) -> None:
        """Writes an image `[H, W, 3]` uint8 as of `step`."""
        if not self.first:
            return
        write_png(self.workdir / "pictures" / f"step_{step:08d}.png", image)
        self.board.add_image("pictures", image, step, dataformats="HWC")

    def close(self) -> None:
        """Closes the files."""
        if self.first:
            self.lines.close()
            self.board.close()
