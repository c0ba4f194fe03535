"""`maskgan train`: what its flags mean. How is trained: tests/training/."""

import signal

import pytest

from maskgan_jax.__main__ import main
from maskgan_jax.commands import train as command
from maskgan_jax.errors import UserError


@pytest.fixture(autouse=True)
def kept_handlers():
    """The command handles SIGTERM and SIGUSR1 from then on; the tests after these do not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("given", [["--coordinator=host:1234"], ["--processes=4", "--process=1"], ["--process=0"]])
def test_flags_that_belong_together(given, tmp_path):
    flags = ["--config=configs/cpu.py", f"--data_dir={tmp_path}", f"--workdir={tmp_path}"]
    with pytest.raises(UserError, match="--coordinator, --processes and --process belong together"):
        command.main([*flags, *given])


def test_an_empty_address_is_refused(tmp_path, monkeypatch, capfd):
    """As of a variable that is not set, in a script; to train alone in each process would be worse."""
    monkeypatch.setenv("PYTHONWARNINGS", "")  # The command changes it.
    flags = ["--config=configs/cpu.py", f"--data_dir={tmp_path}", f"--workdir={tmp_path}"]
    assert main(["train", *flags, "--coordinator=", "--processes=2", "--process=0"]) == 1
    assert "maskgan train: error: --coordinator= is not HOST:PORT" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.generator.widht=8", "generator.widht"),
        ("--config.input.batch_size=many", "batch_size"),
        ("--stpes=5", "--stpes=5"),
    ],
)
def test_settings_that_are_not_there_or_of_another_type(flag, message, tmp_path, capsys):
    workdir = tmp_path / "run"
    arguments = ["--config=configs/cpu.py", f"--data_dir={tmp_path / 'data'}", f"--workdir={workdir}", flag]
    assert main(["train", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not workdir.exists()


def test_a_folder_without_a_data_set(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["train", "--config=configs/cpu.py", f"--data_dir={tmp_path}", f"--workdir={workdir}"]) == 1
    error = capsys.readouterr().err
    assert f"there is no data set in {tmp_path}" in error and "maskgan build" in error


def test_check_needs_no_data(capsys):
    small = ["--config.data.size=64", "--config.generator.width=4", "--config.discriminator.width=4"]
    assert main(["train", "--config=configs/tpu.py", "--check=8", "--chip=NVIDIA H200", *small]) == 0
    assert "devices: 8 (NVIDIA H200), each with 32 of the 256 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--check=0"], "--check is 0; it must be"),
        (["--check=7"], "a batch of 256 cannot be divided among 7 devices"),
        (["--check=8", "--chip=abacus"], "there is no chip 'abacus' in the table; give one of NVIDIA H100"),
        (["--check=8", "--workdir=run"], "--check reads no data and starts no run; leave out --data_dir"),
        (["--check=1", "--process=0"], "--check reads no data and starts no run"),
        (["--check=1", "--processes=0"], "--check reads no data and starts no run"),
        (["--chip=NVIDIA H200"], "--chip is for --check"),
        (["--check=8", "--config.landmark_net.weights=nowhere"], "nowhere"),
    ],
)
def test_check_of_what_cannot_be(given, message, capsys):
    assert main(["train", "--config=configs/tpu.py", *given]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("missing", ["--config=", "--data_dir=", "--workdir="])
def test_flags_that_are_needed(missing, tmp_path, capsys):
    arguments = ["--config=configs/cpu.py", f"--data_dir={tmp_path}", f"--workdir={tmp_path}"]
    with pytest.raises(SystemExit) as end:
        main(["train", *(argument for argument in arguments if not argument.startswith(missing))])
    assert end.value.code == 2
    assert missing[:-1] in capsys.readouterr().err
