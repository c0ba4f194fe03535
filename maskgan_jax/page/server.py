"""Serves the site on this machine, with the headers that threads and safety need."""

from __future__ import annotations

import functools
import http.server
import os
from pathlib import Path
from typing import BinaryIO

from maskgan_jax.runtime.ports import binding

# COOP and COEP isolate the page from others, without which browsers give WebAssembly no threads. The policy lets the page load
# from here alone and compile WebAssembly; pictures may also be made by the page itself.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Browsers ask whether a file has changed each time; the service worker keeps what it has.
    "Cache-Control": "no-cache",
}
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".onnx": "application/octet-stream"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Gives out the files of a folder, and nothing outside it, even if links lead there."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | _TYPES

    def end_headers(self) -> None:
        """Adds the headers to every answer."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def send_head(self) -> BinaryIO | None:
        """Starts the answer, which is 404 if the path, or what is given out for a folder, lies elsewhere."""
        path, root = self.translate_path(self.path), os.path.realpath(self.directory)
        files = (path, *(os.path.join(path, name) for name in ("index.html", "index.htm")))
        if not all(Path(os.path.realpath(file)).is_relative_to(root) for file in files):
            return self.send_error(404)
        return super().send_head()

    def list_directory(self, path: str | os.PathLike) -> None:
        """Lists no folders."""
        self.send_error(404)

    def log_message(self, *message: object) -> None:
        """Prints nothing for each request."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle of a file is no error."""


def create_server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of `folder` on the loopback interface; port 0 is any free one.

    Raises:
      UserError: the port is taken, or not allowed.
    """
    with binding("127.0.0.1", port, "--serve=PORT"):
        return _Server(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))
