import json

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.config import load_config, save_config
from maskgan_jax.configs import default
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("run_experiment")


@pytest.fixture
def card(tmp_path):
    """A folder that has as much of a data set as the list of runs needs."""
    (tmp_path / "card.json").write_text(json.dumps({"splits": {"train": {"records": 4100}}}))
    return tmp_path


@pytest.fixture
def built(tmp_path):
    """A folder that has as much of the experiment's data set as its list of runs needs."""
    save_config(tmp_path / "config.json", load_config("experiment"))
    return tmp_path


def test_large_batches_have_equal_epochs(tool, card):
    runs = tool.large_batches(card, card)
    # With warm-up: three scalings of four batches, and the batch that the learning rate is for; without: of three batches.
    assert len(runs) == 2 * (2 * (3 * 4 + 1) + 3 * 3) and "instance_cold_linear_512_seed1" in runs
    for options in (run.train for run in runs.values()):
        config = load_config(options[0].partition("=")[2], options[1:])
        steps = config.training.validate_every
        assert steps == 5 * (4100 // config.input.batch_size) and config.training.epochs == 5
        assert config.optimizer.warmup <= steps / 8 and config.optimizer.scaling_batch == 16
    config = load_config("pix2pix", runs["batch_warmup_sqrt_64_seed0"].train[1:])
    assert (config.generator.norm, config.discriminator.norm, config.optimizer.warmup) == ("batch", "batch", 32)
    # They differ in what their names tell, and in nothing else.
    assert len({tuple(run.train) for run in runs.values()}) == len(runs)


def test_report_of_large_batches(tool, tmp_path):
    scores = {
        "instance_warmup_none_8_seed0": {"mse_masked": 1000.0, "st_lpips": 0.1},
        "instance_warmup_none_8_seed1": {"mse_masked": 1100.0, "st_lpips": 0.3},
        "instance_warmup_none_16_seed0": {"mse_masked": 900.0, "st_lpips": 0.25},
        "instance_cold_sqrt_512_seed0": {"mse_masked": 3000.4, "st_lpips": 0.5},
    }
    lines = list(tool.report_large_batches(tmp_path, scores))
    assert "| instance norm, with warm-up | 8 | 1050 (100) |  |  | 0.200 (0.200) |  |  |" in lines
    # The batch that the learning rate is for.
    assert "| instance norm, with warm-up | 16 | 900 | 900 | 900 | 0.250 | 0.250 | 0.250 |" in lines
    assert "| instance norm, without warm-up | 512 |  | 3000 |  |  | 0.500 |  |" in lines and len(lines) == 7
    height, width, _ = read_image(tmp_path / "large_batches.png").shape
    assert (width, height) == (900, 600)  # A column for each of the two kinds, a row for each metric.
    assert list(tool.report_large_batches(tmp_path / "nothing", {})) == []


def test_runs_are_trained_scored_and_not_done_again(tool, data_dir, tmp_path, monkeypatch, capsys):
    small = ["--config=pix2pix", "--config.data.size=64", "--config.generator.width=4", "--config.discriminator.width=4"]
    small += ["--config.input.batch_size=4", "--config.training.steps=1", "--config.training.pictures=1"]
    runs = {"telea": tool.Run([], ["--method=telea"]), "a": tool.Run(small, [])}

    def report(_, scores):
        return [f"{scores['a']['mse_masked']:.0f}"]

    start_process = tool._maskgan

    def maskgan(arguments):
        """A process for the baseline only: one that trains has much to import and to compile."""
        if "--method=telea" in arguments and not any("scores_again" in argument for argument in arguments):
            start_process(arguments)
        else:
            assert main(arguments) == 0

    monkeypatch.setattr(tool, "_maskgan", maskgan)
    monkeypatch.setitem(tool.EXPERIMENTS, "small", (lambda *_: runs, report))
    arguments = ["small", f"--data_dir={data_dir}", f"--out={tmp_path}", f"--test=again={data_dir}"]
    tool.main(arguments)
    scores = json.loads((tmp_path / "a" / "scores.json").read_text())
    assert scores["mse_masked"] > 0 and scores["split"] == "test"
    again = json.loads((tmp_path / "a" / "scores_again.json").read_text())
    assert again | {"seconds_per_image": 0} == scores | {"seconds_per_image": 0}
    assert json.loads((tmp_path / "telea" / "scores.json").read_text())["method"] == "telea"
    assert f"2 of 2 runs are done\n{scores['mse_masked']:.0f}" in capsys.readouterr().out

    def fail(*_):
        raise AssertionError("it is done")

    monkeypatch.setattr(tool, "_maskgan", fail)
    tool.main(arguments)


def test_epochs_are_scored_too(tool, card, built, tmp_path, monkeypatch):
    save_config(tmp_path / "proposed" / "config.json", load_config("cpu", ["--config.input.batch_size=30"]))
    done = []
    monkeypatch.setattr(tool, "_maskgan", done.append)
    run = tool.paper(built, tmp_path)["proposed"]
    (tmp_path / "proposed" / "epoch_2.json").touch()
    tool.train_and_score(run, {"": card}, tmp_path / "proposed")
    config = load_config("cpu", [flag for flag in done[0] if flag.startswith("--config.")])
    assert config.training.keep_epochs == (1, 2, 3, 6) and config.training.epochs == 10
    # Of 4,100 records.
    steps = [flag for call in done for flag in call if flag.startswith("--step")]
    assert steps == ["--step=last", *(f"--step={136 * epoch}" for epoch in (1, 3, 6))]
    done.clear()
    tool.train_and_score(tool.paper(built, tmp_path)["map"], {"": card}, tmp_path / "map")
    # The latter counts: that of which `yi` is made.
    assert [flag for flag in done[1] if flag.startswith("--step")] == ["--step=last", "--step=best"]


@pytest.mark.parametrize(("part", "names"), [("1/2", "acf"), ("2/2", "bd"), ("3/3", "c"), ("1/1", "abcdf")])
def test_part_of_the_runs(tool, data_dir, tmp_path, monkeypatch, part, names):
    done = []
    monkeypatch.setitem(tool.EXPERIMENTS, "five", (lambda *_: {name: tool.Run([], []) for name in "abcdf"}, lambda *_: []))
    monkeypatch.setattr(tool, "train_and_score", lambda run, tests, workdir: done.append(workdir.name))
    tool.main(["five", f"--data_dir={data_dir}", f"--out={tmp_path}", f"--part={part}"])
    assert "".join(done) == names


def test_only_the_runs_that_are_named(tool, data_dir, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(tool, "train_and_score", lambda run, tests, workdir: done.append(workdir.name))
    tool.main(["paper", f"--data_dir={data_dir}", f"--out={tmp_path}", "--only=map,yi,landmarks"])
    assert done == ["map", "yi", "landmarks"]
    with pytest.raises(UserError, match="--only: paper has no run 'other'; it has landmarks, map, pix2pix, "):
        tool.main(["paper", f"--data_dir={data_dir}", f"--out={tmp_path}", "--only=map,other"])


def test_settings_go_to_every_training(tool, data_dir, tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(tool, "train_and_score", lambda run, tests, workdir: done.append(run.train))
    arguments = ["paper", f"--data_dir={data_dir}", f"--out={tmp_path}"]
    tool.main([*arguments, "--only=map,yi,telea", "--config.input.processes=12"])
    assert [train[-1:] for train in done] == [["--config.input.processes=12"], ["--config.input.processes=12"], []]
    with pytest.raises(SystemExit, match="2"):
        tool.main([*arguments, "--reprot"])
    assert "unrecognized arguments: --reprot" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", ["paper", "table_1"])
def test_runs_that_need_each_other_are_not_divided(tool, data_dir, tmp_path, experiment):
    with pytest.raises(UserError, match="need each other"):
        tool.main([experiment, f"--data_dir={data_dir}", f"--out={tmp_path}", "--part=1/2"])


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "1/0", "-1/2"])
def test_a_part_that_there_is_not(tool, data_dir, tmp_path, capsys, part):
    with pytest.raises(SystemExit, match="2"):
        tool.main(["paper", f"--data_dir={data_dir}", f"--out={tmp_path}", f"--part={part}"])
    assert f"{part!r} is no part; give K/N" in capsys.readouterr().err


def test_a_run_that_fails(tool, data_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(tool.EXPERIMENTS, "bad", (lambda *_: {"a": tool.Run(["--config=nowhere"], [])}, lambda *_: []))
    with pytest.raises(UserError, match="ended with code 1; see above, then start again"):
        tool.main(["bad", f"--data_dir={data_dir}", f"--out={tmp_path}"])


def test_the_papers_systems_differ_in_what_they_are_named_for(tool, built, tmp_path):
    runs = tool.paper(built, tmp_path)
    configs = {name: load_config(run.train[0].partition("=")[2], run.train[1:]) for name, run in runs.items() if run.train}
    systems = {name: config for name, config in configs.items() if config.task == "unmask"}
    assert systems.keys() == {
        *("pix2pix", "proposed", "contour", "contour_x5", "masked", "yi", "default"),
        *("pix2pix_seed1", "proposed_seed1"),
    }
    for name, config in systems.items():
        assert config.generator.width == (16 if name == "yi" else 32)
        assert (config.data.size, config.input.batch_size, config.training.epochs, config.data.zoom) == (128, 16, 10, 1)
        assert config.discriminator.width == 32 and config.seed == name.endswith("seed1")
    weights = {name: (config.losses.contour > 0, config.losses.masked > 0) for name, config in systems.items()}
    assert systems["contour_x5"].losses.contour == 5 * systems["contour"].losses.contour
    assert [weights[name] for name in ("pix2pix", "contour", "masked", "proposed")] == [
        *((False, False), (True, False), (False, True), (True, True))
    ]
    assert systems["yi"].segmentation_net.weights == str(tmp_path / "map") and weights["yi"] == (False, False)
    # What they need is trained before them.
    assert list(runs)[:2] == ["landmarks", "map"] and runs["telea"].train == []


def test_sizes_are_those_of_the_data(tool, tmp_path):
    """So the paper's own size takes one line of configs/experiment.py, or flags of the build."""
    config = default.get_config()
    config.training.compute = "bfloat16"
    save_config(tmp_path / "config.json", config)
    for name, run in tool.paper(tmp_path, tmp_path).items():
        config = load_config(run.train[0].partition("=")[2], run.train[1:]) if run.train else None
        if config and config.task == "unmask":
            assert (config.generator.width, config.discriminator.width) == (32 if name == "yi" else 64, 64)
            assert (config.optimizer.learning_rate, config.training.epochs) == (2e-4, 300)
            assert config.training.compute == "bfloat16"
            assert config.training.keep_epochs == ((1, 2, 3, 6, 10, 30, 60, 100) if name == "proposed" else ())
        assert not config or (config.data.size, config.data.zoom) == (256, 1)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="has no config.json, from which the runs take their sizes; build the data set again"):
        tool.paper(tmp_path, tmp_path)


def test_a_run_of_one_epoch_keeps_no_other(tool, tmp_path):
    config = load_config("experiment", ["--config.training.epochs=1.0"])
    save_config(tmp_path / "config.json", config)
    run = tool.paper(tmp_path, tmp_path)["proposed"]
    assert load_config("paper", run.train[1:]).training.keep_epochs == run.epochs == ()


def test_table_1_has_the_papers_epochs(tool, tmp_path):
    runs = tool.table_1(tmp_path, tmp_path)
    configs = {name: load_config(run.train[0].partition("=")[2], run.train[1:]) for name, run in runs.items()}
    assert [*configs] == ["landmarks", "proposed"] and {config.data.size for config in configs.values()} == {64}
    proposed = configs["proposed"]
    assert proposed.training.epochs == 300 and proposed.training.keep_epochs == runs["proposed"].epochs == (10, 30, 60, 100)
    assert proposed.landmark_net.weights == str(tmp_path / "landmarks")
    assert min(proposed.losses.contour, proposed.losses.masked) > 0


def test_report_of_the_paper(tool, tmp_path):
    scores = dict(zip(("mse_masked", "psnr", "ssim", "st_lpips"), (1234.5, 25.123, 0.9, 0.05), strict=True))
    (tmp_path / "pix2pix").mkdir()
    for epoch in (30, 6):
        (tmp_path / "pix2pix" / f"epoch_{epoch}.json").write_text(json.dumps(scores | {"psnr": float(epoch)}))
    lines = list(tool.report_paper(tmp_path, {"landmarks": {"error": 1.0}, "pix2pix": scores}))
    assert lines[2:] == [
        "| pix2pix, epoch_6 | 1234 | 6.00 | 0.9000 | 0.0500 |",
        "| pix2pix, epoch_30 | 1234 | 30.00 | 0.9000 | 0.0500 |",
        "| pix2pix | 1234 | 25.12 | 0.9000 | 0.0500 |",
    ]


@pytest.mark.parametrize("test", ["unseen", "unseen=/nowhere", "=/nowhere"])
def test_a_test_set_that_is_not_there(tool, data_dir, tmp_path, test):
    with pytest.raises(UserError, match="give NAME=DIR, where DIR is a data set"):
        tool.main(["paper", f"--data_dir={data_dir}", f"--out={tmp_path}", f"--test={test}"])


def test_no_data_set(tool, tmp_path):
    with pytest.raises(UserError, match="there is no data set in"):
        tool.main(["large_batches", f"--data_dir={tmp_path / 'none'}", f"--out={tmp_path}"])


def test_damaged_files(tool, data_dir, tmp_path):
    (tmp_path / "card.json").write_text("{}")
    with pytest.raises(UserError, match="tells of no training split"):
        tool.main(["large_batches", f"--data_dir={tmp_path}", f"--out={tmp_path}"])
    (tmp_path / "pix2pix").mkdir()
    (tmp_path / "pix2pix" / "scores.json").write_text("{")
    with pytest.raises(UserError, match="scores.json is damaged"):
        tool.main(["paper", f"--data_dir={data_dir}", f"--out={tmp_path}", "--report"])
