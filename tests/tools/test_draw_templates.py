import pytest

from maskgan_jax.data.masks.templates import load_templates
from maskgan_jax.errors import UserError


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("draw_templates")


def test_templates(tool, tmp_path, capsys):
    tool.main([str(tmp_path / "t"), "--count=3", "--seed=1"])
    assert len(load_templates(str(tmp_path / "t"))) == 3 and "3 templates are in" in capsys.readouterr().out
    with pytest.raises(UserError, match="has templates already"):
        tool.main([str(tmp_path / "t")])


@pytest.mark.parametrize(("given", "message"), [(["gs://a/b"], "is a URL"), (["t", "--count=0"], "--count must be at least 1")])
def test_what_cannot_be(tool, tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        tool.main(given)
    assert not list(tmp_path.iterdir())
