from functools import partial

import jax
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.training import checkpoints
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.step import create_state

SMALL = ["data.size=64", "input.batch_size=4", "generator.width=4", "discriminator.width=4", "losses.contour=0.0"]


@pytest.fixture
def workdir(config, tmp_path):
    """Of a run with a checkpoint, which is at work: another one is being written."""
    state = jax.jit(partial(create_state, GAN(config), config, 1))(jax.random.key(0))
    with checkpoints.open_checkpoints(tmp_path) as manager:
        checkpoints.save_state(manager, state, config)
    (tmp_path / "checkpoints" / "1.orbax-checkpoint-tmp").mkdir()
    return tmp_path


@pytest.fixture
def measure(load_tool, data_dir, workdir):
    tool = load_tool("measure_gradients")
    flags = ["--config=default", f"--data_dir={data_dir}", f"--workdir={workdir}", "--batches=1"]
    return lambda *more: tool.main([*flags, *(f"--config.{setting}" for setting in (*SMALL, *more))])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_terms_are_told_and_the_workdir_is_left_alone(measure, workdir, capsys):
    before = contents(workdir)
    measure()
    first, _, *rows = capsys.readouterr().out.splitlines()
    assert first == "after 0 steps, 1 batches of 4"
    assert [row.split()[0] for row in rows] == ["adversarial", "feature_matching", "l1", "masked"]
    numbers = {name: list(map(float, values)) for name, *values in map(str.split, rows)}
    assert all(value > 0 and 0 < inside <= whole for value, inside, whole, *_ in numbers.values())
    value, inside, whole, weight, weighted, _ = numbers["masked"]
    assert inside == whole and weighted == pytest.approx(weight * inside, rel=1e-3)
    assert contents(workdir) == before


def test_another_config(measure):
    with pytest.raises(UserError, match="does not fit the config; give the config of its run"):
        measure("generator.width=8")


def test_no_batches(load_tool):
    with pytest.raises(UserError, match="--batches=0: give at least 1"):
        load_tool("measure_gradients").main(["--config=default", "--data_dir=DATA", "--workdir=RUN", "--batches=0"])
