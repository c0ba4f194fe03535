from pathlib import Path

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.unmasking.inputs import Job

from .conftest import list_jobs, named_files


def test_images_and_videos_below_a_folder(folder, tmp_path):
    jobs = list_jobs([folder], tmp_path / "out")
    assert [job.path.relative_to(folder).as_posix() for job in jobs] == ["a.png", "c.mp4", "inner/b.jpg"]
    assert [job.name.as_posix() for job in jobs] == ["a.png", "c.mp4", "inner/b.jpg"]
    assert [job.is_video for job in jobs] == [False, True, False]


def test_another_suffix(folder, tmp_path):
    jobs = list_jobs([folder], tmp_path / "out", suffix=".png")
    assert [job.name.name for job in jobs] == ["a.png", "b.png"]


def test_one_mask_for_one_image(folder, tmp_path):
    named_files(tmp_path, "region.png")
    job = Job(folder / "a.png", Path("a.png"), tmp_path / "region.png")
    assert list_jobs([folder / "a.png"], tmp_path / "out", tmp_path / "region.png") == [job]
    with pytest.raises(UserError, match="is one region, but there are 3 inputs"):
        list_jobs([folder], tmp_path / "out", tmp_path / "region.png")


def test_nothing_to_unmask(tmp_path):
    with pytest.raises(UserError, match="there is nothing to unmask"):
        list_jobs([tmp_path], tmp_path / "out")


def test_links_that_lead_nowhere_are_inputs_like_others(folder, tmp_path):
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    names = [job.path.name for job in list_jobs([folder], tmp_path / "out")]
    assert names == ["a.png", "c.mp4", "b.jpg", "loop.jpg", "nowhere.jpg"]
    assert len(list_jobs([folder / "loop.jpg"], tmp_path / "out")) == 1


def test_earlier_results_in_a_folder_are_left_out(tmp_path):
    folder = named_files(tmp_path / "in", "a.png", "results/b.png", "results/crops/c.png", "results of mine/d.png")
    jobs = list_jobs([folder], folder / "results", overwrite=True)
    assert [job.path.relative_to(folder).as_posix() for job in jobs] == ["a.png", "results of mine/d.png"]
    # If the folder itself, or one above it, is that of the results, all of it is meant.
    assert [job.path.name for job in list_jobs([folder / "results"], folder)] == ["b.png", "c.png"]
    with pytest.raises(UserError, match="would be overwritten"):
        list_jobs([folder], folder, overwrite=True)
    (folder / "a.png").unlink()
    (folder / "results of mine" / "d.png").unlink()
    with pytest.raises(UserError, match="there is nothing to unmask"):
        list_jobs([folder], folder / "results")
