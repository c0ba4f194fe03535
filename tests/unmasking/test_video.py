"""Masks go from videos, and from what a camera sees. What a video keeps of its file: test_video_files.py."""

import copy
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.unmasking import video
from maskgan_jax.unmasking.inputs import Job
from maskgan_jax.unmasking.metadata import LABEL
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.video import unmask_camera, unmask_video

from .clips import green, read_video, tagged, unmasked, write_video


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".avi", ".mpg"])
def test_masks_go_and_sound_and_time_stay(suffix, clip, unmasker, tmp_path):
    path = tmp_path / f"clip{suffix}"
    write_video(path, clip)
    line, (pictures, times, sound, metadata) = unmasked(path, unmasker, tmp_path / "out")
    before, times_before, sound_before, _ = read_video(path)
    assert f"{path}: masks removed in 10 of 10 frames" in line
    assert len(pictures) == len(before) == 10
    np.testing.assert_allclose(np.diff(times), np.diff(times_before), atol=1e-3)
    assert sound == sound_before and len(sound) > 5
    for one, other in zip(pictures, before, strict=True):
        assert green(other) > 3000 and green(one) < 0.1 * green(other)
        np.testing.assert_allclose(one[:, 280:], other[:, 280:], atol=12)
    if suffix != ".mpg":  # Which holds no text.
        assert LABEL in metadata.values() or suffix == ".avi"
    told = json.loads((tmp_path / "out" / f"clip{suffix}.json").read_text())
    assert (told["frames"], told["frames_unmasked"], told["width"], told["height"]) == (10, 10, 320, 240)


def test_uneven_times_are_kept(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mkv"
    times = [0, 40, 90, 200, 230, 400, 410, 500, 700, 1000]
    write_video(path, clip, times=times, sound=False)
    _, (pictures, times_after, _, _) = unmasked(path, unmasker, tmp_path / "out")
    np.testing.assert_allclose(np.array(times_after) * 1000, times, atol=1)


def test_odd_sides(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mkv"
    write_video(path, [picture[:239, :319] for picture in clip], sound=False)
    _, (pictures, *_) = unmasked(path, unmasker, tmp_path / "out")
    assert pictures[0].shape == (239, 319, 3)


def test_side_by_side(uncertain_clip, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, uncertain_clip)
    unmasked(path, unmasker, tmp_path / "out", side_by_side=True, label=False)
    pictures, _, sound, metadata = read_video(tmp_path / "out" / "side_by_side" / "clip.mp4")
    assert pictures[0].shape == (240, 640, 3) and sound
    assert green(pictures[5][:, :320]) > 3000 > 300 > green(pictures[5][:, 320:])
    assert LABEL not in metadata.values()


def test_nothing_of_an_earlier_run_is_left_beside_a_video_without_masks(clip, bare, unmasker, tmp_path):
    for pictures in (clip[:3], bare):
        write_video(tmp_path / "clip.mp4", pictures)
        wanted = {"keep_metadata": False, "side_by_side": True, "overwrite": True}
        unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out", **wanted)
    written = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(written) == ["clip.mp4", "clip.mp4.json"]


def test_a_full_disk_is_told_with_the_name_of_the_file(clip, unmasker, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", clip[:3])
    write = Path.write_bytes

    def full(path, data):
        if path.suffix == ".json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write .*/out/clip\.mp4\.json \(No space left on device\)"):
        unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out", side_by_side=True)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("side_by_side", [False, True])
def test_before_and_after_are_joined_only_if_asked_for(side_by_side, clip, unmasker, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", clip[:3])
    join, joined = np.concatenate, []

    def concatenate(arrays, *arguments, **options):
        result = join(arrays, *arguments, **options)
        joined.append(result.shape)
        return result

    monkeypatch.setattr(np, "concatenate", concatenate)
    unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out", side_by_side=side_by_side)
    assert joined.count((240, 640, 3)) == 3 * side_by_side


def test_side_by_side_where_sound_comes_first(clip, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, clip, sound_first=True)
    _, (_, _, sound, _) = unmasked(path, unmasker, tmp_path / "out", side_by_side=True)
    *_, other, _ = read_video(tmp_path / "out" / "side_by_side" / "clip.mp4")
    assert sound == other == read_video(path)[2] and sound


@pytest.fixture(scope="module")
def bare():
    """Three frames of a face without a mask."""
    return [cv2.copyMakeBorder(render_face(3, seed=0, size=220).image, 10, 10, 50, 50, cv2.BORDER_REPLICATE)] * 3


def test_a_video_without_masks_is_copied(bare, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, bare, cover=True)
    line, _ = unmasked(path, unmasker, tmp_path / "out", side_by_side=True)
    assert (tmp_path / "out" / "clip.mp4").read_bytes() == path.read_bytes()
    assert line.startswith(f"{path}: left as it is, faces without a mask in 3 of 3 frames, ") and "left out" not in line
    told = json.loads((tmp_path / "out" / "clip.mp4.json").read_text())
    assert (told["synthetic"], told["frames_with_faces"], told["notes"]) == (False, 3, [])
    assert sorted(found.name for found in tmp_path.rglob("*") if found.is_file()) == ["clip.mp4", "clip.mp4", "clip.mp4.json"]


def test_a_video_is_copied_even_if_it_could_not_be_encoded_to_its_end(bare, unmasker, tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    write_video(path, bare)
    monkeypatch.setattr(video.VideoWriter, "finish", lambda _: pytest.fail("it was finished"))
    unmasked(path, unmasker, tmp_path / "out")
    assert (tmp_path / "out" / "clip.mp4").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("option", "note", "counts"),
    [
        ({"least_width": 500}, "up to 2 faces too small in a frame", (0, 3, 2, 0)),
        ({"most_faces": 1}, "up to 1 face smaller than those asked for in a frame", (3, 3, 0, 1)),
        ({"least_width": 120, "most_faces": 0}, "up to 1 face too small in a frame, up to 1 face smaller than", (0, 3, 1, 1)),
    ],
)
def test_faces_that_are_left_out_are_told(option, note, counts, couple, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, [couple] * 3)
    demanding = copy.copy(unmasker)
    vars(demanding).update(option)
    line, _ = unmasked(path, demanding, tmp_path / "out")
    assert note in line and line.count("up to") == sum(count > 0 for count in counts[2:])
    told = json.loads((tmp_path / "out" / "clip.mp4.json").read_text())
    names = "frames_unmasked", "frames_with_faces_left_out", "most_faces_too_small", "most_faces_not_asked_for"
    assert tuple(told[name] for name in names) == counts


def test_a_video_without_masks_and_without_metadata_is_not_labelled(bare, unmasker, tmp_path):
    path = tmp_path / "clip.mp4"
    tagged(path, bare, comment="mine", title="ours")
    line, (pictures, _, _, metadata) = unmasked(path, unmasker, tmp_path / "out", keep_metadata=False)
    assert len(pictures) == 3 and not {"comment", "title"} & metadata.keys()
    assert "left as it is, faces without a mask in 3 of 3 frames" in line


def test_all_results_are_whole_before_one_takes_its_place(clip, unmasker, tmp_path, monkeypatch):
    """On a full disk there is none, rather than one of the two; and earlier ones stay."""
    path, out = tmp_path / "clip.mp4", tmp_path / "out"
    write_video(path, clip[:3])
    unmasked(path, unmasker, out, side_by_side=True)
    written = {found: found.read_bytes() for found in out.rglob("*") if found.is_file()}
    assert len(written) == 3
    move, moved = shutil.move, []

    def full(source, target):
        moved.append(b"moov" in Path(source).read_bytes())  # What ends an MP4 is its list of contents.
        if len(moved) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return move(source, target)

    monkeypatch.setattr(shutil, "move", full)
    with pytest.raises(UserError, match=r"out/side_by_side/clip.mp4 \(No space left on device\)"):
        unmasked(path, unmasker, out, side_by_side=True, overwrite=True)
    assert moved == [True, True]
    assert {found: found.read_bytes() for found in out.rglob("*") if found.is_file()} == written


def test_where_nothing_can_be_written_is_told_before_the_work(clip, unmasker, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", clip[:3])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "side_by_side").write_text("mine")
    monkeypatch.setattr(video, "composite", lambda *_: pytest.fail("a frame was drawn"))
    with pytest.raises(UserError, match="out/side_by_side"):
        unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out", side_by_side=True)


@pytest.mark.parametrize("kind", ["clip", "bare"])
def test_what_another_run_wrote_meanwhile_is_not_replaced(kind, request, unmasker, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", request.getfixturevalue(kind)[:3])
    draw, result = video.composite, tmp_path / "out" / "clip.mp4"

    def as_another_run_ends(*arguments):
        result.write_bytes(b"of another run")
        return draw(*arguments)

    monkeypatch.setattr(video, "composite", as_another_run_ends)
    with pytest.raises(UserError, match="out/clip.mp4 is there already"):
        unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out")
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [b"of another run"]


def test_interrupted_it_leaves_nothing(clip, unmasker, tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    write_video(path, clip)
    calls = []

    def interrupted(photo, faces):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return photo

    monkeypatch.setattr(video, "composite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        unmask_video(Job(path, Path("clip.mp4")), unmasker, Outputs(tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("owner", "name"), [(video, "upright_frame"), (video.VideoWriter, "write")])
def test_what_fails_in_another_thread_is_told_and_nothing_is_left(owner, name, clip, unmasker, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", clip)
    original, calls = getattr(owner, name), []

    def failing(*arguments):
        calls.append(threading.current_thread())
        if len(calls) == 3:
            raise UserError("no more")
        return original(*arguments)

    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(UserError, match="no more"):
        unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()) and threading.main_thread() not in calls
    assert not any(thread.is_alive() for thread in calls)


def test_three_frames_are_worked_on_at_a_time(clip, unmasker, tmp_path, monkeypatch):
    """While one is unmasked, the next is decoded and the last one encoded: each waits for the other two."""
    count = 4
    write_video(tmp_path / "clip.mp4", clip[:count])
    decoded, begun = ([threading.Event() for _ in range(count)] for _ in range(2))
    decode, write = video.upright_frame, video.VideoWriter.write
    decoding, compositing, writing = (iter(range(count)) for _ in range(3))

    def decode_and_tell(*arguments):
        image = decode(*arguments)
        decoded[next(decoding)].set()
        return image

    def wait_for_the_next_to_be_decoded(photo, faces):
        number = next(compositing)
        begun[number].set()
        assert number + 1 == count or decoded[number + 1].wait(30)
        return photo

    def wait_for_the_next_to_be_unmasked(*arguments):
        number = next(writing)
        assert number + 1 == count or begun[number + 1].wait(30)
        write(*arguments)

    monkeypatch.setattr(video, "upright_frame", decode_and_tell)
    monkeypatch.setattr(video, "composite", wait_for_the_next_to_be_decoded)
    monkeypatch.setattr(video.VideoWriter, "write", wait_for_the_next_to_be_unmasked)
    unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out")


def test_packets_do_not_wait_for_a_frame_without_end(clip, unmasker, tmp_path, monkeypatch):
    """Those of sound that is longer than the pictures."""
    write_video(tmp_path / "clip.mp4", clip[:2])
    frames = []
    _, (_, _, sound, _) = unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "out")
    write = video._write_picture
    monkeypatch.setattr(video, "_write_picture", lambda *arguments: frames.append(arguments[1]) or write(*arguments))
    monkeypatch.setattr(video, "MOST_PACKETS", 1)
    _, (_, _, same, _) = unmasked(tmp_path / "clip.mp4", unmasker, tmp_path / "other")
    assert same == sound and len(sound) > 3
    assert max(len(picture.packets) for picture in frames) == 2
    assert any(picture.frame is None for picture in frames)


WITH_SIGTERM = """
import os, signal, sys
from pathlib import Path
from maskgan_jax.errors import exit_code
from maskgan_jax.unmasking import video
from maskgan_jax.unmasking.inputs import Job
from maskgan_jax.unmasking.outputs import Outputs

class Faceless:
    def __init__(self, *_): self.frames = 0
    def __call__(self, *_):
        self.frames += 1
        if self.frames == 5:
            print([path.suffix for path in path.parent.rglob('*.*') if path.is_file()], flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
        return []

video.Tracker = Faceless
path = Path(sys.argv[2])
sys.exit(exit_code("unmask", lambda: video.unmask_video(Job(Path(sys.argv[1]), Path(path.name)), None, Outputs(path.parent))))
"""


@pytest.mark.parametrize("ctrl_c", [signal.SIG_DFL, signal.SIG_IGN])
def test_terminated_it_leaves_nothing(ctrl_c, clip, tmp_path):
    """Also in the background of a shell's script, where Ctrl-C is ignored."""
    write_video(tmp_path / "clip.mp4", clip)
    command = [sys.executable, "-c", WITH_SIGTERM, tmp_path / "clip.mp4", tmp_path / "out" / "clip.mp4"]
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        ended = subprocess.run(command, capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.stdout.strip() == "['.mp4']", ended.stderr  # It was at work.
    assert ended.returncode == 130 and ended.stderr.endswith("unmask: interrupted\n")
    assert not list((tmp_path / "out").iterdir())


def test_sigterm_keeps_a_handler_that_is_there(clip, unmasker, tmp_path, monkeypatch):
    """And in other threads than the main one there is none."""
    path = tmp_path / "clip.mp4"
    write_video(path, clip[:3])
    came, draw = [], video.composite

    def terminated(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return draw(*given)

    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        monkeypatch.setattr(video, "composite", terminated)
        unmasked(path, unmasker, tmp_path / "out")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(came) == 3
    monkeypatch.setattr(video, "composite", draw)
    with ThreadPoolExecutor(1) as threads:
        line, _ = threads.submit(unmasked, path, unmasker, tmp_path / "thread").result()
    assert "masks removed in 3 of 3 frames" in line
    assert signal.getsignal(signal.SIGTERM) == before


class Camera:
    """Stands in for one that gives three frames."""

    def __init__(self, pictures):
        self.pictures = list(pictures)

    def isOpened(self):
        return bool(self.pictures)

    def get(self, _):
        return 0.0

    def read(self):
        return (True, self.pictures.pop(0)[..., ::-1]) if self.pictures else (False, None)

    def release(self):
        self.pictures = None


def test_camera(clip, unmasker, tmp_path, monkeypatch):
    camera = Camera(clip[:4])
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: camera)
    assert unmask_camera(2, unmasker, tmp_path / "camera_2.mp4") == f"4 frames of camera 2 are in {tmp_path / 'camera_2.mp4'}"
    pictures, times, *_ = read_video(tmp_path / "camera_2.mp4")
    assert len(pictures) == 4 and green(pictures[3]) < 300
    assert (np.diff(times) > 0).all()
    assert camera.pictures is None  # Released.
    with pytest.raises(UserError, match="there is no camera 2"):
        monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: Camera([]))
        unmask_camera(2, unmasker, tmp_path)


@pytest.fixture
def default_sigterm():
    """SIGTERM as at the start of a program, whatever earlier tests did to it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("default_sigterm")
def test_a_camera_is_ended_well_by_sigterm(clip, unmasker, tmp_path, monkeypatch):
    class Stopped(Camera):
        def read(self):
            if len(self.pictures) == 2:
                assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL  # Or this process would end here.
                os.kill(os.getpid(), signal.SIGTERM)
            return super().read()

    monkeypatch.setattr(video.cv2, "VideoCapture", lambda number: Stopped(clip[:4]))
    line = unmask_camera(0, unmasker, tmp_path / "camera_0.mp4")
    assert line.startswith("2 frames of camera 0") and len(read_video(tmp_path / "camera_0.mp4")[0]) == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
