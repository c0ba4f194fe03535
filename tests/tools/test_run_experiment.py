import json
from xml.etree import ElementTree

import pytest

from maskgan_jax.config import load_config
from maskgan_jax.errors import UserError


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("run_experiment")


@pytest.fixture
def card(tmp_path):
    """A folder that has as much of a data set as the list of runs needs."""
    (tmp_path / "card.json").write_text(json.dumps({"splits": {"train": {"records": 4100}}}))
    return tmp_path


def test_large_batches_have_equal_epochs(tool, card):
    runs = tool.large_batches(card)
    assert len(runs) == 19 * 4 and "instance_warmup_linear_512_seed1" in runs
    for options in runs.values():
        config = load_config(options[0].partition("=")[2], options[1:])
        steps = config.training.validate_every
        assert steps == 10 * (4100 // config.input.batch_size) and config.training.epochs == 10
        assert config.optimizer.warmup < steps / 10 and config.optimizer.scaling_batch == 16
    config = load_config("pix2pix", runs["batch_warmup_sqrt_64_seed0"][1:])
    assert (config.generator.norm, config.discriminator.norm, config.optimizer.warmup) == ("batch", "batch", 32)
    # They differ in what their names tell, and in nothing else.
    assert len({tuple(options) for options in runs.values()}) == len(runs)


def test_report_of_large_batches(tool, tmp_path):
    scores = {
        "instance_warmup_none_8_seed0": {"mse_masked": 1000.0},
        "instance_warmup_none_8_seed1": {"mse_masked": 1100.0},
        "instance_warmup_none_16_seed0": {"mse_masked": 900.0},
        "instance_cold_sqrt_512_seed0": {"mse_masked": 3000.4},
    }
    lines = list(tool.report_large_batches(tmp_path, scores))
    assert "| 8 | 1050 (100) |  |  |" in lines
    assert "| 16 | 900 | 900 | 900 |" in lines  # The batch that the learning rate is for.
    assert "| 512 |  | 3000 |  |" in lines
    chart = ElementTree.parse(tmp_path / "instance_norm_warmup.svg").getroot()
    assert len(chart.findall("{http://www.w3.org/2000/svg}polyline")) == 3
    assert (tmp_path / "instance_norm_cold.svg").is_file()


def test_runs_are_trained_scored_and_not_done_again(tool, data_dir, tmp_path, monkeypatch, capsys):
    small = ["--config=pix2pix", "--config.data.size=64", "--config.generator.width=4", "--config.discriminator.width=4"]
    small += ["--config.input.batch_size=4", "--config.training.steps=1", "--config.training.pictures=1"]
    monkeypatch.setitem(
        tool.EXPERIMENTS, "small", (lambda _: {"a": small}, lambda _, scores: [f"{scores['a']['mse_masked']:.0f}"])
    )
    arguments = ["small", f"--data_dir={data_dir}", f"--out={tmp_path}"]
    tool.main(arguments)
    scores = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert scores["mse_masked"] > 0 and scores["split"] == "test"
    assert f"1 of 1 runs are done\n{scores['mse_masked']:.0f}" in capsys.readouterr().out

    def fail(*_):
        raise AssertionError("it is done")

    monkeypatch.setattr(tool, "_maskgan", fail)
    tool.main(arguments)


def test_a_run_that_fails(tool, data_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(tool.EXPERIMENTS, "bad", (lambda _: {"a": ["--config=nowhere"]}, lambda *_: []))
    with pytest.raises(UserError, match="ended with code 1; see above, then start again"):
        tool.main(["bad", f"--data_dir={data_dir}", f"--out={tmp_path}"])


def test_no_data_set(tool, tmp_path):
    with pytest.raises(UserError, match="there is no data set in"):
        tool.main(["large_batches", f"--data_dir={tmp_path / 'none'}", f"--out={tmp_path}"])
