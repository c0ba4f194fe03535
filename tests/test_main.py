import concurrent.futures
import contextlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import types

import pytest

from maskgan_jax.__main__ import COMMANDS, main
from maskgan_jax.demo.run import PORTRAIT
from maskgan_jax.errors import UserError


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of the command `demo`."""

    def replace(function):
        monkeypatch.setitem(sys.modules, "maskgan_jax.commands.demo", types.SimpleNamespace(main=function))

    return replace


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"maskgan_jax {importlib.metadata.version('maskgan_jax')}\n"


def test_no_command_is_wrong_usage(capsys):
    assert main([]) == 2
    assert "usage: maskgan COMMAND" in capsys.readouterr().out


def test_unknown_command_names_the_known_ones(capsys):
    assert main(["trian"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("maskgan: error: there is no command 'trian'; the commands are demo, weights")


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3)])
def test_arguments_go_to_the_command_and_its_code_comes_back(command, returned, code):
    seen = []
    command(lambda arguments: seen.append(arguments) or returned)
    assert main(["demo", "--out=x", "y"]) == code
    assert seen == [["--out=x", "y"]]


def test_user_error_is_one_line_and_code_1(command, capsys):
    def fail(arguments):
        raise UserError("no faces in the folder; give another")

    command(fail)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "maskgan demo: error: no faces in the folder; give another\n"


def test_interruption_is_one_line_and_code_130(command, capsys):
    def interrupt(arguments):
        raise KeyboardInterrupt

    command(interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "maskgan demo: interrupted\n"


def test_programming_errors_keep_their_traceback(command):
    command(lambda arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: maskgan {name}" in capsys.readouterr().out


def test_runs_as_a_module_from_any_folder(tmp_path):
    done = subprocess.run([sys.executable, "-m", "maskgan_jax", "nonsense"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no command 'nonsense'" in done.stderr


def test_help_is_quick_because_it_imports_no_framework():
    code = "import sys, maskgan_jax.__main__ as m; m.main(['--help']); sys.exit('jax' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.fixture
def ctrl_c():
    """Sends Ctrl-C, which Python handles even if these tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_that_a_library_made_into_another_exception(ctrl_c, command, capsys):
    def work(arguments):
        try:
            ctrl_c()
        except KeyboardInterrupt as error:
            raise ValueError("Exception raised while checking equality of metadata fields of pytree") from error

    command(work)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "maskgan demo: interrupted\n"


def test_what_failed_after_ctrl_c_is_told(ctrl_c, command, capsys):
    def record(arguments):
        with contextlib.suppress(KeyboardInterrupt):
            ctrl_c()
        raise UserError("the disk is full")

    command(record)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "maskgan demo: error: the disk is full\n"


def test_ctrl_c_that_the_command_waits_for_is_no_interruption(ctrl_c, command, capsys):
    def record(arguments):
        with contextlib.suppress(KeyboardInterrupt):
            ctrl_c()

    command(record)
    assert main(["demo"]) == 0
    assert capsys.readouterr().err == ""


def test_a_handler_that_the_command_sets_stays(ctrl_c, command):
    for before, chosen in ((signal.SIG_IGN, None), (signal.default_int_handler, signal.SIG_IGN)):
        signal.signal(signal.SIGINT, before)
        command(lambda arguments, chosen=chosen: chosen is not None and signal.signal(signal.SIGINT, chosen) and None)
        assert main(["demo"]) == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_outside_the_main_thread(command):
    command(lambda arguments: 3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(main, ["demo"]).result() == 3


def test_help_of_weights_names_them_all(capsys):
    with pytest.raises(SystemExit):
        main(["weights", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("CenterFace", "dlib", "ST-LPIPS"))
    assert "face detector" in COMMANDS["weights"] and "videos" in COMMANDS["unmask"]


@pytest.mark.parametrize(("arguments", "unbuffered"), [(["--help"], ""), (["--help"], "1"), (["weights", "--help"], "")])
def test_output_that_nobody_reads_ends_it_quietly(arguments, unbuffered):
    """As in `maskgan --help | head -1`."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "maskgan_jax", *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_without_any_output():
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m maskgan_jax --help >&-', sys.executable], stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_pipe_that_breaks_within_is_no_closed_output():
    code = """if True:
        import sys, types
        from maskgan_jax.__main__ import main

        def work(arguments):
            raise BrokenPipeError(32, "to a worker")

        sys.modules["maskgan_jax.commands.build"] = types.SimpleNamespace(main=work)
        sys.argv = ["maskgan", "build"]
        sys.exit(main())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith("BrokenPipeError: [Errno 32] to a worker\n")


def test_devices_that_jax_does_not_have_are_told_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "maskgan_jax", "unmask", PORTRAIT, f"--out={tmp_path}"],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "abacus"},
    )
    assert done.returncode == 1
    # Which backends are known depends on the version of JAX.
    assert re.fullmatch(
        r"maskgan unmask: error: JAX cannot use what JAX_PLATFORMS=abacus asks for \(Unable to initialize backend 'abacus': "
        r"Backend 'abacus' is not in the list of [a-z ]*: \['cpu', .*\]\); leave JAX_PLATFORMS unset, or set it to cpu\s",
        done.stderr,
    )


def test_devices_of_which_jax_says_nothing(command, monkeypatch, capsys):
    """For CUDA without a driver it fails without a word; other such failures are none of the devices."""

    def fail(*_):
        raise AssertionError

    command(fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setitem(sys.modules, "jax", types.SimpleNamespace(devices=fail))
    assert main(["demo"]) == 1
    assert "JAX cannot use what JAX_PLATFORMS=cuda asks for; leave" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "jax", types.SimpleNamespace(devices=lambda: ["a GPU"]))
    with pytest.raises(AssertionError):
        main(["demo"])
