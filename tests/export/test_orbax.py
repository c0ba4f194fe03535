from types import SimpleNamespace

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.export.orbax import save_orbax


def test_orbax_restores_the_variables(network, tmp_path):
    save_orbax(tmp_path / "network", network)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "network" / "variables")
    given = {name: tree for name, tree in network.variables.items() if tree}
    jax.tree.map(np.testing.assert_array_equal, {name: restored[name] for name in given}, given)
    assert sorted(path.name for path in (tmp_path / "network").iterdir()) == ["config.json", "variables"]


def test_full_disk(network, tmp_path, monkeypatch, capfd):
    """Found before Orbax, whose threads would tell at length."""
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100_000))
    monkeypatch.setattr(ocp.StandardCheckpointer, "save", lambda *_: pytest.fail("Orbax was called"))
    with pytest.raises(UserError, match=r"^cannot write \S*network \(No space left on device\); check"):
        save_orbax(tmp_path / "network", network)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        ("RESOURCE_EXHAUSTED: Failed writing [os_error_code='28']", UserError, r"\(No space left on device\)"),
        ("PERMISSION_DENIED: Failed writing [os_error_code='13']", UserError, r"\(Permission denied\)"),
        ("a fault of the program", ValueError, "a fault of the program"),
    ],
)
def test_disk_that_refuses(told, error, message, network, tmp_path, monkeypatch):
    def save(*_):
        raise ValueError(told)

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", save)
    with pytest.raises(error, match=message):
        save_orbax(tmp_path / "network", network)
    assert not list(tmp_path.iterdir())
