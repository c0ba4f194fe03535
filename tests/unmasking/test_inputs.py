import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.unmasking.inputs import Job, find_jobs, make_folder

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


def named_files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("extra", "first", "second"),
    [
        ("side_by_side", "x.jpg", "side_by_side/x.jpg.png"),
        ("side_by_side", "x.mp4", "side_by_side/x.mp4"),
        ("regions", "inner/x.jpg", "regions/inner/x.jpg.png"),
        ("regions", "x.gif", "regions/x.gif.png.png"),
        ("crops", "x.jpg", "crops/x.jpg.0_before.png"),
        ("crops", "inner/x.jpg", "crops/inner/x.jpg.12_after.png"),
    ],
)
def test_a_result_is_no_extra_of_another_photo(extra, first, second, tmp_path):
    folder, out = named_files(tmp_path / "in", first, second), tmp_path / "out"
    with pytest.raises(UserError, match=f"would both be written to {out}/{second};") as error:
        find_jobs([folder], out, folders=[extra], overwrite=True)
    assert f"{folder}/{first} " in str(error.value) and f"{folder}/{second} " in str(error.value)
    assert len(find_jobs([folder], out)) == 2


def test_a_result_is_no_json_of_another_photo(tmp_path):
    folder = named_files(tmp_path / "in", "x.jpg", "x.jpg.json")
    with pytest.raises(UserError, match=r"would both be written to .*out/x.jpg.json;"):
        find_jobs([folder / "x.jpg", folder / "x.jpg.json"], tmp_path / "out")


def test_extras_that_only_look_alike(tmp_path):
    names = ["x.jpg", "side_by_side/x.jpg", "crops/x.jpg", "crops/x.jpg.png", "crops/y.jpg.0_before.png", "x.jpg.0_before.png"]
    folder = named_files(tmp_path / "in", *names)
    assert len(find_jobs([folder], tmp_path / "out", folders=["side_by_side", "crops"])) == len(names)


@pytest.mark.parametrize(("extra", "name"), [("side_by_side", "x.jpg.png"), ("crops", "x.jpg.0_before.png")])
def test_inputs_are_not_overwritten_by_extras(extra, name, tmp_path):
    out = named_files(tmp_path / "out", f"{extra}/{name}")
    inputs = [named_files(tmp_path / "in", "x.jpg") / "x.jpg", out / extra / name]
    with pytest.raises(UserError, match=f"{extra}/{name} would be overwritten by the result of .*in/x.jpg"):
        find_jobs(inputs, out, folders=[extra], overwrite=True)


def test_a_gif_of_another_name_is_one_too(tmp_path):
    folder = named_files(tmp_path / "in", "x.jpg", "x.jpg.png")
    assert len(find_jobs([folder], tmp_path / "out")) == 2
    (folder / "x.jpg").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match="would both be written to .*out/x.jpg.png"):
        find_jobs([folder], tmp_path / "out", overwrite=True)


def test_links_that_lead_nowhere_are_inputs_like_others(folder, tmp_path):
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    names = [job.path.name for job in find_jobs([folder], tmp_path / "out")]
    assert names == ["a.png", "c.mp4", "b.jpg", "loop.jpg", "nowhere.jpg"]
    assert len(find_jobs([folder / "loop.jpg"], tmp_path / "out")) == 1


def test_earlier_results_in_a_folder_are_left_out(tmp_path):
    folder = named_files(tmp_path / "in", "a.png", "results/b.png", "results/crops/c.png", "results of mine/d.png")
    jobs = find_jobs([folder], folder / "results", overwrite=True)
    assert [job.path.relative_to(folder).as_posix() for job in jobs] == ["a.png", "results of mine/d.png"]
    # If the folder itself, or one above it, is that of the results, all of it is meant.
    assert [job.path.name for job in find_jobs([folder / "results"], folder)] == ["b.png", "c.png"]
    with pytest.raises(UserError, match="would be overwritten"):
        find_jobs([folder], folder, overwrite=True)
    (folder / "a.png").unlink()
    (folder / "results of mine" / "d.png").unlink()
    with pytest.raises(UserError, match="there is nothing to unmask"):
        find_jobs([folder], folder / "results")


def test_folder_of_the_results(tmp_path):
    make_folder(tmp_path / "one" / "two")
    make_folder(tmp_path / "one")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "inner", tmp_path / ("long" * 100)):
        with pytest.raises(UserError, match="cannot write into .* give another folder as --out"):
            make_folder(out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "one", "two"]
