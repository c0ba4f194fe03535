"""A trace of some steps of a run, for XProf or TensorBoard."""

from __future__ import annotations

import sys
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from maskgan_jax.errors import UserError, describe
from maskgan_jax.run_files import PROFILE
from maskgan_jax.training.metrics_files import MetricsFiles


class Profiler:
    """Traces the steps that `training.profile` names into `profile/` in the folder of a run.

    As a context it also ends a trace whose last step does not come.
    """

    def __init__(self, config: ConfigDict, start: int, steps: int, writer: MetricsFiles):
        """`start` is the step after which the run goes on, `steps` its length; `writer` knows its folder."""
        first, last = config.training.profile or (0, 0)
        # A run that goes on in the middle of these steps traces the rest of them.
        self._first, self._last = max(first, start + 1), min(last, steps)
        self._writer = writer
        self._is_tracing = False

    def before(self, step: int) -> None:
        """Begins the trace if this step is its first."""
        if step == self._first <= self._last:
            jax.profiler.start_trace(str(self._writer.folder / PROFILE))
            self._is_tracing = True

    def after(self, step: int, results: Any) -> None:
        """Ends the trace if this step is its last, once its results are there."""
        if self._is_tracing and step == self._last:
            jax.block_until_ready(results)
            self._stop()
            self._writer.flush()

    def _stop(self) -> None:
        self._is_tracing = False
        jax.profiler.stop_trace()

    def __enter__(self) -> Profiler:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the trace, if there is one; an error that is on its way is not replaced by another one."""
        # After other errors, such as a lost process, the devices may never finish what is traced.
        if not self._is_tracing or not (kind is None or issubclass(kind, UserError | KeyboardInterrupt)):
            return
        try:
            self._stop()
        except Exception as error:  # XLA raises no exception types of its own.
            if kind is None:
                raise
            tqdm.write(f"the trace could not be written ({describe(error)})", file=sys.stderr)
