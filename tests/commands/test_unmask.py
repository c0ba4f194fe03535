"""`maskgan unmask`: flags that do not go together. What it does to photos and videos: tests/unmasking/."""

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.unmasking.unmasker import Unmasker


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give images, videos or folders to unmask, or --camera=N"),
        (["PHOTO", "--camera=0"], "give images, videos or folders to unmask, or --camera=N"),
        *((["PHOTO", "--aligned", flag], f"{flag} does not go with --aligned") for flag in ("--crops", "--regions")),
        (["PHOTO", "--aligned", "--metadata=drop"], "--metadata does not go with --aligned"),
        (["--camera=0", "--mask=PHOTO"], "--mask does not go with --camera"),
        (["--camera=0", "--aligned"], "--aligned does not go with --camera"),
        (["--camera=0", "--side_by_side"], "--side_by_side does not go with --camera"),
        (["--camera=front"], "--camera"),
        (["PHOTO", "--metadata=some"], "--metadata"),
        (["PHOTO", "--over"], "--over"),
        (["PHOTO", "--fast", "--weights=RUN"], "--fast chooses between the package's networks"),
        (["PHOTO", "--faces=0"], "'0' is neither all, largest nor a number from 1"),
        (["PHOTO", "--faces=some"], "'some' is neither all, largest nor a number from 1"),
        (["PHOTO", "--min_face=-1"], "'-1' is no width in pixels; give a whole number from 1 on"),
        (["PHOTO", "--aligned", "--faces=2"], "--faces does not go with --aligned"),
        (["PHOTO", "--mask="], "--mask is empty"),
        (["PHOTO", "--weights="], "--weights is empty"),
        (["PHOTO", ""], "an INPUT is empty"),
    ],
)
def test_wrong_usage_is_code_2_and_writes_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Unmasker, "from_pretrained", lambda *_, **__: pytest.fail("the networks were loaded"))
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"of somebody")
    arguments = [argument.replace("PHOTO", str(photo)) for argument in arguments]
    with pytest.raises(SystemExit) as end:
        main(["unmask", *arguments, f"--out={tmp_path / 'out'}"])
    assert end.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [photo]


def test_without_a_place_for_the_results(capsys):
    with pytest.raises(SystemExit) as end:
        main(["unmask", "photo.jpg"])
    assert end.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_an_empty_place_for_the_results(capsys):
    with pytest.raises(SystemExit) as end:
        main(["unmask", "photo.jpg", "--out="])
    assert end.value.code == 2
    assert "--out is empty; give a path" in capsys.readouterr().err


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of two; to load the networks for them is an error."""
    monkeypatch.setattr(Unmasker, "from_pretrained", lambda *_, **__: pytest.fail("the networks were loaded"))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"of somebody")
    return tmp_path / "in"


def test_a_place_that_cannot_be_written_is_told_once(photos, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert main(["unmask", str(photos), f"--out={tmp_path / 'out'}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("maskgan unmask: error: cannot write into")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_detector_that_was_not_fetched_is_told_once(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    assert main(["unmask", str(photos), f"--out={tmp_path / 'out'}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "centerface.onnx are missing; run `maskgan weights`" in line
    assert not (tmp_path / "out").exists()


def test_what_videos_do_not_get_is_said_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["unmask", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "each unmasked face of photos" in told and "what was redrawn in photos" in told


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"a.jpg": False, "b.mp4": True}),
        (["--fast"], {"a.jpg": True, "b.mp4": True}),
        (["--no-fast"], {"a.jpg": False, "b.mp4": False}),
        (["--weights=RUN"], {"a.jpg": False, "b.mp4": False}),
    ],
)
def test_which_network_redraws_photos_and_videos(flags, expected, tmp_path, monkeypatch):
    for name in expected:
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"of somebody")
    took = {}

    def note(job, unmasker, *_):
        took[job.path.name] = unmasker
        return ("done", []) if job.path.suffix == ".jpg" else "done"

    monkeypatch.setattr(Unmasker, "from_pretrained", lambda weights, *, fast, **_: fast)
    monkeypatch.setattr("maskgan_jax.unmasking.photos.unmask_photo", note)
    monkeypatch.setattr("maskgan_jax.unmasking.video.unmask_video", note)
    monkeypatch.setattr("maskgan_jax.commands.unmask.weight_file", lambda name: name)
    assert main(["unmask", str(tmp_path / "in"), f"--out={tmp_path / 'out'}", *flags]) == 0
    assert took == expected


def test_step_needs_a_run(tmp_path, generator_file, capsys):
    arguments = ["unmask", "photo.jpg", f"--out={tmp_path / 'out'}", "--step=last"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "--step is of the run that --weights names" in capsys.readouterr().err
    assert main([*arguments, f"--weights={generator_file}"]) == 1
    assert "--step=last is for the workdir of a run" in capsys.readouterr().err
