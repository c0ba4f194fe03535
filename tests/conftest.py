"""What many tests share: a small config, a small data set and small networks, each made once."""

import csv
import gc
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

# Tests, and the processes they start, compile many programs, some of them again and again, and run each a few times only:
# LLVM's optimisation and XLA's own emitters of fused loops cost more than they gain (a training step at 64 px compiles in a
# third of the time without the latter). To be set before JAX is imported.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false",
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Beside each other, the threads of NumPy's linear algebra wait for a core most of the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import flax.linen as nn
import jax
import numpy as np
import pytest
from etils import epath
from etils.epath.backend import fsspec_backend
from filelock import FileLock
from ml_collections import ConfigDict

from maskgan_jax.configs.default import get_config, splits
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.files import write_png
from maskgan_jax.models.generators import create_generator
from maskgan_jax.models.landmark_net import create_landmark_net
from maskgan_jax.networks.description import KINDS, Variables
from maskgan_jax.networks.safetensors import save_safetensors
from maskgan_jax.networks.stored import load_network
from maskgan_jax.study.design import EXPRESSIONS

# Tracing leaves few cycles among its very many objects: a tenth of a small run's time goes into looking for them.
gc.set_threshold(100_000, 50, 100)

SIDE = 64


def small_config() -> ConfigDict:
    config = get_config()
    config.data.size = SIDE
    config.data.splits = splits(train={"*": 16}, validation={"*": 4}, test={"*": 4})
    config.input.batch_size = 4
    config.input.threads = 1
    config.input.prefetch = 4
    config.generator.width = 4
    config.discriminator.width = 4
    config.landmark_net.width = 4
    config.losses.contour = 0.0
    config.training.log_every = 1
    config.training.pictures = 4
    return config


@pytest.fixture(scope="session")
def make_config() -> Callable[[], ConfigDict]:
    """What makes a small config of one's own: 64 px, width 4, batches of 4, no C1."""
    return small_config


@pytest.fixture
def config() -> ConfigDict:
    """A small config."""
    return small_config()


@pytest.fixture(scope="session")
def make_once(request, tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """What makes a folder, to be read only, by a function that writes it: once, for all workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        root = root.parent

    def make(name: str, write: Callable[[Path], None]) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with FileLock(f"{folder}.lock"):
            if not made.exists():
                write(folder)
                made.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def data_dir(make_once) -> Path:
    """A data set of rendered faces at 64 px: 16 to train on, 4 for validation, 4 for testing."""
    return make_once("data", lambda folder: build_data_set(["rendered=24"], small_config(), folder, workers=1))


def random_variables(model: nn.Module, *inputs: jax.Array, spread: float = 0.06) -> Variables:
    rng = np.random.default_rng(0)

    def value(path, leaf):
        middle = 1.0 if path[-1].key in ("scale", "variance") else 0.0
        noise = 0.0 if path[-1].key in ("mean", "variance") else spread * rng.normal(size=leaf.shape)
        return np.asarray(middle + noise + np.zeros(leaf.shape), np.float32)

    return jax.tree.map_with_path(value, jax.eval_shape(model.init, jax.random.key(0), *inputs))


@pytest.fixture(scope="session")
def draw_variables() -> Callable[..., Variables]:
    """What draws variables (NumPy) for a network, three times as far spread as the initial ones; nothing is compiled for it."""
    return random_variables


@pytest.fixture(scope="session")
def generator_variables() -> Variables:
    """An untrained generator for `config`, whose results differ visibly from picture to picture."""
    return random_variables(create_generator(small_config()), np.zeros((1, SIDE, SIDE, 3), np.float32))


@pytest.fixture(scope="session")
def generator_file(tmp_path_factory, generator_variables) -> Path:
    """That generator, exported."""
    path = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    save_safetensors(path, generator_variables, small_config())
    return path


@pytest.fixture(scope="session")
def landmark_file(tmp_path_factory) -> Path:
    """An untrained landmark network for `config`, exported."""
    config = small_config()
    config.task = "landmarks"
    variables = random_variables(create_landmark_net(config), np.zeros((1, SIDE, SIDE, 3), np.float32))
    path = tmp_path_factory.mktemp("landmarks") / "landmarks.safetensors"
    save_safetensors(path, variables, config)
    return path


@pytest.fixture(scope="session")
def load_tool() -> Callable[[str], ModuleType]:
    """What imports a program of `tools/` by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "tools" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # Where dataclasses look for the types of their fields.
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(autouse=True)
def no_thread_waits_for_signals() -> Iterator[None]:
    """`maskgan train` leaves a thread that ends this process at the next SIGTERM, which may be another test's."""
    yield
    signal.set_wakeup_fd(-1)


# ---- images for a study with people ----


@pytest.fixture(scope="session")
def study_images(tmp_path_factory) -> Path:
    """A folder with `real`, `ours`, `masked` and `mask` of 24 plain "faces" at 64 px, and `expressions.csv`."""
    folder = tmp_path_factory.mktemp("faces")
    rows = []
    for number in range(24):
        rng = np.random.default_rng(number)
        real = np.uint8(rng.integers(0, 200, 3) + np.linspace(0, 50, SIDE)[:, None, None] + np.zeros((SIDE, SIDE, 1)))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[SIDE // 2 :, 10:-10] = 255
        images = {"real": real, "mask": mask}
        for method, colour in (("ours", (200, 150, 130)), ("masked", (90, 160, 220))):
            images[method] = real.copy()
            images[method][mask > 0] = colour
        for method, image in images.items():
            write_png(folder / method / f"secret-name-{number:02}.png", image)
        rows.append([f"secret-name-{number:02}.jpg", EXPRESSIONS[number % 5]])
    with open(folder / "expressions.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", "expression"], *rows])
    return folder


# ---- buckets: real protocols, spoken by emulators of object stores on this machine ----


def serve(*command: str) -> Iterator[str]:
    """Runs a server, to which a free port is given, until it is not needed any more; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, *command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            time.sleep(0.1)
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert server.poll() is None
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def gs_server() -> Iterator[str]:
    """The address of an emulator of Google's storage."""
    for package in ("gcsfs", "gcp_storage_emulator"):
        pytest.importorskip(package, reason="needs an emulator: pip install 'maskgan_jax[gcs,test_buckets]'")
    yield from serve(str(Path(__file__).with_name("gcs_emulator.py")))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an emulator of Amazon's storage."""
    for package in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(package, reason="needs an emulator: pip install 'maskgan_jax[s3,test_buckets]'")
    yield from serve("-m", "moto.server", "-H", "127.0.0.1", "-p")


@pytest.fixture(params=["gs", "s3"])
def bucket(request, monkeypatch, tmp_path) -> Iterator[epath.Path]:
    """The URL of an empty folder in a bucket; processes that are started reach it, too. Copies have a cache of their own."""
    address = request.getfixturevalue(f"{request.param}_server")
    of_kind = {
        "gs": {
            "STORAGE_EMULATOR_HOST": address,  # Read by gcsfs, the next by tensorstore, the third by array_record.
            "TENSORSTORE_GCS_HTTP_URL": address,
            "CLOUD_STORAGE_EMULATOR_ENDPOINT": address,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "GOOGLE_CLOUD_PROJECT": "project",
            "NO_GCE_CHECK": "true",
        },
        "s3": {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    }
    for name, value in of_kind[request.param].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    fsspec_backend._get_filesystem.cache_clear()
    store = fsspec_backend.fs(f"{request.param}://")
    if request.param == "s3" and not store.exists("bucket"):
        store.mkdir("bucket")
    yield epath.Path(f"{request.param}://bucket/{uuid.uuid4().hex}")
    fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def data_in_bucket(bucket, data_dir) -> epath.Path:
    """The URL of `data_dir` in a bucket."""
    upload(data_dir, bucket / "data")
    return bucket / "data"


def upload(folder: Path, to: epath.Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            (to / path.relative_to(folder)).write_bytes(path.read_bytes())


# ---- a trained network of each kind, for what reads, writes and runs them ----

NETWORKS = ["unmask", "inpaint", "batch", "residual-batch", "landmarks", "segmentation"]


@pytest.fixture(scope="session")
def make_network(make_config, draw_variables, tmp_path_factory):
    """What makes an untrained network of a kind in `NETWORKS`, or 'residual-' with another norm."""

    def make(kind):
        config = make_config()
        config.task = kind if kind in KINDS else "unmask"
        config.segmentation_net.width = 4
        if kind == "inpaint":
            config.generator.update(inpaints=True, upsampling="nearest")
        if kind == "batch":
            config.generator.norm = "batch"
        if kind.startswith("residual-"):
            config.generator.update(architecture="residual", blocks=2, norm=kind.partition("-")[2], inpaints=True)
        module = KINDS[config.task].create(config)
        variables = draw_variables(module, *draw_inputs(config.task == "unmask" and config.generator.inpaints, 1))
        if kind.startswith("residual-"):
            # Otherwise nearly nothing comes out of the inner layers.
            variables["params"] = jax.tree.map(keep_variance, variables["params"])
        rng = np.random.default_rng(1)
        statistics = variables.get("batch_stats", {})
        variables["batch_stats"] = jax.tree.map(lambda a: a + rng.uniform(0, 0.2, a.shape).astype(np.float32), statistics)
        path = tmp_path_factory.mktemp("network") / "network.safetensors"
        save_safetensors(path, variables, config)
        return load_network(path, config.task)

    return make


def keep_variance(array):
    """A kernel, scaled so that what comes out of its layer is about as large as what goes in."""
    return array / (array.std() * np.sqrt(np.prod(array.shape[:-1]))) if array.ndim > 1 else array


def draw_inputs(inpaints, batch):
    """Faces, and masks if the network inpaints."""
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, (batch, SIDE, SIDE, 3)).astype(np.float32)]
    if inpaints:
        arrays.append((rng.random((batch, SIDE, SIDE, 1)) < 0.3).astype(np.float32))
    return arrays


def run(network, inputs):
    """What the network itself gives."""
    output = np.asarray(jax.jit(network.module.apply)(network.variables, *inputs))
    return 1 / (1 + np.exp(-output)) if network.description.task == "segmentation" else output


@pytest.fixture(scope="session", params=NETWORKS)
def network(request, make_network):
    """A network of each kind: generators with instance norm, that inpaint, with batch norm, residual; the others."""
    return make_network(request.param)


@pytest.fixture(scope="session")
def inputs(network):
    """Three faces, and regions if the network asks for them."""
    return draw_inputs(network.description.inpaints, 3)


@pytest.fixture(scope="session")
def expected(network, inputs):
    """What the network itself gives."""
    return run(network, inputs)


@pytest.fixture(scope="session", params=["instance", "none"])
def other_residual(request, make_network):
    """A residual generator with another norm than that of `network`, two faces and regions, and what it makes of them."""
    network = make_network(f"residual-{request.param}")
    inputs = draw_inputs(network.description.inpaints, 2)
    return network, inputs, run(network, inputs)


@pytest.fixture(scope="session")
def assert_close():
    """What compares the output of a format with that of the network."""

    def check(output, expected):
        assert output.dtype == np.float32 and np.std(expected) > 1e-3
        np.testing.assert_allclose(output, expected, atol=1e-4 * max(1, np.abs(expected).max()))

    return check
