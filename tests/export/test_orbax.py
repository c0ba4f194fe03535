import jax
import numpy as np
import orbax.checkpoint as ocp

from maskgan_jax.export.orbax import save_orbax


def test_orbax_restores_the_variables(network, tmp_path):
    save_orbax(tmp_path / "network", network)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "network" / "variables")
    given = {name: tree for name, tree in network.variables.items() if tree}
    jax.tree.map(np.testing.assert_array_equal, {name: restored[name] for name in given}, given)
    assert sorted(path.name for path in (tmp_path / "network").iterdir()) == ["config.json", "variables"]
