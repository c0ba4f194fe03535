import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from maskgan_jax.data.masks import draw_mask
from maskgan_jax.data.masks.geometry import CONTOUR_MEAN, NOSE_MEAN, SIX_MEAN, six_points
from maskgan_jax.data.masks.templates import load_templates
from maskgan_jax.errors import UserError

POINTS = {"a": (50, 60), "b": (200, 20), "c": (350, 60), "d": (60, 200), "e": (200, 290), "f": (340, 200)}


def section(name, file="masks/templates/flat.png", **changes):
    points = {f"mask_{letter}": f"{x}, {y}" for letter, (x, y) in POINTS.items()}
    lines = {"template": file, **points, **changes}
    return f"[{name}]\n" + "".join(f"{key}:     {value}\n" for key, value in lines.items() if value is not None) + "\n"


@pytest.fixture
def folder(tmp_path):
    """A folder laid out as MaskTheFace's, with one half-transparent template of a single colour."""
    (tmp_path / "masks" / "templates").mkdir(parents=True)
    picture = np.zeros((320, 400, 4), np.uint8)
    picture[10:310, 40:360] = (60, 90, 180, 128)  # BGRA
    cv2.imwrite(str(tmp_path / "masks" / "templates" / "flat.png"), picture)
    (tmp_path / "masks" / "masks.cfg").write_text(section("flat") + "[empty]\n[empty_left]\n;[gone]\n;template: no.png\n")
    return tmp_path / "masks"


@pytest.fixture
def template_config(data_config, folder):
    data_config.masks = {"template": 1.0}
    data_config.mask_templates = str(folder)
    data_config.mask_shift = data_config.mask_rotation = data_config.mask_scale = data_config.mask_height = 0.0
    data_config.mask_below_nose = 0.0
    data_config.mask_fit = "homography"
    return data_config


def flat_face(colour):
    """One colour, with brows and eyes: without any edge the picture would count as blurred."""
    face = np.full((256, 256, 3), colour, np.uint8)
    for left in (64, 144):
        face[80:88, left : left + 48] = face[96:104, left + 12 : left + 36] = np.array(colour) * (0, 1, 0)
    return face


def srgb_to_linear(value):
    value = np.array(value) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def test_a_byte_order_mark_does_not_matter(folder):
    """As editors on Windows write it."""
    (folder / "masks.cfg").write_bytes(b"\xef\xbb\xbf" + (folder / "masks.cfg").read_bytes())
    assert list(load_templates(str(folder))) == ["flat"]


def test_half_transparent_template_over_a_flat_face(landmarks, template_config):
    # V is 180 for both, so that the brightness needs no matching.
    face = flat_face((90, 180, 120))
    drawn = draw_mask(face, landmarks, np.random.default_rng(0), template_config)
    mixed = 128 / 255 * srgb_to_linear((180, 90, 60)) + 127 / 255 * srgb_to_linear((90, 180, 120))
    inner = binary_erosion(np.abs(drawn.alpha - 128 / 255) < 1e-4, iterations=2)
    assert inner.sum() > 5000
    np.testing.assert_allclose(drawn.alpha[inner], 128 / 255, atol=1e-4)
    # In the shadow of itself the face is darker under the mask, but no brighter.
    seen = srgb_to_linear(drawn.image[inner])
    own = 128 / 255 * srgb_to_linear((180, 90, 60))
    assert (seen <= mixed + 0.005).all() and (seen >= own - 0.005).all()
    np.testing.assert_array_equal(drawn.image[~drawn.mask], face[~drawn.mask])
    assert drawn.mask_type == "template" and drawn.parameters["template"] == "flat"
    assert drawn.parameters["brightness"] == pytest.approx(1, abs=0.005)


@pytest.fixture
def opaque(folder):
    """The template, opaque."""
    picture = cv2.imread(str(folder / "templates" / "flat.png"), cv2.IMREAD_UNCHANGED)
    picture[..., 3][picture[..., 3] > 0] = 255
    cv2.imwrite(str(folder / "templates" / "flat.png"), picture)
    load_templates.cache_clear()


def test_opaque_template_keeps_its_colour(landmarks, template_config, opaque):
    face = flat_face((90, 180, 120))
    drawn = draw_mask(face, landmarks, np.random.default_rng(0), template_config)
    inner = drawn.alpha > 0.999
    assert inner.sum() > 5000
    assert (
        np.abs(drawn.image[inner].astype(int) - np.rint(np.multiply((180, 90, 60), drawn.parameters["brightness"]))).max() <= 1
    )


@pytest.mark.parametrize("fit", ["homography", "mesh"])
def test_six_points_of_the_template_land_on_those_of_the_face(head, template_config, folder, fit):
    """Six dots, one on each point of a face like the mean one."""
    head[:17], head[27:31] = CONTOUR_MEAN * 156 + (128, 100), NOSE_MEAN * 156 + (128, 100)
    template_config.mask_fit = fit
    template_config.mask_looseness = 0.0
    picture = np.zeros((320, 400, 4), np.uint8)
    for x, y in POINTS.values():
        cv2.circle(picture, (x, y), 8, (200, 200, 200, 255), -1)
    cv2.imwrite(str(folder / "templates" / "flat.png"), picture)
    load_templates.cache_clear()
    face = flat_face((180, 180, 180))
    drawn = draw_mask(face, head, np.random.default_rng(0), template_config)
    assert drawn.parameters["fit"] == fit
    count, labels, _, centres = cv2.connectedComponentsWithStats((drawn.alpha > 0.5).astype(np.uint8))
    assert count == 7
    distance = np.linalg.norm(centres[1:, None] - six_points(head)[None], axis=-1)
    assert sorted(distance.argmin(axis=1)) == list(range(6))
    # No homography carries six points of a template exactly onto six of a face; and the mesh goes by other points.
    assert distance.min(axis=1).max() < {"homography": 3, "mesh": 8}[fit]


def test_template_lies_on_its_points(landmarks, template_config, opaque):
    face = flat_face((180, 180, 180))
    alpha = draw_mask(face, landmarks, np.random.default_rng(0), template_config).alpha
    corners = np.array([(39.5, 9.5), (359.5, 9.5), (359.5, 309.5), (39.5, 309.5)])
    # From the template to the mean face and from there to this one, both by OpenCV.
    for source, target in ((list(POINTS.values()), SIX_MEAN), (SIX_MEAN, six_points(landmarks))):
        matrix, _ = cv2.findHomography(np.array(source, np.float64), target, 0)
        corners = cv2.perspectiveTransform(corners[None], matrix)[0]
    # Corners in subpixels of 1/16; the mask must cover the same quadrilateral.
    expected = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(expected, [np.rint(corners * 16).astype(np.int32)], 1, shift=4)
    core = cv2.erode(expected, np.ones((9, 9))) > 0
    around = cv2.dilate(expected, np.ones((9, 9))) > 0
    assert (alpha[core] > 0.98).all() and (alpha[~around] < 0.02).all()


@pytest.mark.parametrize("factor", [0.1, 3.0])
def test_size_of_the_template_does_not_matter(landmarks, template_config, folder, opaque, factor):
    face = flat_face((180, 180, 180))
    before = draw_mask(face, landmarks, np.random.default_rng(0), template_config).alpha
    path = str(folder / "templates" / "flat.png")
    picture = cv2.resize(cv2.imread(path, cv2.IMREAD_UNCHANGED), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    cv2.imwrite(path, picture)
    places = {key: ((x + 0.5) * factor - 0.5, (y + 0.5) * factor - 0.5) for key, (x, y) in POINTS.items()}
    (folder / "masks.cfg").write_text(section("flat", **{f"mask_{key}": f"{x}, {y}" for key, (x, y) in places.items()}))
    load_templates.cache_clear()
    after = draw_mask(face, landmarks, np.random.default_rng(0), template_config).alpha
    one, other = before > 0.5, after > 0.5
    assert (one & other).sum() > 0.97 * (one | other).sum()


def test_brightness_follows_the_face(face, landmarks, template_config):
    dark = draw_mask(face // 3, landmarks, np.random.default_rng(0), template_config)
    # V of the mask is 180, of the face a third of about 190.
    assert dark.parameters["brightness"] == pytest.approx(1 + (63 - 180) / 255, abs=0.01)


def test_turned_face_gets_the_side_view(face, landmarks, template_config, folder):
    (folder / "masks.cfg").write_text(section("flat") + section("flat_left") + section("flat_right"))
    for shift, name in ((-12, "flat_left"), (0, "flat"), (12, "flat_right")):
        turned = landmarks.copy()
        turned[30, 0] += shift
        load_templates.cache_clear()
        drawn = draw_mask(face, turned, np.random.default_rng(0), template_config)
        assert drawn.parameters["template"] == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (section("flat", mask_c="12"), r"masks\.cfg.*\[flat\].*mask_c"),
        (section("flat", mask_c="12, x"), r"masks\.cfg.*\[flat\].*mask_c"),
        (section("flat", mask_c="12, nan"), r"masks\.cfg.*\[flat\].*mask_c"),
        (section("flat", **{f"mask_{letter}": "12, 12" for letter in "abcdef"}), r"masks\.cfg.*\[flat\].* on a line"),
        (section("flat", mask_f=None), r"masks\.cfg.*\[flat\].*mask_f.*missing"),
        (section("flat", file=None), r"masks\.cfg.*\[flat\].*template"),
        (section("flat", file="gone.png"), r"masks\.cfg.*\[flat\].*gone\.png"),
        (section("flat", file="opaque.png"), r"opaque\.png.*alpha"),
        (section("flat", file="empty.png"), r"empty\.png"),
        (section("flat", file="clear.png"), r"clear\.png.*transparent"),
        (section("flat_left"), "front view"),
        ("", "front view"),
        ("mask_a = 1, 2\n", "valid masks.cfg"),
    ],
)
def test_faults_in_a_template_folder(folder, text, message):
    cv2.imwrite(str(folder / "opaque.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(folder / "clear.png"), np.zeros((8, 8, 4), np.uint8))
    (folder / "empty.png").write_bytes(b"")
    (folder / "masks.cfg").write_text(text)
    load_templates.cache_clear()
    with pytest.raises(UserError, match=message):
        load_templates(str(folder))


def test_no_masks_cfg(tmp_path):
    with pytest.raises(UserError, match=r"masks\.cfg"):
        load_templates(str(tmp_path / "nothing"))


def png_header(width, height):
    """A PNG that says it is as large as that, and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png_header(30000, 30000), "more than 25 megapixels"),
        (png_header(6000, 6000), "more than 25 megapixels"),
        (png_header(60, 60), "truncated, damaged"),
        (b"P7\nWIDTH 9\nHEIGHT 9\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(324), "not AVIF, BMP"),
        (b"", "an empty file"),
    ],
)
def test_hostile_templates(data, message, folder):
    (folder / "templates" / "flat.png").write_bytes(data)
    load_templates.cache_clear()
    with pytest.raises(UserError, match=rf"flat\.png \(section \[flat\] of .*\) is not a readable picture \({message}"):
        load_templates(str(folder))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "x\n  y"])
def test_names_of_templates_that_none_can_have(name, folder):
    (folder / "masks.cfg").write_text(section("flat", file=name))
    load_templates.cache_clear()
    with pytest.raises(UserError, match="template: there is no file") as caught:
        load_templates(str(folder))
    assert "\n" not in str(caught.value)


def test_a_masks_cfg_of_a_gigabyte(folder):
    os.truncate(folder / "masks.cfg", 10**9)
    load_templates.cache_clear()
    with pytest.raises(UserError, match="masks.cfg has more than 10 megabytes"):
        load_templates(str(folder))
