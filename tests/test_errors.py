import pytest

from maskgan_jax.errors import Unfinished, UserError, exit_code


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UserError("a.jpg is empty; leave it out"), 1, "program: error: a.jpg is empty; leave it out\n"),
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


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_what_main_returns(returned, code, capsys):
    assert exit_code("program", lambda: returned) == code
    assert capsys.readouterr() == ("", "")


def test_faults_of_the_program_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_code("program", lambda: 1 // 0)
