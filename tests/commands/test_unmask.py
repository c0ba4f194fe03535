"""`maskgan unmask`: flags that do not go together. What it does to photos and videos: tests/unmasking/."""

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.unmasking.unmasker import Unmasker


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give pictures, videos or folders to unmask, or --camera=N"),
        (["PHOTO", "--camera=0"], "give pictures, videos or folders to unmask, or --camera=N"),
        *((["PHOTO", "--aligned", flag], f"{flag} does not go with --aligned") for flag in ("--crops", "--regions")),
        (["PHOTO", "--aligned", "--metadata=drop"], "--metadata does not go with --aligned"),
        (["--camera=0", "--mask=PHOTO"], "--mask does not go with --camera"),
        (["--camera=0", "--side_by_side"], "--side_by_side does not go with --camera"),
        (["--camera=front"], "--camera"),
        (["PHOTO", "--metadata=some"], "--metadata"),
        (["PHOTO", "--over"], "--over"),
    ],
)
def test_wrong_usage_is_code_2_and_writes_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Unmasker, "from_pretrained", lambda weights: pytest.fail("the networks were loaded"))
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
