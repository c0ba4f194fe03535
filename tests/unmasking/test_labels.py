import http.server
import json
import threading
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_png
from maskgan_jax.unmasking import video
from maskgan_jax.unmasking.inputs import Job
from maskgan_jax.unmasking.labels import Credentials, _chain_and_key, draw_mark, throwaway_certificate
from maskgan_jax.unmasking.metadata import SOURCE_TYPE
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.photos import unmask_photo

from .clips import read_video, write_video

c2pa = pytest.importorskip("c2pa", reason="c2pa-python is not installed (pip install 'maskgan_jax[c2pa]')")


def manifest_of(path, kind):
    with path.open("rb") as file, c2pa.Reader(kind, file) as reader:
        told = json.loads(reader.json())
    assert told["validation_state"] == "Valid"
    assert [status["code"] for status in told.get("validation_status", [])] == ["signingCredential.untrusted"]
    return told["manifests"][told["active_manifest"]], told


def actions_of(manifest):
    (actions,) = [one["data"]["actions"] for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")]
    return [(action["action"], action.get("digitalSourceType")) for action in actions]


def pem(label):
    return f"-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n".encode()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_signed_photos(form, run, portrait, tmp_path):
    path = tmp_path / f"a.{form.lower()}"
    Image.fromarray(portrait).save(path, form)
    (tmp_path / "mine.pem").write_bytes(throwaway_certificate())
    assert run(path, f"--out={tmp_path / 'once'}", f"--c2pa={tmp_path / 'mine.pem'}")[0] == 0
    manifest, _ = manifest_of(tmp_path / "once" / path.name, form.lower())
    assert actions_of(manifest) == [("c2pa.opened", None), ("c2pa.edited", SOURCE_TYPE)]
    assert manifest["ingredients"][0]["title"] == path.name and "thumbnail" not in json.dumps(manifest)
    # What the photo says of itself is kept as history, or left out and told.
    Credentials("test").sign(path, path, form)
    for flags, manifests, told in ((["--c2pa=test"], 2, False), (["--c2pa=test", "--metadata=drop"], 1, True), ([], 0, True)):
        out = tmp_path / f"again {len(flags)}"
        _, line, _ = run(path, f"--out={out}", *flags)
        assert ("Content Credentials (C2PA) left out" in line) == told
        if manifests:
            manifest, store = manifest_of(out / path.name, form.lower())
            assert len(store["manifests"]) == manifests
    assert actions_of(manifest) == [("c2pa.created", SOURCE_TYPE)] and "ingredients" not in manifest


@pytest.mark.parametrize(
    ("name", "form", "written"),
    [("png.jpg", "PNG", "png"), ("jpeg", "JPEG", "jpeg"), ("a.jfif", "JPEG", "jpeg"), ("heic.jpg", "HEIF", "jpeg")],
)
def test_photos_are_signed_by_their_content(name, form, written, run, portrait, tmp_path):
    Image.fromarray(portrait).save(tmp_path / name, form)
    code, _, err = run(tmp_path / name, f"--out={tmp_path / 'out'}", "--c2pa=test")
    assert (code, err.strip()) == (0, "")
    manifest, _ = manifest_of(tmp_path / "out" / name, written)
    (ingredient,) = manifest["ingredients"]
    assert ingredient["format"] in (form.lower(), f"image/{form.lower()}")


def test_a_video_is_signed_by_its_content(run, clip, tmp_path):
    pytest.importorskip("av")
    write_video(tmp_path / "a.mp4", clip)
    (tmp_path / "a.mp4").rename(tmp_path / "a.avi")
    code, _, err = run(tmp_path / "a.avi", f"--out={tmp_path / 'out'}", "--c2pa=test", "--side_by_side")
    assert (code, err.strip()) == (0, "")
    manifest, _ = manifest_of(tmp_path / "out" / "a.avi", "avi")
    assert manifest["ingredients"][0]["format"] in ("mp4", "video/mp4")
    # Side-by-side files are not signed.
    assert b"c2pa" not in (tmp_path / "out" / "side_by_side" / "a.avi").read_bytes()


@pytest.mark.parametrize("error", [UserError("no"), KeyboardInterrupt()])
def test_a_result_that_cannot_be_signed_replaces_nothing(error, unmasker, portrait, tmp_path, monkeypatch):
    def sign(*args, **kwargs):
        raise error

    write_png(tmp_path / "a.png", portrait)
    (tmp_path / "out").mkdir()
    credentials = Credentials("test")
    monkeypatch.setattr(credentials, "sign", sign)
    job = Job(tmp_path / "a.png", Path("a.png"))
    for older in ([], ["a.png", "a.png.json"]):
        for name in older:
            (tmp_path / "out" / name).write_bytes(b"older")
        with pytest.raises(type(error)):
            unmask_photo(job, unmasker, Outputs(tmp_path / "out", credentials=credentials, overwrite=True))
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == older
        assert all((tmp_path / "out" / name).read_bytes() == b"older" for name in older)


def test_a_large_file_is_not_signed_in_memory(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (1000, 2000, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", noise, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes())
    credentials = Credentials("test")
    tracemalloc.start()
    credentials.sign(path, path, "png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * path.stat().st_size
    manifest_of(path, "png")


def test_the_key_may_come_first(tmp_path):
    certificates, label, key = throwaway_certificate().partition(b"-----BEGIN PRIVATE KEY-----")
    (tmp_path / "a.pem").write_bytes(label + key.rstrip() + b"\n\nBag Attributes\n" + certificates)
    Credentials(tmp_path / "a.pem")


def test_certificates_of_issuers_are_given_along():
    certificates = b"".join(pem("CERTIFICATE").replace(b"AAAA", name * 4) for name in (b"B", b"C"))
    assert _chain_and_key(certificates + pem("PRIVATE KEY")) == (certificates, pem("PRIVATE KEY"))


def test_signed_videos(run, clip, tmp_path):
    pytest.importorskip("av")
    write_video(tmp_path / "clip.mp4", clip)
    write_video(tmp_path / "clip.mkv", clip)
    code, told, _ = run(tmp_path / "clip.mp4", tmp_path / "clip.mkv", f"--out={tmp_path / 'out'}", "--c2pa=test", "--mark")
    assert code == 0 and "no C2PA manifest, which .mkv cannot hold" in told
    manifest, _ = manifest_of(tmp_path / "out" / "clip.mp4", "mp4")
    assert actions_of(manifest)[-1] == ("c2pa.edited", SOURCE_TYPE)
    # What a video says of itself is kept as history, or left out and told.
    write_video(tmp_path / "mine.mp4", clip[:2])
    Credentials("test").sign(tmp_path / "mine.mp4", tmp_path / "mine.mp4", "mp4")
    for flags, told_so in ((["--c2pa=test"], False), (["--c2pa=test", "--metadata=drop"], True), ([], True)):
        _, line, _ = run(tmp_path / "mine.mp4", f"--out={tmp_path / f'again {len(flags)}'}", *flags)
        assert ("Content Credentials (C2PA) left out" in line) == told_so
    # A frame that is marked stays as it is if it is marked again.
    assert np.abs(draw_mark(clip[0]).astype(int) - clip[0]).mean() > 0.5
    for name in ("clip.mp4", "clip.mkv"):
        pictures, *_ = read_video(tmp_path / "out" / name)
        assert len(pictures) == 10
        assert max(np.abs(draw_mark(picture).astype(int) - picture).mean() for picture in pictures) < 0.1


def test_a_video_without_masks_has_no_mark(run, tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    face = render_face(1, seed=0, size=240).image
    write_video(tmp_path / "a.mp4", [face] * 3)
    monkeypatch.setattr(video, "draw_mark", np.zeros_like)
    flags = "--metadata=drop", "--no_label", "--mark"
    assert run(tmp_path / "a.mp4", f"--out={tmp_path / 'out'}", *flags)[0] == 0
    with av.open(tmp_path / "out" / "a.mp4") as source:
        assert all(frame.to_ndarray(format="rgb24").mean() > 50 for frame in source.decode(video=0))


def test_a_photo_without_masks_is_not_signed(run, tmp_path):
    write_png(tmp_path / "a.png", render_face(1, seed=0, size=250).image)
    assert run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--c2pa=test", "--mark")[0] == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == (tmp_path / "a.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"nothing", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nx", "cannot sign"),
        (pem("PRIVATE KEY"), "no certificate"),
        (pem("CERTIFICATE") + pem("PRIVATE KEY"), "cannot sign"),
        (pem("EC PRIVATE KEY") + pem("CERTIFICATE"), "SEC1 format; replace the key by what 'openssl pkey"),
        (pem("CERTIFICATE") + pem("ENCRYPTED PRIVATE KEY"), "its key is encrypted; replace the key by"),
    ],
)
def test_what_is_no_certificate(content, message, run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    if content:
        (tmp_path / "a.pem").write_bytes(content)
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", f"--c2pa={tmp_path / 'a.pem'}")
    assert code == 1 and message in err and len(err.strip().splitlines()) == 1 and not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=message):
        Credentials(tmp_path / "a.pem")


def test_a_visible_mark(run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    for flag in ("--mark", "--no_label"):
        assert run(tmp_path / "a.png", f"--out={tmp_path / flag}", flag)[0] == 0
    marked, plain = (read_image(tmp_path / flag / "a.png") for flag in ("--mark", "--no_label"))
    np.testing.assert_array_equal(marked, draw_mark(plain))
    changed = (marked != plain).any(axis=-1)
    assert changed[300:, 220:].mean() > 0.3 and not changed[:280].any() and not changed[:, :180].any()


@pytest.mark.parametrize("shape", [(1, 1), (30, 20), (4000, 50), (2000, 3000)])
def test_marks_of_images_of_all_sizes(shape):
    marked = draw_mark(np.full((*shape, 3), 128, np.uint8))
    assert marked.shape == (*shape, 3) and not marked[-1, -1].any()
    height, width = np.argwhere((marked != 128).any(axis=-1)).min(axis=0)
    # As large as can be read, or a fraction of a larger image.
    assert shape[0] - height <= max(30, min(shape) / 10) and shape[1] - width <= max(100, min(shape) / 2)


def test_no_photo_makes_the_program_fetch_a_url(portrait, tmp_path):
    """Manifests of a photo may be elsewhere; who serves them would learn who unmasks it, and when."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        packet = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description xmlns:d="http://purl.org/dc/terms/" d:provenance="http://127.0.0.1:{server.server_port}/a"/></rdf:RDF></x:xmpmeta>'
        )
        Image.fromarray(portrait).save(tmp_path / "photo.jpg", xmp=packet.encode())
        Image.fromarray(portrait).save(tmp_path / "result.jpg")
        result = tmp_path / "result.jpg"
        Credentials("test").sign(result, result, "jpeg", tmp_path / "photo.jpg", "jpeg")
        server.shutdown()
    assert not asked
