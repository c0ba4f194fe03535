"""The site as files: whole, checked by digests, and nothing in it that its policy forbids."""

import hashlib
import json
import re

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.page import site as site_module
from maskgan_jax.page.server import HEADERS


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_file_is_listed_with_its_digest(site):
    described = json.loads((site / "site.json").read_text())
    large = [*described["networks"].values(), *described["runtime"].values()]
    for file in large:
        path = site / file["file"]
        assert (path.stat().st_size, digest(path)) == (file["bytes"], file["sha256"])
    script = (site / "sw.js").read_text()
    kept = json.loads(re.search(r"const FILES = (\{.*?\});", script, re.S)[1])
    assert all(digest(site / name) == value for name, value in kept.items())
    there = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert there == {*kept, "sw.js", *(file["file"] for file in large)}


def test_samples_show_masks(site):
    for sample in json.loads((site / "site.json").read_text())["samples"]:
        assert sample["title"]
        picture = read_image(site / sample["file"])
        assert picture.dtype == np.uint8 and min(picture.shape[:2]) >= 480


def test_nothing_needs_what_the_policy_forbids(site):
    """No inline scripts or styles, and nothing from elsewhere; the policy is in the page too, for hosts without headers."""
    page = (site / "index.html").read_text()
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", page)
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    of_headers = dict(rule.split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split("; "))
    for rule in policy.split("; "):
        name, value = rule.split(" ", 1)
        assert of_headers[name] == value


def test_a_site_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(folder):
        raise UserError("no networks")

    monkeypatch.setattr(site_module, "package_file", lambda name: site_module._STATIC / "page.js")
    monkeypatch.setattr(site_module, "export_networks", fail)
    with pytest.raises(UserError, match="no networks"):
        site_module.write_site(tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_without_the_javascript_libraries(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="run `maskgan javascript` once"):
        site_module.write_site(tmp_path / "site")


def test_a_folder_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(site_module, "package_file", lambda name: site_module._STATIC / "page.js")
    (tmp_path / "site").mkdir()
    with pytest.raises(UserError, match="is there already"):
        site_module.write_site(tmp_path / "site")


def test_the_service_worker_adds_the_headers_of_the_server(site):
    """Other hosts may not send them, and a policy in the page does not bind its worker."""
    _, _, after = (site / "sw.js").read_text(encoding="utf-8").partition("const HEADERS = ")
    headers, _ = json.JSONDecoder().raw_decode(after)
    assert headers == {name: value for name, value in HEADERS.items() if name != "Cache-Control"}
    assert "Object.entries(HEADERS)) headers.set(name, value)" in after
