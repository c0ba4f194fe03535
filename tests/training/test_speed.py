import time

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.training import speed as module
from maskgan_jax.training.mesh import create_mesh
from maskgan_jax.training.speed import Speed
from maskgan_jax.training.tasks import create_task


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rates_are_those_since_the_restart(clock, config, monkeypatch):
    monkeypatch.setattr(module, "count_flops", lambda *_: 3e9)
    config.training.peak_tflops = 0.5
    mesh = create_mesh(config)
    speed = Speed(create_task(config), config, mesh)
    clock[0] += 50
    speed.waited = 9
    speed.restart()
    speed.waited += 0.5
    clock[0] += 2
    values = speed.values(steps=10)
    pictures = 10 * config.input.batch_size / 2
    assert values == pytest.approx(
        {
            "pictures_per_second": pictures,
            "images_per_second_per_device": pictures / mesh.size,
            "flop_utilization": 10 * 3e9 / 2 / (mesh.size * 0.5e12),
            "input_wait": 0.25,
        }
    )


def test_without_a_known_peak_there_is_no_utilization(clock, config):
    speed = Speed(create_task(config), config, create_mesh(config))
    clock[0] += 1
    assert speed.values(steps=1).keys() == {"pictures_per_second", "images_per_second_per_device", "input_wait"}


def test_without_the_cpu_there_is_no_utilization(clock, config, monkeypatch, capsys):
    """As with JAX_PLATFORMS=cuda; the run goes on."""

    def refuse(*_):
        raise UserError("the CPU counts FLOPs")

    monkeypatch.setattr(module, "count_flops", refuse)
    config.training.peak_tflops = 0.5
    speed = Speed(create_task(config), config, create_mesh(config))
    clock[0] += 1
    assert speed.values(steps=1).keys() == {"pictures_per_second", "images_per_second_per_device", "input_wait"}
    assert "flop_utilization is not logged: the CPU counts FLOPs" in capsys.readouterr().out
