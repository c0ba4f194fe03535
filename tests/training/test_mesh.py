import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from maskgan_jax.config import save_config
from maskgan_jax.errors import UserError
from maskgan_jax.training import mesh

# Three steps of the config on one batch of eight; prints
# {"share": of the state on the first device, "terms": [terms of each step]}.
PROGRAM = """
import json, sys
from functools import partial
import jax
import numpy as np
from maskgan_jax.config import read_config
from maskgan_jax.training.gan import GAN
from maskgan_jax.training.mesh import create_mesh, fsdp_shardings, replicated, shard_batch
from maskgan_jax.training.step import create_state, train_step

assert jax.device_count() == int(sys.argv[1]), jax.devices()
rng = np.random.default_rng(0)
channels = {"real": 3, "masked": 3, "mask": 1}
batch = {name: rng.integers(0, 256, (8, 64, 64, count), np.uint8) for name, count in channels.items()}
batch["landmarks"] = np.zeros((8, 68, 2), np.float32)
config = read_config(sys.argv[2])
mesh = create_mesh(config)
task = GAN(config)
create = partial(create_state, task, config, 3)
shardings = fsdp_shardings(mesh, jax.eval_shape(create, jax.random.key(0)))
state = jax.jit(create, out_shardings=shardings)(jax.random.key(0))
bytes_here = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
one_step = partial(train_step, task, config, 3, mesh=mesh)
step = jax.jit(one_step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
key = jax.device_put(jax.random.key(1), replicated(mesh))
logged = {"share": bytes_here / sum(leaf.nbytes for leaf in jax.tree.leaves(state)), "terms": []}
for _ in range(3):
    sharded = shard_batch(batch, mesh)
    assert {shard.data.shape[0] for shard in sharded["real"].addressable_shards} == {8 // jax.device_count()}
    state, terms = step(state, {}, sharded, key)
    logged["terms"].append({name: float(value) for name, value in terms.items()})
print(json.dumps(logged))
"""


def test_eight_devices_do_what_one_does(config, tmp_path):
    config.input.batch_size = 8
    config.generator.norm, config.discriminator.norm = "batch", "instance"
    running = []
    for count, fsdp in ((1, 1), (8, 4)):
        config.training.fsdp = fsdp
        save_config(tmp_path / f"{count}.json", config)
        environment = os.environ | {
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count}",
            "JAX_PLATFORMS": "cpu",
        }
        command = [sys.executable, "-c", PROGRAM, str(count), str(tmp_path / f"{count}.json")]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    results = []
    for process in running:
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        results.append(json.loads(out.splitlines()[-1]))
    one, eight = results
    for step, (expected, terms) in enumerate(zip(one["terms"], eight["terms"], strict=True)):
        assert terms == pytest.approx(expected, rel=1e-3), step
    assert len({terms["l1"] for terms in one["terms"]}) == 3
    assert eight["share"] < 0.4 and one["share"] == 1


@pytest.mark.parametrize(
    ("batch_size", "parts", "devices", "told"),
    [
        (12, 1, 8, "a batch of 12 cannot be divided among 8 devices; set input.batch_size to a multiple of 8"),
        (1, 1, 2, "a batch of 1 cannot be divided among 2 devices; set"),
        (12, 2, 4, r"a batch of 12 cannot be divided among 4 devices in 2 parts .optimizer.accumulate.; set .* multiple of 8"),
    ],
)
def test_batch_that_cannot_be_divided(config, batch_size, parts, devices, told):
    config.input.batch_size = batch_size
    config.optimizer.accumulate = parts
    with pytest.raises(UserError, match=told):
        mesh.create_mesh(config, [jax.devices()[0]] * devices)


def test_devices_that_cannot_be_divided(config):
    config.training.fsdp = 3
    with pytest.raises(UserError, match="4 devices cannot be divided into groups of 3; set training.fsdp to a divisor of 4"):
        mesh.create_mesh(config, [jax.devices()[0]] * 4)


def test_mesh_has_every_device(config):
    config.input.batch_size = 8 * jax.device_count()
    made = mesh.create_mesh(config)
    assert made.shape == {"data": jax.device_count(), "fsdp": 1}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 4, 64, 128), (None, None, None, "fsdp")),
        ((4, 4, 128, 64), (None, None, "fsdp")),
        ((4, 4, 128, 3), (None, None, "fsdp")),  # 3 cannot be divided.
        ((3, 2001), ()),  # Neither can these.
        ((512,), ()),  # So small that it is left whole.
        ((), ()),
    ],
)
def test_largest_axis_is_divided(shape, expected):
    devices = jax.sharding.AbstractMesh((2, 4), ("data", "fsdp"))
    array = jax.ShapeDtypeStruct(shape, np.float32)
    assert mesh.fsdp_shardings(devices, {"a": array})["a"].spec == jax.sharding.PartitionSpec(*expected)
    alone = jax.sharding.AbstractMesh((8, 1), ("data", "fsdp"))
    assert mesh.fsdp_shardings(alone, array).spec == jax.sharding.PartitionSpec()
