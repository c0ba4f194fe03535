import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.unmasking.inputs import Job, find_jobs

PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "inner/b.jpg", "c.mp4", "d.txt", ".hidden.png"):
        path = tmp_path / "in" / name
        write_png(path.with_suffix(".png"), PICTURE)
        path.with_suffix(".png").rename(path)
    return tmp_path / "in"


def test_pictures_and_videos_below_a_folder(folder, tmp_path):
    jobs = find_jobs([folder], tmp_path / "out")
    assert [job.path.relative_to(folder).as_posix() for job in jobs] == ["a.png", "c.mp4", "inner/b.jpg"]
    assert [job.out.relative_to(tmp_path / "out").as_posix() for job in jobs] == ["a.png", "c.mp4", "inner/b.jpg"]
    assert [job.is_video for job in jobs] == [False, True, False]


def test_another_suffix(folder, tmp_path):
    jobs = find_jobs([folder], tmp_path / "out", suffix=".png")
    assert [job.out.name for job in jobs] == ["a.png", "b.png"]


def test_one_region_for_one_picture(folder, tmp_path):
    write_png(tmp_path / "region.png", PICTURE)
    job = Job(folder / "a.png", tmp_path / "out" / "a.png", tmp_path / "region.png")
    assert find_jobs([folder / "a.png"], tmp_path / "out", tmp_path / "region.png") == [job]
    with pytest.raises(UserError, match="is one region, but there are 3 inputs"):
        find_jobs([folder], tmp_path / "out", tmp_path / "region.png")


def test_results_that_are_there(folder, tmp_path):
    write_png(tmp_path / "out" / "a.png", PICTURE)
    assert len(find_jobs([folder], tmp_path / "out", overwrite=True)) == 3
    with pytest.raises(UserError, match="out/a.png is there already"):
        find_jobs([folder], tmp_path / "out")
    write_png(tmp_path / "out" / "inner" / "b.png", PICTURE)
    (tmp_path / "out" / "inner" / "b.png").rename(tmp_path / "out" / "inner" / "b.jpg")
    with pytest.raises(UserError, match=r"out/a.png \(and 1 more\) is there already"):
        find_jobs([folder], tmp_path / "out")


@pytest.mark.parametrize("name", ["c.mp4.json", "crops/inner/b.jpg.0_before.png", "g.gif.png"])
def test_what_belongs_to_results_that_are_gone(name, folder, tmp_path):
    (folder / "a.png").rename(folder / "g.gif")
    write_png((tmp_path / "out" / name).with_suffix(".png"), PICTURE)
    (tmp_path / "out" / name).with_suffix(".png").rename(tmp_path / "out" / name)
    with pytest.raises(UserError, match=f"out/{name} is there already"):
        find_jobs([folder], tmp_path / "out", folders=["crops"])
    assert len(find_jobs([folder], tmp_path / "out", folders=["crops"], overwrite=True)) == 3


def test_the_result_of_a_gif_is_that_of_no_other_picture(folder, tmp_path):
    write_png(folder / "g.gif.png", PICTURE)
    (folder / "a.png").rename(folder / "g.gif")
    with pytest.raises(UserError, match="would both be written"):
        find_jobs([folder], tmp_path / "out")


def test_a_region_is_not_overwritten(folder, tmp_path):
    for masks in (folder / "inner" / "a.png", folder / "inner"):
        write_png(folder / "inner" / "a.png", PICTURE)
        with pytest.raises(UserError, match="inner/a.png would be overwritten by the result of"):
            find_jobs([folder / "a.png"], folder / "inner", masks, overwrite=True)


def test_nothing_to_unmask(tmp_path):
    with pytest.raises(UserError, match="there is nothing to unmask"):
        find_jobs([tmp_path], tmp_path / "out")
