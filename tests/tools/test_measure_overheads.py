import json

import jax
import pytest

from maskgan_jax.errors import UserError


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("measure_overheads")


@pytest.fixture
def flags(data_dir):
    small = ["data.size=64", "input.batch_size=4", "landmark_net.width=4", "training.log_every=1", "task=landmarks"]
    return ["--config=default", f"--data_dir={data_dir}", *(f"--config.{setting}" for setting in small)]


def test_what_the_losses_add(tool, config, landmark_file, data_dir, monkeypatch):
    """The clock shows not seconds but the terms of the loss that the steps computed."""
    terms_of_steps = []

    def counted(task, config, steps, state, *rest):
        jax.debug.callback(lambda: terms_of_steps.append(len({"l1", "contour", "masked"} & set(task.terms))))
        return state.replace(step=state.step + 1), {}

    monkeypatch.setattr(tool, "train_step", counted)
    monkeypatch.setattr(tool.time, "perf_counter", lambda: sum(terms_of_steps))
    config.landmark_net.weights = str(landmark_file)
    config.losses.contour = 0.3
    # Three terms in the one, L1 alone in the other.
    assert tool.losses_share(config, data_dir, pairs=1, steps=1) == 2.0


def test_what_a_run_adds(tool, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "INTERVAL", 2)
    tool.main([*flags, f"--out={tmp_path / 'numbers.json'}"])
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert set(numbers) == {"step_seconds", "input_wait", "parts", "share_of_run"}
    assert numbers["step_seconds"] > 0 and 0 <= numbers["input_wait"] < 1
    assert set(numbers["parts"]) == {"log", "validation, pictures", "checkpoint", "best network"}
    for name, part in numbers["parts"].items():
        every = 1 if name == "log" else 4  # An epoch has four steps.
        assert part["share_of_run"] == pytest.approx(part["seconds"] / (every * numbers["step_seconds"]))
    assert numbers["share_of_run"] == pytest.approx(sum(part["share_of_run"] for part in numbers["parts"].values()))
    assert f"| all of these parts | | {numbers['share_of_run']:.2%} |" in capsys.readouterr().out


def test_nothing_to_measure(tool, flags):
    with pytest.raises(UserError, match="--pairs=0: give at least 1"):
        tool.main([*flags, "--pairs=0"])
    with pytest.raises(UserError, match="has 16 training records, fewer than a batch of 32; give more"):
        tool.main([*flags, "--config.input.batch_size=32"])


def test_a_file_that_cannot_be_written_is_told_before_the_work(tool, flags, monkeypatch):
    monkeypatch.setattr(tool, "run_shares", None)
    with pytest.raises(UserError, match="cannot write /proc/numbers.json"):
        tool.main([*flags, "--out=/proc/numbers.json"])
