"""The server: the headers, and the folder's files alone."""

import http.client
import threading

import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.page.server import HEADERS, create_server


@pytest.fixture
def get(tmp_path):
    """What asks for a path, as it is, of a server of a folder with one script in it: status, headers and body."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page.js").write_text("code")
    (tmp_path / "site" / "folder").mkdir()
    with create_server(tmp_path / "site", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(path):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

        yield ask
        server.shutdown()


def test_headers(get):
    status, headers, body = get("/page.js")
    assert (status, body) == (200, b"code")
    assert headers["Content-Type"].startswith("text/javascript")
    assert all(headers[name] == value for name, value in HEADERS.items())
    assert "unsafe-inline" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/folder/", "/nothing.js"])
def test_nothing_else(get, path):
    status, _, body = get(path)
    assert status == 404 and b"secret" not in body.replace(b"/secret.txt", b"")


@pytest.mark.parametrize("link, path", [("a.txt", "/a.txt"), ("out", "/out/secret.txt"), ("folder/index.html", "/folder/")])
def test_a_link_to_elsewhere(get, tmp_path, link, path):
    """Of a file, of a folder, and of what is given out for a folder."""
    (tmp_path / "site" / link).symlink_to(tmp_path if link == "out" else tmp_path / "secret.txt")
    status, _, body = get(path)
    assert status == 404 and body != b"secret"


def test_links_within_the_folder(get, tmp_path):
    (tmp_path / "site" / "folder" / "index.html").symlink_to(tmp_path / "site" / "page.js")
    assert get("/folder/")[::2] == (200, b"code")


def test_a_port_that_is_taken(tmp_path):
    with create_server(tmp_path, 0) as server, pytest.raises(UserError, match=r"cannot listen on .*; give another --serve"):
        create_server(tmp_path, server.server_port)
