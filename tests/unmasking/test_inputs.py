import os
from pathlib import Path

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import encode_png, read_image
from maskgan_jax.unmasking import inputs
from maskgan_jax.unmasking.inputs import Job, find_jobs
from maskgan_jax.unmasking.outputs import Outputs

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
    with pytest.raises(UserError, match="is one mask, but there are 3 inputs"):
        list_jobs([folder], tmp_path / "out", tmp_path / "region.png")


@pytest.mark.parametrize("name", ["a.png", "inner/b.HEIC", "c.gif", "d.jpg"])
def test_masks_as_regions_are_named(name, tmp_path):
    """After the result, which of HEIC and GIF is in another format."""
    path = named_files(tmp_path / "in", name) / name
    path.write_bytes({".HEIC": b"\0\0\0\x18ftypheic", ".gif": b"GIF89a"}.get(path.suffix, b""))
    outputs = Outputs(tmp_path / "out", regions=True)
    (job,) = find_jobs([tmp_path / "in"], outputs)
    region = outputs.extra(outputs.result(job, job.redrawn_suffix), "regions")
    named_files(tmp_path / "out", region.relative_to(tmp_path / "out"))
    (job,) = find_jobs([tmp_path / "in"], Outputs(tmp_path / "again"), tmp_path / "out" / "regions")
    assert job.mask == region


def test_nothing_to_unmask(tmp_path):
    with pytest.raises(UserError, match="there is nothing to unmask"):
        list_jobs([tmp_path], tmp_path / "out")


def test_a_webp_of_21_bytes_at_most(tmp_path):
    (tmp_path / "a.webp").write_bytes(b"RIFF....WEBPVP8X....")
    assert [job.is_video for job in list_jobs([tmp_path / "a.webp"], tmp_path / "out")] == [False]


def test_links_that_lead_nowhere_are_inputs_like_others(folder, tmp_path):
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    names = [job.path.name for job in list_jobs([folder], tmp_path / "out")]
    assert names == ["a.png", "c.mp4", "b.jpg", "loop.jpg", "nowhere.jpg"]
    assert len(list_jobs([folder / "loop.jpg"], tmp_path / "out")) == 1


BEGINNINGS = {
    "photo": (b"\xff\xd8\xff\xe0", False),
    "photo.mp4": (b"\x89PNG\r\n\x1a\n", False),
    "IMG_1.HEIC": (b"\0\0\0\x18ftypheic", False),
    "clip.jpg": (b"\0\0\0\x18ftypisom", True),
    "camcorder.MTS": (b"", True),
    "stream.ts": ((b"G" + bytes(187)) * 3, True),
    "stream.m2ts": ((bytes(4) + b"G" + bytes(187)) * 3, True),
    "letter.txt": ((b"G" + b"o" * 187) * 2 + b"o" * 200, None),
    "tape": (b"\0\0\1\xba", True),
    "film": (b"\x1aE\xdf\xa3", True),
    "old": (b"FLV\1", True),
    "film.wmv": (b"0&\xb2u\x8ef", True),
    "raw.CR3": (b"\0\0\0\x18ftypcrx ", None),
    "raw.dng": (b"II*\0", None),
    "song.m4a": (b"\0\0\0\x18ftypM4A ", None),
    "song.ogg": (b"OggS" + bytes(24) + b"\1vorbis", None),
    "program.ts": (b"const x = 1;", None),
    "list.txt": (b"BMW, Audi", None),
    "new.jxl": (b"\0\0\0\x0cJXL ", None),
    "notes": (b"", None),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_files_are_known_by_how_they_begin(name, tmp_path, capsys):
    beginning, is_video = BEGINNINGS[name]
    named_files(tmp_path / "in", name, "other.png")
    (tmp_path / "in" / name).write_bytes(beginning)
    jobs = {job.path.name: job.is_video for job in list_jobs([tmp_path / "in"], tmp_path / "out")}
    assert jobs == {"other.png": False} | ({} if is_video is None else {name: is_video})
    assert (f": {name}\n" in capsys.readouterr().err) == (is_video is None)


def test_every_file_that_is_left_out_is_told_with_the_reason(tmp_path, capsys):
    numbered = [f"table_{number}.csv" for number in range(30)]
    folder = named_files(tmp_path / "in", "a.png", "raw.NEF", "inner/new.jxl", ".hidden", "clip.mp4", *numbered)
    list_jobs([folder], tmp_path / "out", suffix=".png")
    told = capsys.readouterr().err.splitlines()
    assert sorted(told) == [
        "maskgan unmask: left out (a video): clip.mp4",
        "maskgan unmask: left out (camera raw; export it as JPEG or TIFF first): raw.NEF",
        "maskgan unmask: left out (of a kind that is not read): " + ", ".join(sorted(numbered)),
        "maskgan unmask: left out (this kind of image is not read; save it as JPEG or PNG first): inner/new.jxl",
    ]


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


def test_folders_that_are_not_searched_are_told(tmp_path, capsys):
    named_files(tmp_path / "elsewhere", "b.jpg")
    named_files(tmp_path / "in", "a.jpg", ".trash/c.jpg")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    assert [job.name.name for job in list_jobs([tmp_path / "in"], tmp_path / "out")] == ["a.jpg"]
    assert "left out (a link to a folder; give that folder itself): linked" in capsys.readouterr().err


def test_all_files_are_missing(tmp_path):
    named_files(tmp_path, "a.jpg")
    missing = [tmp_path / "b.jpg", tmp_path / "c.jpg"]
    with pytest.raises(UserError, match=f"^there is no file {missing[0]}; check its name$"):
        list_jobs(missing, tmp_path / "out")
    # Of several, one that is missing is reported when its turn comes.
    assert len(list_jobs([*missing, tmp_path / "a.jpg"], tmp_path / "out")) == 3


def test_pipes_and_devices_in_folders_are_not_read(tmp_path, capsys):
    """A pipe that nobody writes to would be waited for without end."""
    named_files(tmp_path / "in", "a.jpg")
    os.mkfifo(tmp_path / "in" / "pipe.jpg")
    (tmp_path / "in" / "zero.mp4").symlink_to("/dev/zero")
    assert [job.name.name for job in list_jobs([tmp_path / "in"], tmp_path / "out")] == ["a.jpg"]
    assert "left out (a pipe or a device): pipe.jpg, zero.mp4\n" in capsys.readouterr().err


def test_names_cannot_move_the_cursor(tmp_path, capsys):
    named_files(tmp_path / "in", "a.jpg", "\x1b[2Jred\nmaskgan unmask: done.txt")
    list_jobs([tmp_path / "in"], tmp_path / "out")
    assert "left out (of a kind that is not read): \\x1b[2Jred\\nmaskgan unmask: done.txt\n" in capsys.readouterr().err


def test_nothing_is_read_of_a_pipe_before_its_turn():
    reader, writer = os.pipe()
    os.write(writer, encode_png(np.zeros((4, 4, 3), np.uint8)))
    os.close(writer)
    job = Job(Path(f"/dev/fd/{reader}"), Path("a.png"))
    assert not job.is_video and job.redrawn_suffix == ""
    assert read_image(job.path).shape == (4, 4, 3)
    os.close(reader)


def test_what_kind_of_file_a_job_is_of_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"GIF89a")
    header, reads = inputs._header, []
    monkeypatch.setattr(inputs, "_header", lambda path: reads.append(path) or header(path))
    job = Job(tmp_path / "a", Path("a"))
    assert (job.is_video, job.redrawn_suffix) == (False, ".png")
    count = len(reads)
    assert (job.is_video, job.redrawn_suffix) == (False, ".png") and len(reads) == count
