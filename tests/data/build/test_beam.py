import filecmp
import sys
from pathlib import Path

import cv2
import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.config import load_config
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.masks import draw_mask
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png

pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'maskgan_jax[beam]'")

from maskgan_jax.data.build import beam as beam_build
from maskgan_jax.data.build.beam import beam_config


@pytest.fixture
def config():
    config = load_config("default")
    config.data.size = 64
    # Counts as well as shares: who is taken hangs on all photos, and one of those asked for may have no usable face.
    config.data.splits = {"train": {"*": 0.7}, "validation": {"faces": 2}, "test": {"*": 0.3}}
    return config


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """20 rendered faces, and ten photos of four people of which three are of no use; many small files and lists."""
    monkeypatch.setattr("maskgan_jax.data.masked_faces.masked_faces_dataset_builder.RECORDS_PER_FILE", 3)
    monkeypatch.setattr("maskgan_jax.data.build.build.ITEMS_PER_LIST", 7)
    folder = tmp_path / "faces"
    for number in range(8):
        write_png(folder / f"{number}.png", render_face(number, seed=5).image)
    (folder / "1.png").write_bytes(b"")
    (folder / "8.png").write_bytes((folder / "0.png").read_bytes()[:999])
    rows = (f"{number}.png,faces,person_{number % 4}\n" for number in range(10))
    (folder / "faces.csv").write_text("file,source,identity\n" + "".join(rows))
    return ["rendered=20", f"folder={folder}"]


def test_the_same_bytes_as_without_beam(config, sources, tmp_path):
    card = build_data_set(sources, config, tmp_path / "here", workers=1)
    assert card["splits"].keys() == {"train", "validation", "test"}
    assert card["splits"]["validation"]["sources"] == {"faces": 2}
    assert sum(card["skipped"].values()) == 3
    assert build_data_set(sources, config, tmp_path / "beam", runner="DirectRunner") == card
    names = tree(tmp_path / "here")
    assert sum("train.array_record" in name for name in names) > 2
    assert tree(tmp_path / "beam") == names
    assert filecmp.cmpfiles(tmp_path / "here", tmp_path / "beam", names, shallow=False) == (names, [], [])


@pytest.mark.parametrize("cluster", ["its own", "another"])
def test_the_same_bytes_with_dask(config, tmp_path, cluster, capfd):
    """Its workers are processes of their own, and find all they need."""
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'maskgan_jax[dask]'")
    folder = tmp_path / "faces"
    for number in range(8):
        write_png(folder / f"{number}.png", render_face(number, seed=5).image)
    (folder / "1.png").write_bytes(b"")
    (folder / "faces.csv").write_text("file,source,identity\n" + "".join(f"{n}.png,faces,person_{n % 4}\n" for n in range(8)))
    sources = ["rendered=20", f"folder={folder}"]
    card = build_data_set(sources, config, tmp_path / "here", workers=1)
    assert sum(card["skipped"].values()) == 1
    if cluster == "its own":
        assert build_data_set(sources, config, tmp_path / "dask", runner="DaskRunner") == card
    else:
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running:
            address = [f"dask_client_address={running.scheduler_address}"]
            assert build_data_set(sources, config, tmp_path / "dask", runner="DaskRunner", runner_options=address) == card
            distributed.default_client().close()  # Beam leaves it open.
    assert "finding faces with DaskRunner" in capfd.readouterr().err
    names = tree(tmp_path / "here")
    assert tree(tmp_path / "dask") == names
    assert filecmp.cmpfiles(tmp_path / "here", tmp_path / "dask", names, shallow=False) == (names, [], [])


def test_dask_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "apache_beam.runners.dask.dask_runner", None)
    with pytest.raises(UserError, match=r"DaskRunner takes Dask .*install the extra \[dask\]"):
        beam_config("DaskRunner", [], [str(tmp_path)])


def test_the_same_bytes_if_one_record_cannot_be_made(config, sources, tmp_path, monkeypatch, capfd):
    def fail(face, landmarks, *arguments):
        if face[0, 0, 0] % 3 == 0:
            raise ValueError("odd")
        return draw_mask(face, landmarks, *arguments)

    monkeypatch.setattr("maskgan_jax.data.build.make_record.draw_mask", fail)
    card = build_data_set(sources, config, tmp_path / "here", workers=1)
    assert 0 < card["unexpected"] < 20
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("left out ")]
    assert len(told) == card["unexpected"]
    assert build_data_set(sources, config, tmp_path / "beam", runner="DirectRunner") == card
    assert {line for line in capfd.readouterr().err.splitlines() if line.startswith("left out ")} == set(told)
    names = tree(tmp_path / "here")
    assert filecmp.cmpfiles(tmp_path / "here", tmp_path / "beam", names, shallow=False) == (names, [], [])


def test_the_same_bytes_by_several_processes(config, tmp_path):
    config.data.splits = {"train": {"*": 1.0}}
    build_data_set(["rendered=6"], config, tmp_path / "here", workers=1)
    options = ["direct_num_workers=2", "direct_running_mode=multi_processing"]
    build_data_set(["rendered=6"], config, tmp_path / "beam", runner="DirectRunner", runner_options=options)
    names = tree(tmp_path / "here")
    assert filecmp.cmpfiles(tmp_path / "here", tmp_path / "beam", names, shallow=False) == (names, [], [])


def test_command(config, capsys, tmp_path):
    options = ["--config.data.size=64", "--runner=DirectRunner", "--beam_pipeline_options=direct_num_workers=1,job_name=faces"]
    assert main(["build", "--source=rendered=4", f"--data_dir={tmp_path}", *options]) == 0
    assert f"4 faces in {tmp_path}" in capsys.readouterr().out
    assert main(["build", "--source=rendered=4", f"--data_dir={tmp_path}", "--runner=DirectRunner"]) == 1
    assert "holds a data set already" in capsys.readouterr().err


def test_pipeline_options():
    given = ["project=p", "region=r", "use_public_ips", "labels=a=b", "temp_location=gs://b/t"]
    how = beam_config("DataflowRunner", given, ["gs://b/data"])
    options = how.beam_options.get_all_options()
    assert (how.beam_runner, options["project"], options["labels"]) == ("DataflowRunner", "p", ["a=b"])
    assert options["temp_location"] == "gs://b/t"


@pytest.mark.parametrize(
    ("runner", "options", "message"),
    [
        ("direct", [], "--runner=direct: the runners are DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, DaskRunner$"),
        ("DirectRunner", ["workers=3", "fast"], "Beam has no option fast, workers; "),
        ("DirectRunner", ["help"], "--beam_pipeline_options: see Beam's documentation of DirectRunner$"),
        ("DirectRunner", ["direct_num_workers=two"], "direct_num_workers: invalid int value: 'two'$"),
        ("DataflowRunner", [], "data is on this machine, out of DataflowRunner's reach; give a folder in a cloud"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_done(runner, options, message, config, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        build_data_set(["rendered=2"], config, tmp_path / "data", runner=runner, runner_options=options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_workers_use_one_thread_each(config, tmp_path, monkeypatch):
    threads = []

    def count(function):
        return lambda *arguments: threads.append(cv2.getNumThreads()) or function(*arguments)

    for name in ("find_face", "try_record"):
        monkeypatch.setattr(beam_build, name, count(getattr(beam_build, name)))
    config.data.splits = {"train": {"*": 1.0}}
    before = cv2.getNumThreads()
    try:
        build_data_set(["rendered=2"], config, tmp_path, runner="DirectRunner")
    finally:
        cv2.setNumThreads(before)
    assert threads == [1] * 4


def test_a_runner_that_cannot_start(config, tmp_path):
    """Flink's is a program in Java."""
    config.data.splits = {"train": {"*": 1.0}}
    with pytest.raises(UserError, match="^FlinkRunner failed ") as caught:
        options = ["flink_job_server_jar=/nowhere.jar"]
        build_data_set(["rendered=2"], config, tmp_path, runner="FlinkRunner", runner_options=options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_a_worker_cannot_do_is_told_in_its_words(config, tmp_path):
    """No shape predictor: no reason to leave out every photo."""
    write_png(tmp_path / "faces" / "0.png", render_face(0, seed=0).image)
    config.data.splits = {"train": {"*": 1.0}}
    config.data.shape_predictor = str(tmp_path / "none.dat")
    with pytest.raises(UserError, match="^cannot load the shape predictor .* to .*68 points$"):
        build_data_set([f"ffhq={tmp_path / 'faces'}"], config, tmp_path / "data", runner="DirectRunner")
    assert tree(tmp_path / "data") == []
