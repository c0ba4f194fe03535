import json
import os
import subprocess
import sys

import jax
import pytest

from maskgan_jax.config import save_config
from maskgan_jax.errors import UserError
from maskgan_jax.training import mesh

# Three steps on one batch of eight, with each norm; prints {norm: [terms of each step]}.
PROGRAM = """
import json, sys
import jax
import numpy as np
from maskgan_jax.config import read_config
from maskgan_jax.training.gan import create_task
from maskgan_jax.training.mesh import create_mesh, replicated, shard_batch

assert jax.device_count() == int(sys.argv[1]), jax.devices()
rng = np.random.default_rng(0)
channels = {"real": 3, "masked": 3, "mask": 1}
batch = {name: rng.integers(0, 256, (8, 64, 64, count), np.uint8) for name, count in channels.items()}
batch["landmarks"] = np.zeros((8, 68, 2), np.float32)
logged = {}
for norm in ("instance", "batch"):
    config = read_config(sys.argv[2])
    config.generator.norm = config.discriminator.norm = norm
    mesh = create_mesh(8)
    task = create_task(config, 3)
    state = jax.jit(task.init, out_shardings=replicated(mesh))(jax.random.key(0))
    train_step = jax.jit(task.train_step, donate_argnums=0, out_shardings=replicated(mesh))
    key = jax.device_put(jax.random.key(1), replicated(mesh))
    logged[norm] = []
    for _ in range(3):
        sharded = shard_batch(batch, mesh)
        assert {shard.data.shape[0] for shard in sharded["real"].addressable_shards} == {8 // jax.device_count()}
        state, terms = train_step(state, task.frozen, sharded, key)
        logged[norm].append({name: float(value) for name, value in terms.items()})
print(json.dumps(logged))
"""


def test_eight_devices_do_what_one_does(config, tmp_path):
    save_config(tmp_path / "config.json", config)
    running = []
    for count in (1, 8):
        environment = os.environ | {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}",
            "JAX_PLATFORMS": "cpu",
        }
        command = [sys.executable, "-c", PROGRAM, str(count), str(tmp_path / "config.json")]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    results = []
    for process in running:
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        results.append(json.loads(out.splitlines()[-1]))
    one, eight = results
    for norm in ("instance", "batch"):
        for step, (expected, terms) in enumerate(zip(one[norm], eight[norm], strict=True)):
            assert terms == pytest.approx(expected, rel=1e-3), (norm, step)
        assert len({step["l1"] for step in one[norm]}) == 3


@pytest.mark.parametrize(("batch_size", "devices"), [(12, 8), (1, 2), (6, 4)])
def test_batch_that_cannot_be_divided(monkeypatch, batch_size, devices):
    monkeypatch.setattr(mesh.jax, "device_count", lambda: devices)
    with pytest.raises(UserError, match=f"a batch of {batch_size} cannot be divided among {devices} devices"):
        mesh.create_mesh(batch_size)


def test_mesh_has_every_device():
    made = mesh.create_mesh(8 * jax.device_count())
    assert made.axis_names == ("data",) and made.size == jax.device_count()
