import cv2
import numpy as np
import pytest

from maskgan_jax.data.masks import draw_mask
from maskgan_jax.data.masks.geometry import homography, six_points, transformed
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
    data_config.mask_shift = data_config.mask_rotation = data_config.mask_scale = 0.0
    return data_config


def test_half_transparent_template_over_a_flat_face(landmarks, template_config):
    # V is 180 for both, so that the brightness needs no matching.
    face = np.full((256, 256, 3), (90, 180, 120), np.uint8)
    drawn = draw_mask(face, landmarks, np.random.default_rng(0), template_config)

    def linear(value):
        value = np.array(value) / 255
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)

    mixed = 128 / 255 * linear((180, 90, 60)) + 127 / 255 * linear((90, 180, 120))
    expected = np.rint(255 * (1.055 * mixed ** (1 / 2.4) - 0.055))
    inner = np.abs(drawn.alpha - 128 / 255) < 1e-6
    assert inner.sum() > 5000
    np.testing.assert_array_equal(drawn.picture[inner], np.broadcast_to(expected, (inner.sum(), 3)))
    # Nothing at the edge goes beyond the two colours: no halo.
    assert (drawn.picture >= np.minimum(face, expected)).all() and (drawn.picture <= np.maximum(face, expected)).all()
    np.testing.assert_array_equal(drawn.picture[drawn.alpha == 0], face[drawn.alpha == 0])
    assert drawn.mask_type == "template" and drawn.parameters["template"] == "flat"
    assert drawn.parameters["brightness"] == pytest.approx(1)


def test_template_lies_on_its_points(landmarks, template_config):
    face = np.full((256, 256, 3), 180, np.uint8)
    alpha = draw_mask(face, landmarks, np.random.default_rng(0), template_config).alpha
    corners = transformed(
        np.array([(39.5, 9.5), (359.5, 9.5), (359.5, 309.5), (39.5, 309.5)]),
        homography(np.array(list(POINTS.values()), float), six_points(landmarks)),
    )
    # Corners in subpixels of 1/16; the mask must cover the same quadrilateral.
    expected = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(expected, [np.rint(corners * 16).astype(np.int32)], 1, shift=4)
    core = cv2.erode(expected, np.ones((5, 5))) > 0
    around = cv2.dilate(expected, np.ones((5, 5))) > 0
    assert (alpha[core] > 0.5).all() and (alpha[~around] == 0).all()


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
