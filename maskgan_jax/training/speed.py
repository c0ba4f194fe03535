"""How fast a training run goes."""

from __future__ import annotations

import time

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from maskgan_jax.errors import UserError
from maskgan_jax.runtime.chips import chip_of
from maskgan_jax.training.abstract import count_flops
from maskgan_jax.training.state import Task


class Speed:
    """The speed since the last `restart`.

    Attributes:
      waited: seconds that the loop waited for records while the devices had nothing left to do; the caller adds to them.
    """

    def __init__(self, task: Task, config: ConfigDict, mesh: Mesh):
        """Starts counting, for a run on the devices of a mesh."""
        self._batch_size, self._devices = config.input.batch_size, mesh.size
        self._peak = _peak_flops(config)
        try:
            self._flops = count_flops(task, config) if self._peak else 0.0
        except UserError as error:
            self._peak = None
            if jax.process_index() == 0:
                print(f"flop_utilization is not logged: {error}")
        self.restart()

    def restart(self) -> None:
        """Counts from now on."""
        self._since, self.waited = time.monotonic(), 0.0

    def values(self, steps: int) -> dict[str, float]:
        """What is logged of the `steps` since then.

        pictures_per_second: of all devices; and `images_per_second_per_device`.
        flop_utilization: the step's FLOPs (see `count_flops`) over what the devices could do in its time, if their peak is in
          runtime/chips.py or given (`training.peak_tflops`), and if JAX_PLATFORMS does not leave out the CPU, which counts.
        input_wait: the fraction of the time, from 0 to 1, that was waited for records; waiting while the devices compute costs
          nothing. If they finish within one wait, all of it counts.
        """
        seconds = time.monotonic() - self._since
        rate = steps * self._batch_size / seconds
        values = {"pictures_per_second": rate, "images_per_second_per_device": rate / self._devices}
        if self._peak:
            values["flop_utilization"] = self._flops * rate / self._batch_size / (self._devices * self._peak)
        return {**values, "input_wait": self.waited / seconds}


def _peak_flops(config: ConfigDict) -> float | None:
    """FLOP/s that one device could do; None if that is not known."""
    chip = chip_of(jax.devices()[0].device_kind)
    return config.training.peak_tflops * 1e12 or (chip and chip.peak(config.training.compute))
