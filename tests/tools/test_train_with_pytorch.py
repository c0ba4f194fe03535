import json
import shutil

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.metrics.evaluation import evaluate
from maskgan_jax.training.loop import train


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("train_with_pytorch")


@pytest.fixture(scope="module")
def run(make_config, data_dir, landmark_file, tmp_path_factory):
    """A run of a few steps, without dropout, with a rate that falls, all terms, and a log at uneven steps."""
    config = make_config()
    config.generator.dropout = 0.0
    config.losses.contour = 0.1
    config.landmark_net.weights = str(landmark_file)
    config.optimizer.learning_rate = 2e-3
    config.optimizer.constant = 0.2
    config.training.update(steps=7, log_every=2, validate_every=3, checkpoint_every=7)
    folder = tmp_path_factory.mktemp("run")
    train(config, data_dir, folder)
    return folder


def test_terms_of_every_step_and_the_network_are_ours(tool, run, data_dir, tmp_path, capsys):
    pytest.importorskip("torch")
    out = tmp_path / "pytorch"
    tool.main([str(run), f"--data_dir={data_dir}", f"--out={out}"])
    ours, theirs = tool.terms_of(run), json.loads((out / "terms.json").read_text())
    assert ours.keys() == {"discriminator", "adversarial", "l1", "masked", "contour"} == theirs.keys() - {"generator"}
    for name, (steps, values) in ours.items():
        assert steps == theirs[name][0] == [2, 3, 4, 6, 7]
        # They drift apart from the last digit on. Another batch or rate would show at once.
        assert values == pytest.approx(theirs[name][1], rel=2e-3), name
        assert len({f"{value:.3g}" for value in values}) > 3, name
    last = str(run / "checkpoints" / "7")
    scores = [evaluate("ours", data_dir, workdir=network) for network in (last, out / "generator.safetensors")]
    assert scores[0]["mse_masked"] == pytest.approx(scores[1]["mse_masked"], rel=5e-3)
    height, width, _ = read_image(out / "losses.png").shape
    assert (width, height) == (5 * 320, 256)
    assert f"are in {out}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"ema": 0.9}}, "the run has optimizer.ema=0.9; the step in PyTorch is for 0.0 only"),
        ({"task": "landmarks"}, "the run has task='landmarks'"),
        ({"generator": {"architecture": "residual"}}, "the run has generator.architecture='residual'"),
        ({"generator": {"inpaints": True}}, "the run has generator.inpaints=True"),
        ({"generator": {"upsampling": "nearest"}}, "the run has generator.upsampling='nearest'"),
        ({"discriminator": {"norm": "batch"}}, "the run has discriminator.norm='batch'"),
    ],
)
def test_what_pytorch_does_not_do(tool, run, data_dir, tmp_path, changes, message):
    config = json.loads((run / "config.json").read_text())
    for name, value in changes.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        tool.main([str(tmp_path), f"--data_dir={data_dir}", f"--out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_a_log_that_cannot_be_read(tool, tmp_path):
    with pytest.raises(UserError, match="metrics.jsonl has no steps of a mask remover"):
        tool.terms_of(tmp_path / "nowhere")
    for content in (b"[]", b"{}", b"}", b'{"step": 1, "phase": "validation"}', b"\xff\xfe"):
        (tmp_path / "metrics.jsonl").write_bytes(content)
        with pytest.raises(UserError, match="metrics.jsonl has no steps of a mask remover"):
            tool.terms_of(tmp_path)


@pytest.mark.parametrize(("flags", "seed"), [([], 0), (["--seed=3"], 3)])
def test_seed_of_dropout(tool, run, data_dir, tmp_path, monkeypatch, flags, seed):
    torch = pytest.importorskip("torch")

    def manual_seed(seed):
        raise UserError(f"seed {seed}")

    monkeypatch.setattr(torch, "manual_seed", manual_seed)
    with pytest.raises(UserError, match=f"^seed {seed}$"):
        tool.main([str(run), f"--data_dir={data_dir}", f"--out={tmp_path / 'out'}", *flags])


@pytest.mark.parametrize(
    ("name", "message"), [("data", "another data set than "), ("landmark_net", "another landmark network than its config")]
)
def test_another_data_set_and_another_landmark_network(tool, run, data_dir, tmp_path, name, message):
    pytest.importorskip("torch")
    config = json.loads((run / "config.json").read_text())
    config["digests"][name] = "0" * 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(run / "metrics.jsonl", tmp_path)
    with pytest.raises(UserError, match=message):
        tool.main([str(tmp_path), f"--data_dir={data_dir}", f"--out={tmp_path / 'out'}"])


def test_a_run_that_is_not_finished(tool, run, data_dir, tmp_path):
    pytest.importorskip("torch")
    shutil.copy(run / "config.json", tmp_path)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[:2]))
    with pytest.raises(UserError, match="the run has 7 steps, and its log ends with step 3; let it come to its end first"):
        tool.main([str(tmp_path), f"--data_dir={data_dir}", f"--out={tmp_path / 'out'}"])
