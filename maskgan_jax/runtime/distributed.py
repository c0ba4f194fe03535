"""Training runs of several processes, each with devices of its own, and how any run learns that it must stop."""

from __future__ import annotations

import os
import socket
import time

import jax
from jax.experimental import multihost_utils

from maskgan_jax.errors import UserError
from maskgan_jax.runtime import signals

# After this time without a heartbeat a process counts as dead, and JAX ends the others; JAX's default is 100 seconds. (If the
# connections of a dead process are closed, the others notice at once.)
HEARTBEAT_SECONDS = 40

# How long the others wait for process 0 to listen: machines start at different times.
CONNECT_SECONDS = 300


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Makes this process one of several. Call it before anything that needs a device.

    Args:
      coordinator: HOST:PORT at which process 0 listens; None to get all three from SLURM, Open MPI, Cloud TPU or Kubernetes.
      processes: how many there are.
      process: which one this is, from 0.

    Raises:
      UserError: the other processes are not known, the address or the number is invalid, or process 0 cannot listen or be
        reached.
    """
    if coordinator is not None:
        if not 0 <= process < processes:
            raise UserError(f"there is no process {process} of {processes}; --process is from 0 to below --processes")
        _check_coordinator(coordinator, process)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            cluster_detection_method=None if coordinator is None else "deactivate",
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"cannot join the other processes ({str(error).rstrip('.')}); if SLURM, Open MPI, Cloud TPU or Kubernetes did not "
            "start them, give --coordinator=HOST:PORT, --processes=N and --process=I"
        ) from error


def _check_coordinator(address: str, process: int) -> None:
    """Raises UserError where JAX would abort this process without saying what to do."""
    host, _, port = address.rpartition(":")
    if not _is_host(host) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(
            f"--coordinator={address} is not HOST:PORT; give a name or address and a free port of process 0's machine"
        )
    if process == 0:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise UserError(
                f"cannot listen at port {port} ({os.strerror(error.errno)}); give all processes another --coordinator"
            ) from error
        return
    end = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"process 0 does not answer at {address} ({error.strerror or error}); start it, or correct --coordinator"
                ) from error
        time.sleep(0.5)


def _is_host(name: str) -> bool:
    """Whether a name can be looked up at all: Python's sockets refuse others, such as `node..cluster`, with UnicodeError."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def must_stop(step: int) -> bool:
    """Whether SIGTERM has arrived, here or at another process, and all processes are to save after `step` and end."""
    # JAX handles SIGTERM in a run of several processes, and sees to it that all stop at the same step.
    return multihost_utils.reached_preemption_sync_point(step) if jax.process_count() > 1 else signals.stop_requested()
