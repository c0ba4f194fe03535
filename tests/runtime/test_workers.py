import os

import cv2
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.runtime.workers import mapped, number_of_workers


def test_mapped_keeps_the_order_and_passes_errors_on():
    assert list(mapped(abs, range(-50, 0), workers=3)) == list(range(50, 0, -1))
    with pytest.raises(TypeError):
        list(mapped(abs, [1, "x"], workers=2))


def test_work_in_the_calling_process_leaves_its_threads_alone():
    threads = cv2.getNumThreads()
    assert list(mapped(lambda _: cv2.getNumThreads(), [0], workers=1)) == [1]
    assert cv2.getNumThreads() == threads


def run_out_of_memory(_):
    raise MemoryError


@pytest.mark.parametrize("workers", [1, 2])
def test_lack_of_memory(workers):
    with pytest.raises(UserError, match="memory.*; use fewer --workers"):
        list(mapped(run_out_of_memory, [0], workers))


def test_accelerators_are_left_to_the_parent(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    assert list(mapped(os.getenv, ["JAX_PLATFORMS"] * 3, 2)) == ["cpu"] * 3
    assert os.environ["JAX_PLATFORMS"] == "tpu"


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert (number_of_workers(2), number_of_workers(0)) == (2, 3)
    with pytest.raises(UserError, match="--workers=-1: give a number of processes, or 0 for one per core"):
        number_of_workers(-1)
