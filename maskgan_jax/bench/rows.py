"""What can be measured, each with a name."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured.

    `work` is 'pix2pix' or 'proposed', a training step of the U-Net with those losses; 'inference', of the U-Net; or 'unmask',
    inference of the residual generator of `configs/default_model.py`, the default of `maskgan unmask`.
    """

    work: str
    size: int
    width: int
    batch: int

    @property
    def name(self) -> str:
        """Such as '128/pix2pix', '256/pix2pix-64' and '128/inference-8'."""
        is_usual = not self.is_inference and self.batch == TRAINING_BATCHES.get(self.size)
        return f"{self.size}/{self.work}" + ("" if is_usual else f"-{self.batch}")

    @property
    def is_inference(self) -> bool:
        """Whether a network is only run, not trained."""
        return self.work in ("inference", "unmask")


# On CPUs, by the side of the images.
TRAINING_BATCHES = {128: 8, 256: 4}
ROWS = (
    *(
        Row(work, size, width, batch or TRAINING_BATCHES[size])
        for size, width in ((128, 32), (256, 64))
        for work, batch in (("pix2pix", None), ("proposed", None), ("inference", 1), ("inference", 8))
    ),
    *(Row("unmask", 256, 32, batch) for batch in (1, 8)),
)
GPU_ROWS = tuple(Row(work, 256, 64, batch) for work in ("pix2pix", "inference") for batch in (1, 16, 64, 256))
