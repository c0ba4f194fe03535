"""The site, a server of it, Chromium, and Node.js: each once, and skipped with a reason where it is missing."""

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskgan_jax import page
from maskgan_jax.errors import UserError
from maskgan_jax.javascript.packages import package_file
from maskgan_jax.page.server import create_server
from maskgan_jax.page.site import write_site
from maskgan_jax.weights.fetch import weight_file

STATIC = Path(page.__file__).parent / "static"


@pytest.fixture(scope="session")
def site(make_once) -> Path:
    """A site, as `maskgan page` writes it."""
    pytest.importorskip("onnx", reason="the page's networks need onnx: pip install 'maskgan_jax[onnx]'")
    try:
        package_file("onnxruntime-web/package.json")
        weight_file("centerface.onnx")
    except UserError as error:
        pytest.skip(str(error))
    return make_once("site", write_site)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serves a folder; yields its address."""
    with create_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def address(site) -> Iterator[str]:
    """Where the site is served."""
    with serving(site) as address:
        yield address


# Not for the session: while it runs, this thread has an event loop, which asyncio in other tests would meet.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The system's Chromium, with a camera that it makes up."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'maskgan_jax[test_browser]'")
    program = os.environ.get("MASKGAN_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not program:
        pytest.skip("needs Chromium: apt-get install chromium, or its path in MASKGAN_CHROMIUM")
    flags = ["--use-fake-device-for-media-stream"]
    # As root, as in containers, its sandbox does not work.
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def run_javascript() -> Callable[..., Any]:
    """What runs a function body, which gets `input` and returns a value for JSON, with the page's modules in Node.js."""
    if not shutil.which("node"):
        pytest.skip("needs Node.js: apt-get install nodejs")

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:
            return {"shape": value.shape, "base64": base64.b64encode(value.tobytes()).decode()}
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return value

    def run(imports: str, body: str, **values: Any) -> Any:
        script = f"""
            {imports.replace("from './", f"from 'file://{STATIC}/")}
            import {{ readFileSync }} from "node:fs";
            const input = JSON.parse(readFileSync(0, "utf8"));
            /** An image of what NumPy's uint8 became; or, if a type is given, of nested lists. */
            const image = (rows, Type) => {{
              if (!Type) {{
                const [height, width, channels = 1] = rows.shape;
                return {{ height, width, channels, data: Uint8Array.from(Buffer.from(rows.base64, "base64")) }};
              }}
              const channels = rows[0][0].length ?? 1;
              return {{ height: rows.length, width: rows[0].length, channels, data: Type.from(rows.flat(2)) }};
            }};
            const result = await (async () => {{ {body} }})();
            console.log(JSON.stringify(result, (_, value) => (ArrayBuffer.isView(value) ? [...value] : value)));
        """
        done = subprocess.run(
            ["node", "--input-type=module", "--eval", script], input=json.dumps(plain(values)), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def as_image() -> Callable[..., np.ndarray]:
    """What makes an array of an image that JavaScript gave."""

    def convert(value: dict[str, Any]) -> np.ndarray:
        shape = [value["height"], value["width"], value["channels"]]
        return np.reshape(value["data"], shape[: 2 if shape[2] == 1 else 3])

    return convert
