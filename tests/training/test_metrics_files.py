import contextlib
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from maskgan_jax.errors import UserError
from maskgan_jax.files import decode_image, read_image
from maskgan_jax.storage import Unreachable
from maskgan_jax.training import metrics_files
from maskgan_jax.training.metrics_files import MetricsFiles


def test_in_a_bucket_everything_arrives_at_each_flush(bucket, monkeypatch, capfd):
    files = MetricsFiles(bucket, 0)
    files.write(1, "train", {"l1": 0.5})
    assert lines(bucket) == [{"step": 1, "phase": "train", "l1": 0.5}]
    image = np.zeros((4, 6, 3), np.uint8)
    files.draw(1, image)
    np.testing.assert_array_equal(decode_image((bucket / "pictures" / "step_00000001.png").read_bytes()), image)
    events = {path.name: path.read_bytes() for path in bucket.glob("events.*")}
    assert any(b"pictures" in content and b"train/l1" in content for content in events.values())
    # A bucket that cannot be reached for a while costs nothing.
    with monkeypatch.context() as patched:
        patched.setattr(type(bucket), "write_bytes", lambda *_: open("/nowhere"))
        files.write(2, "train", {"l1": 0.4})
    assert len(lines(bucket)) == 1 and "cannot reach" in capfd.readouterr().out
    files.write(3, "train", {"l1": 0.3})
    assert len(lines(bucket)) == 3
    files.close()
    with contextlib.closing(MetricsFiles(bucket, 2)) as files:
        files.write(3, "train", {"l1": 0.2})
    assert [line["l1"] for line in lines(bucket)] == [0.5, 0.4, 0.2]


@pytest.fixture
def open_files(tmp_path):
    """What opens the files of a run that goes on after a step."""
    return lambda start: MetricsFiles(tmp_path, start)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_is_written(open_files, tmp_path):
    files = open_files(0)
    files.write(1, "train", {"l1": 0.5})
    assert lines(tmp_path) == [{"step": 1, "phase": "train", "l1": 0.5}]  # At once, not when the run ends.
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    files.draw(12, image)
    files.close()
    np.testing.assert_array_equal(read_image(tmp_path / "pictures" / "step_00000012.png"), image)
    events = list(read_events(next(tmp_path.glob("events.*"))))
    assert (
        events[0].file_version == "brain.Event:2" and events[1].session_log.status == SessionLog.START and events[1].step == 1
    )
    assert [(event.step, [value.tag for value in event.summary.value]) for event in events[2:]] == [
        (1, ["train/l1"]),
        (12, ["pictures"]),
    ]
    assert events[2].summary.value[0].simple_value == 0.5
    np.testing.assert_array_equal(decode_image(events[3].summary.value[0].image.encoded_image_string), image)


def read_events(path):
    """TFRecords: a length of 8 bytes and its checksum of 4, the content and its checksum of 4."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


@pytest.mark.parametrize("files", ["board", "lines and board"])
def test_a_full_disk_stops_a_run_and_says_nothing_of_its_own(tmp_path, files):
    program = """
import errno, sys
sys.modules["torch"] = None  # tensorboardX would import it, for seconds.
from pathlib import Path
from maskgan_jax.training.metrics_files import MetricsFiles

full = open("/dev/full", "wb")
try:
    with MetricsFiles(Path(sys.argv[1]), 0) as files:
        if "lines" in sys.argv[2]:
            files.lines.close()
            files.lines = open("/dev/full", "w")
        files.board._events._py_recordio_writer.close()
        files.board._events._py_recordio_writer._writer = full
        files.board.write(1)
        files.write(1, "train", {"l1": 0.5})
except OSError as error:
    sys.exit(0 if error.errno == errno.ENOSPC and full.closed else 2)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), files], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("damage", ["", "{", "1", "[]", "{}", '{"step": "1", "phase": "train"}', '{"step": 1}'])
def test_damaged_lines_are_dropped(open_files, tmp_path, damage):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "phase": "train"}}\n{damage}\n{{"step": 2, "phase": "train"}}\n')
    with contextlib.closing(open_files(2)):
        assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_what_comes_again_is_dropped(open_files, tmp_path):
    files = open_files(0)
    for step in (1, 2, 3):
        files.write(step, "train", {"l1": float(step)})
    files.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "pha')  # As if it had been killed in the middle of a line.
    files = open_files(2)
    files.write(3, "train", {"l1": 30.0})
    files.close()
    assert [line["l1"] for line in lines(tmp_path)] == [1.0, 2.0, 30.0]


def test_an_error_on_its_way_is_not_replaced(tmp_path, monkeypatch, capsys):
    def out_of_reach(self):
        raise Unreachable("cannot reach the bucket")

    monkeypatch.setattr(MetricsFiles, "_copy", out_of_reach)
    with pytest.raises(UserError, match="not finite"), MetricsFiles(tmp_path, 0):
        raise UserError("not finite")
    assert "cannot reach the bucket" in "".join(capsys.readouterr())
    with pytest.raises(UserError, match="cannot reach the bucket"), MetricsFiles(tmp_path, 0):
        pass


def test_nothing_is_copied_to_a_workdir_that_is_another_runs_by_now(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_files, "is_remote", lambda path: True)
    bucket = tmp_path / "bucket"
    bucket.mkdir()

    def taken():
        raise UserError("another run has begun")

    with pytest.raises(UserError, match="another run has begun"), MetricsFiles(bucket, 0, taken) as files:
        files.write(1, "train", {"l1": 1.0})
    assert not list(bucket.iterdir())
    assert not files.folder.exists()
