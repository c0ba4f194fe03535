import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import write_png


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("measure_page")


def test_no_times(tool):
    with pytest.raises(UserError, match="--times=0: give at least 1"):
        tool.main(["SITE", "photo.png", "--times=0"])


def test_a_browser_that_does_not_start(tool, tmp_path, monkeypatch):
    pytest.importorskip("playwright")
    (tmp_path / "site.json").touch()
    write_png(tmp_path / "photo.png", np.zeros((64, 64, 3), np.uint8))
    monkeypatch.setenv("MASKGAN_CHROMIUM", "/bin/false")
    with pytest.raises(
        UserError, match=r"/bin/false cannot show .* \(TargetClosedError: .*; check it, or write the site again"
    ):
        tool.main([str(tmp_path), str(tmp_path / "photo.png")])
