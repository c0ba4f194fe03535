import jax
import numpy as np
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.occluders import occlude
from maskgan_jax.errors import UserError
from maskgan_jax.metrics import segmentation_accuracy
from maskgan_jax.metrics.segmentation_accuracy import evaluate_segmentation
from maskgan_jax.models.segmentation_net import SegmentationNet, create_segmentation_net
from maskgan_jax.networks.safetensors import load_safetensors, save_safetensors


@pytest.fixture(scope="module")
def make_file(make_config, draw_variables, tmp_path_factory):
    """What writes a segmentation network for faces of some size and zoom."""

    def make(size=64, zoom=1.0):
        config = make_config()
        config.task, config.data.size, config.data.zoom, config.segmentation_net.width = "segmentation", size, zoom, 4
        variables = draw_variables(create_segmentation_net(config), np.zeros((1, size, size, 3), np.float32), spread=0.2)
        path = tmp_path_factory.mktemp("segmentation") / "network.safetensors"
        save_safetensors(path, variables, config)
        return path

    return make


def test_scores_are_those_of_each_face(data_dir, make_file):
    path = make_file()
    result = evaluate_segmentation(data_dir, path)
    split = load_split(data_dir, "test")
    apply = jax.jit(SegmentationNet(4).apply)
    expected = {name: [] for name in ("iou", "precision", "recall", "false_alarm", "iou_occluded", "occluder_found")}
    for number, record in enumerate(split[i] for i in range(len(split))):
        occluded = occlude(record, np.random.default_rng(number))
        found, alarm, found_occluded = (
            np.asarray(apply(load_safetensors(path), image[None] / np.float32(127.5) - 1))[0] > 0
            for image in (record["masked"], record["real"], occluded["masked"])
        )
        visible = occluded["mask"][..., 0] == 255
        true = record["mask"][..., 0] == 255
        expected["iou"].append((found & true).sum() / (found | true).sum())
        expected["precision"].append((found & true).sum() / max(found.sum(), 1))
        expected["recall"].append((found & true).sum() / true.sum())
        expected["false_alarm"].append(alarm.mean())
        expected["iou_occluded"].append((found_occluded & visible).sum() / (found_occluded | visible).sum())
        if (true & ~visible).any():
            expected["occluder_found"].append(found_occluded[true & ~visible].mean())
    assert 0 < np.mean(expected["iou"]) < 1
    assert (result["method"], result["split"], result["n"]) == ("ours", "test", 4)
    for name, values in expected.items():
        assert result[name] == pytest.approx(np.mean(values), abs=2e-3)


def test_a_last_batch_of_damaged_records(data_dir, make_file, monkeypatch):
    path = make_file()
    expected = evaluate_segmentation(data_dir, path)
    batches = segmentation_accuracy.evaluation_batches

    def with_damaged(records, batch):
        yield from batches(records, batch)
        yield {**next(batches(records, batch)), "weight": np.zeros(batch, np.float32)}

    monkeypatch.setattr(segmentation_accuracy, "evaluation_batches", with_damaged)
    assert evaluate_segmentation(data_dir, path) == expected


@pytest.mark.parametrize(("size", "zoom", "message"), [(128, 1.0, "128 px, not 64 x 64"), (64, 1.25, "with data.zoom=1.25")])
def test_a_network_for_other_faces(data_dir, make_file, size, zoom, message):
    with pytest.raises(UserError, match=message):
        evaluate_segmentation(data_dir, make_file(size, zoom))


def test_the_command(data_dir, make_file, tmp_path, capsys):
    path = make_file()
    arguments = ["evaluate", f"--workdir={path}", f"--data_dir={data_dir}", f"--out={tmp_path / 'scores.json'}"]
    assert main(arguments) == 0
    assert "iou" in capsys.readouterr().out and (tmp_path / "scores.json").is_file()
    assert main([*arguments, "--pictures=P"]) == 1
    assert "--pictures is for mask removers, not for segmentation; leave it out" in capsys.readouterr().err
