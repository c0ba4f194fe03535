import pytest

from maskgan_jax.errors import Unfinished, UserError, describe, exit_code


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UserError("a.jpg is empty; leave it out"), 1, "program: error: a.jpg is empty; leave it out\n"),
        (UserError("\x1b[2Ja\nb\u202egpj.jpg is empty"), 1, "program: error: \\x1b[2Ja\\nb\\u202egpj.jpg is empty\n"),
        (UserError("日本 é 👩\u200d🔬.jpg is empty"), 1, "program: error: 日本 é 👩\u200d🔬.jpg is empty\n"),
        (
            OSError(36, "File name too long", "aaa"),
            1,
            "program: error: cannot use aaa (File name too long); check it and its permissions\n",
        ),
        (MemoryError(), 1, "program: error: there is not enough memory; end other programs, or use smaller images\n"),
        # Nothing went wrong: what was to end has ended.
        (Unfinished("SIGTERM came; start again"), 75, "program: SIGTERM came; start again\n"),
        (KeyboardInterrupt(), 130, "program: interrupted\n"),
    ],
)
def test_one_line_and_an_exit_code(raised, code, line, capsys):
    def main():
        raise raised

    assert exit_code("program", main) == code
    assert capsys.readouterr() == ("", line)


def test_the_kind_and_the_message_of_an_error():
    assert describe(ValueError("two\n  lines\tof it")) == "ValueError: two lines of it"
    assert describe(KeyError("a" * 300)) == "KeyError: '" + "a" * 189
    assert describe(OSError(2, "No such file", "x.jpg"), most=16) == "FileNotFoundErro"


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_what_main_returns(returned, code, capsys):
    assert exit_code("program", lambda: returned) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [["export", "--workdir=NAME"], ["unmask", "--weights=NAME", __file__]])
def test_too_long_a_name(arguments, capsys):
    from maskgan_jax.__main__ import main

    assert main([argument.replace("NAME", "a" * 300) for argument in [*arguments, "--out=x"]]) == 1
    error = capsys.readouterr().err
    assert "File name too long" in error and error.count("\n") == 1


def test_faults_of_the_program_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_code("program", lambda: 1 // 0)
