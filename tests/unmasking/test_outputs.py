import threading
import time
from pathlib import Path

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png
from maskgan_jax.unmasking.inputs import Job, find_jobs
from maskgan_jax.unmasking.outputs import Outputs

from .conftest import list_jobs, named_files


def test_all_paths_of_a_result():
    outputs = Outputs(Path("out"))
    result = outputs.result(Job(Path("in/inner/a.jpg"), Path("inner/a.jpg")))
    assert result == Path("out/inner/a.jpg")
    assert outputs.json_of(result) == Path("out/inner/a.jpg.json")
    assert outputs.extra(result, "side_by_side") == Path("out/side_by_side/inner/a.jpg.png")
    assert outputs.extra(Path("out/a.mp4"), "side_by_side", "") == Path("out/side_by_side/a.mp4")
    assert outputs.extra(result, "regions") == Path("out/regions/inner/a.jpg.png")
    assert outputs.crop_of(result, 2, "after") == Path("out/crops/inner/a.jpg.2_after.png")


@pytest.mark.parametrize(("name", "expected"), [("a.gif", "a.gif.png"), ("a.PNG", "a.PNG"), ("a", "a.png")])
def test_a_result_that_becomes_png(name, expected):
    assert Outputs(Path("out")).result(Job(Path(name), Path(name)), ".png") == Path("out") / expected


def test_a_contact_sheet_is_for_folders_and_replaces_no_other_file(folder, tmp_path):
    outputs = Outputs(tmp_path / "out")
    job = Job(folder / "a.png", Path("a.png"))
    assert outputs.contact_sheet([folder], [job]) == tmp_path / "out" / "contact_sheet.png"
    assert outputs.contact_sheet([folder / "a.png"], [job]) is None
    assert outputs.contact_sheet([folder], [job, Job(folder / "b.png", Path("contact_sheet.png"))]) is None
    (folder / "contact_sheet").write_bytes(b"GIF89a")  # Written as contact_sheet.png if it is redrawn.
    assert outputs.contact_sheet([folder], [job, Job(folder / "contact_sheet", Path("contact_sheet"))]) is None
    named_files(tmp_path / "out", "contact_sheet.png", "camera_1.mp4")
    for path, ask in (
        ("contact_sheet.png", lambda outputs: outputs.contact_sheet([folder], [job])),
        ("camera_1.mp4", lambda outputs: outputs.camera(1)),
    ):
        with pytest.raises(UserError, match=f"out/{path} is there already"):
            ask(outputs)
        assert ask(Outputs(tmp_path / "out", overwrite=True)) == tmp_path / "out" / path


def test_results_that_are_there(folder, tmp_path):
    named_files(tmp_path / "out", "a.png")
    assert len(list_jobs([folder], tmp_path / "out", overwrite=True)) == 3
    with pytest.raises(UserError, match="out/a.png is there already"):
        list_jobs([folder], tmp_path / "out")
    named_files(tmp_path / "out", "inner/b.jpg")
    with pytest.raises(UserError, match=r"out/a.png \(and 1 more\) is there already"):
        list_jobs([folder], tmp_path / "out")


@pytest.mark.parametrize("name", ["c.mp4.json", "crops/inner/b.jpg.0_before.png", "g.gif.png"])
def test_what_belongs_to_results_that_are_gone(name, folder, tmp_path):
    (folder / "a.png").rename(folder / "g.gif")
    named_files(tmp_path / "out", name)
    with pytest.raises(UserError, match=f"out/{name} is there already"):
        list_jobs([folder], tmp_path / "out", folders=["crops"])
    assert len(list_jobs([folder], tmp_path / "out", folders=["crops"], overwrite=True)) == 3


@pytest.mark.parametrize("extra", ["side_by_side", "regions", "crops"])
def test_extras_of_a_photo_whose_name_begins_alike(extra, tmp_path):
    folder, out = named_files(tmp_path / "in", "x.jpg", "x.jpg.png"), tmp_path / "out"
    first, second = list_jobs([folder], out, folders=[extra])
    outputs = Outputs(out, **{extra: True})
    for mine, other in ((first, second), (second, first)):
        result = outputs.result(mine)
        path = outputs.crop_of(result, 0, "before") if extra == "crops" else outputs.extra(result, extra)
        named_files(out, str(path.relative_to(out)))
        with outputs.writing(other):  # As one run does after the first of them.
            pass
        with pytest.raises(UserError, match=f"{path} is there already"), outputs.writing(mine):
            pass
        path.unlink()


def test_before_the_work_earlier_crops_are_listed_once(tmp_path, monkeypatch):
    """However many photos there are."""
    names = [f"{letter}{number}.png" for letter in ("a", "inner/b") for number in range(10)]
    folder, out = named_files(tmp_path / "in", *names), tmp_path / "out"
    earlier = [out / "crops" / f"{name}.{number}_after.png" for name in names for number in (0, 12)]
    named_files(out, *(path.relative_to(out) for path in earlier))
    listed = []
    outputs = Outputs(out, crops=True, overwrite=True)
    with monkeypatch.context() as patch:
        glob = Path.glob
        patch.setattr(Path, "glob", lambda path, *arguments, **more: listed.append(path) or glob(path, *arguments, **more))
        jobs = find_jobs([folder], outputs)
    assert [path for path in listed if path.is_relative_to(out)] == [out / "crops", out / "crops" / "inner"]
    for job in jobs:
        with outputs.writing(job):
            named_files(out, f"crops/{job.name}.0_after.png")
    assert [path.exists() for path in earlier] == [True, False] * len(names)


def test_crops_that_are_written_meanwhile_are_replaced_too(tmp_path):
    folder, out = named_files(tmp_path / "in", "a.png"), tmp_path / "out"
    outputs = Outputs(out, crops=True, overwrite=True)
    (job,) = find_jobs([folder], outputs)
    for faces in (3, 1):
        with outputs.writing(job):
            time.sleep(0.01)  # So that a file is seen to be another.
            named_files(out, *(f"crops/a.png.{number}_after.png" for number in range(faces)))
    assert [path.name for path in (out / "crops").iterdir()] == ["a.png.0_after.png"]


def test_the_result_of_a_gif_is_that_of_no_other_image(folder, tmp_path):
    named_files(folder, "g.gif.png")
    (folder / "a.png").rename(folder / "g.gif")
    with pytest.raises(UserError, match="would both be written"):
        list_jobs([folder], tmp_path / "out")


def test_a_mask_is_not_overwritten(folder, tmp_path):
    for masks in (folder / "inner" / "a.png", folder / "inner"):
        write_png(folder / "inner" / "a.png", np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(UserError, match="inner/a.png would be overwritten by the result of"):
            list_jobs([folder / "a.png"], folder / "inner", masks, overwrite=True)


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
        list_jobs([folder], out, folders=[extra], overwrite=True)
    assert f"{folder}/{first} " in str(error.value) and f"{folder}/{second} " in str(error.value)
    assert len(list_jobs([folder], out)) == 2


def test_a_gif_does_not_become_the_crop_of_another_photo(tmp_path):
    """Whichever of the two comes first."""
    folder = named_files(tmp_path / "in", "x.jpg", "crops/x.jpg.0_before")
    (folder / "crops" / "x.jpg.0_before").write_bytes(b"GIF89a")
    for inputs in ([folder], [folder / "x.jpg", folder]):
        with pytest.raises(UserError, match="would both be written to .*out/crops/x.jpg.0_before.png"):
            list_jobs(inputs, tmp_path / "out", folders=["crops"])


def test_a_result_is_no_json_of_another_photo(tmp_path):
    folder = named_files(tmp_path / "in", "x.jpg", "x.jpg.json")
    with pytest.raises(UserError, match=r"would both be written to .*out/x.jpg.json;"):
        list_jobs([folder / "x.jpg", folder / "x.jpg.json"], tmp_path / "out")


def test_extras_that_only_look_alike(tmp_path):
    names = ["x.jpg", "side_by_side/x.jpg", "crops/x.jpg", "crops/x.jpg.png", "crops/y.jpg.0_before.png", "x.jpg.0_before.png"]
    folder = named_files(tmp_path / "in", *names)
    assert len(list_jobs([folder], tmp_path / "out", folders=["side_by_side", "crops"])) == len(names)


@pytest.mark.parametrize(("extra", "name"), [("side_by_side", "x.jpg.png"), ("crops", "x.jpg.0_before.png")])
def test_inputs_are_not_overwritten_by_extras(extra, name, tmp_path):
    out = named_files(tmp_path / "out", f"{extra}/{name}")
    inputs = [named_files(tmp_path / "in", "x.jpg") / "x.jpg", out / extra / name]
    with pytest.raises(UserError, match=f"{extra}/{name} would be overwritten by the result of .*in/x.jpg"):
        list_jobs(inputs, out, folders=[extra], overwrite=True)


def test_a_gif_of_another_name_is_one_too(tmp_path):
    folder = named_files(tmp_path / "in", "x.jpg", "x.jpg.png")
    assert len(list_jobs([folder], tmp_path / "out")) == 2
    (folder / "x.jpg").write_bytes(b"GIF89a")
    with pytest.raises(UserError, match="would both be written to .*out/x.jpg.png"):
        list_jobs([folder], tmp_path / "out", overwrite=True)


def test_folder_of_the_results(tmp_path):
    for out in (tmp_path / "one" / "two", tmp_path / "one"):
        with Outputs(out).in_folder():
            pass
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "inner", tmp_path / ("long" * 100)):
        with pytest.raises(UserError, match="cannot write into .* give another folder as --out"), Outputs(out).in_folder():
            pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "one", "two"]


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt])
def test_a_failure_leaves_no_empty_new_folder(error, tmp_path):
    def fail(out, *files):
        with pytest.raises(error), Outputs(out).in_folder():
            (out / "crops" / "inner").mkdir(parents=True)
            for name in files:
                (out / name).touch()
            raise error

    fail(tmp_path / "new" / "out")
    assert not list(tmp_path.iterdir())
    fail(tmp_path / "new" / "out", "a.png")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "new", "out"]
    (tmp_path / "mine").mkdir()
    fail(tmp_path / "mine" / "out")
    assert not list((tmp_path / "mine").iterdir())


def test_one_run_at_a_time_writes_what_belongs_together(tmp_path):
    outputs, job = Outputs(tmp_path / "out"), Job(Path("a.png"), Path("a.png"))
    order = []

    def other():
        with pytest.raises(UserError, match="out/a.png is there already"), outputs.writing(job):
            pass
        with Outputs(tmp_path / "out", overwrite=True).writing(job):
            order.append("other")

    with outputs.writing(job):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        (tmp_path / "out" / "a.png").touch()
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
