import subprocess
import sys
import types

import pytest

from maskgan_jax.__main__ import COMMANDS, main
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
