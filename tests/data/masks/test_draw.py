import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_erosion, binary_opening, laplace
from scipy.spatial import ConvexHull

from maskgan_jax.configs import _mask_sets
from maskgan_jax.data.align import align
from maskgan_jax.data.build.landmarks import largest_face_landmarks
from maskgan_jax.data.masks import check_masks, draw_mask
from maskgan_jax.data.masks.camera import Compression
from maskgan_jax.data.masks.catalogue import MASKS
from maskgan_jax.data.masks.patterns import PATTERNS
from maskgan_jax.errors import UserError

TYPES = tuple(MASKS)
# Those that end at the jaw.
FITTED = ("surgical", "n95", "kn95", "cloth")
PRINTED = tuple(name for name, mask in MASKS.items() if mask.has_patterns)
EYES_AND_BROWS = (*range(17, 27), *range(36, 48))


@pytest.fixture
def still(data_config):
    """Masks that sit as they are meant to, plain and above the nose."""
    data_config.mask_shift = data_config.mask_rotation = data_config.mask_scale = data_config.mask_height = 0.0
    data_config.mask_below_nose = 0.0
    data_config.mask_patterns = {"plain": 1.0}
    return data_config


def at(picture, landmarks, indices):
    x, y = np.rint(landmarks[list(indices)]).astype(int).T
    return picture[y, x]


def check_drawing(face, drawn, mask_type):
    """What is true of every drawing."""
    size = face.shape[:2]
    assert drawn.image.shape == face.shape and drawn.image.dtype == np.uint8
    for share in (drawn.alpha, drawn.shadow):
        assert share.shape == size and share.dtype == np.float32
        assert np.isfinite(share).all() and share.min() >= 0 and share.max() <= 1
    assert drawn.alpha.max() > 0.95
    np.testing.assert_array_equal(drawn.mask, (drawn.alpha > 0) | (drawn.shadow > 0))
    changed = (drawn.image != face).any(axis=-1)
    assert not (changed & ~drawn.mask).any()
    assert drawn.mask_type == mask_type == drawn.parameters["type"]
    # As JSON writes and reads it; NaN is no JSON.
    assert json.loads(json.dumps(drawn.parameters, allow_nan=False)) == drawn.parameters


@pytest.mark.parametrize("fit", ["mesh", "homography"])
@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("mask_type", TYPES)
def test_only_the_region_changes(paint, head, data_config, mask_type, size, fit):
    data_config.masks, data_config.mask_fit = {mask_type: 1.0}, fit
    face, landmarks = paint(size, blur=0.6, noise=2.0), (head + 0.5) * size / 256 - 0.5
    for seed, pattern in enumerate(PATTERNS if mask_type in PRINTED else ["plain"] * 3):
        data_config.mask_patterns = {pattern: 1.0}
        untouched, places = face.copy(), landmarks.copy()
        drawn = draw_mask(face, landmarks, np.random.default_rng(seed), data_config, [None, Compression(70, 1.2)][seed % 2])
        np.testing.assert_array_equal(face, untouched)
        np.testing.assert_array_equal(landmarks, places)
        check_drawing(face, drawn, mask_type)
        assert drawn.parameters["pattern"] == pattern and drawn.parameters["fit"] == fit
        # The mask is to be seen: nearly all of what it covers differs from the face.
        covered = drawn.alpha > 0.5
        assert (drawn.image[covered] != face[covered]).any(axis=-1).mean() > 0.9
        assert 0.08 < covered.mean() < 0.5


@pytest.mark.parametrize("fit", ["mesh", "homography"])
@pytest.mark.parametrize("mask_type", TYPES)
def test_nose_mouth_and_chin_are_covered(paint, head, still, mask_type, fit):
    still.masks, still.mask_fit = {mask_type: 1.0}, fit
    for seed in range(4):
        drawn = draw_mask(paint(), head, np.random.default_rng(seed), still)
        assert (at(drawn.alpha, head, (8, 30, *range(31, 36), *range(48, 68))) > 0.98).all()
        assert (at(drawn.alpha, head, EYES_AND_BROWS) == 0).all()
        assert not drawn.parameters["below_nose"]


@pytest.mark.parametrize("fit", ["mesh", "homography"])
@pytest.mark.parametrize("mask_type", TYPES)
def test_below_the_nose(paint, head, still, mask_type, fit):
    still.masks, still.mask_fit, still.mask_below_nose = {mask_type: 1.0}, fit, 1.0
    for seed in range(4):
        drawn = draw_mask(paint(), head, np.random.default_rng(seed), still)
        assert drawn.parameters["below_nose"] is True
        assert at(drawn.alpha, head, (27, 28, 29, 30)).max() < 0.5
        assert (at(drawn.alpha, head, (57, 66, 8)) > 0.9).all()


@pytest.mark.parametrize("mask_type", TYPES)
def test_same_seed_same_bytes_whatever_ran_before(paint, head, data_config, mask_type):
    data_config.masks = {mask_type: 1.0}
    face = paint(noise=2.0)

    def draw():
        return draw_mask(face, head, np.random.default_rng((3, 5)), data_config)

    first = draw()
    data_config.masks = _mask_sets.VARIED["masks"]
    for seed in range(4):
        draw_mask(face[::-1].copy(), head * 0.9, np.random.default_rng(seed), data_config)
    data_config.masks = {mask_type: 1.0}
    second = draw()
    assert first.parameters == second.parameters
    for name in ("image", "alpha", "shadow"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


@pytest.mark.parametrize("mask_type", TYPES)
def test_other_seeds_other_masks_other_parameters(paint, head, data_config, mask_type):
    data_config.masks = {mask_type: 1.0}
    face, landmarks = paint(64, blur=0.6), (head + 0.5) / 4 - 0.5
    drawn = [draw_mask(face, landmarks, np.random.default_rng(seed % 12), data_config) for seed in range(15)]
    for i, one in enumerate(drawn):
        for k, other in enumerate(drawn[:i]):
            same = i % 12 == k % 12
            assert (one.parameters == other.parameters) == same
            assert (one.image.tobytes() == other.image.tobytes()) == same


@pytest.mark.parametrize("mask_type", TYPES)
def test_parameters_tell_how_it_was_worn(paint, head, data_config, mask_type):
    data_config.masks = {mask_type: 1.0}
    face, landmarks = paint(64, blur=0.6), (head + 0.5) / 4 - 0.5
    for seed in range(8):
        parameters = draw_mask(face, landmarks, np.random.default_rng(seed), data_config, Compression(80, 1.5)).parameters
        assert np.abs(parameters["shift"]).max() <= 0.06 + 0.3 * parameters["below_nose"]
        assert abs(parameters["rotation"]) <= 3 and abs(parameters["scale"] - 1) <= 0.06 and 0 <= parameters["looseness"] <= 1
        assert parameters["colour"] in MASKS[mask_type].colours
        assert all(0 <= value <= 255 for value in parameters["srgb"])
        assert ("straps" in parameters) == bool(MASKS[mask_type].straps)
        assert parameters["compression"] == {"quality": 80, "scale": 1.5}
        assert {"blur", "noise", "light_colour", "light_direction", "ambient", "pattern", "below_nose"} <= set(parameters)


def about_centre(angle):
    return cv2.getRotationMatrix2D((127.5, 127.5), angle, 1.0)


@pytest.mark.parametrize("angle", [-25, 25])
@pytest.mark.parametrize("mask_type", FITTED)
def test_a_mask_turns_with_the_face(paint, head, still, mask_type, angle):
    still.masks = {mask_type: 1.0}
    face, matrix = paint(), about_centre(angle)
    turned_face = cv2.warpAffine(face, matrix, (256, 256), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    turned_head = head @ matrix[:, :2].T + matrix[:, 2]
    for seed in range(3):
        expected = cv2.warpAffine(draw_mask(face, head, np.random.default_rng(seed), still).alpha, matrix, (256, 256)) > 0.5
        turned = draw_mask(turned_face, turned_head, np.random.default_rng(seed), still).alpha > 0.5
        assert (turned & expected).sum() > 0.95 * (turned | expected).sum()


def squeezed(landmarks, side, share=0.6):
    """One half of the face narrower, as when it is turned away."""
    away = side * (landmarks[:, 0] - 128) > 0
    turned = landmarks.copy()
    turned[away, 0] = 128 + share * (turned[away, 0] - 128)
    return turned


@pytest.mark.parametrize("pose", ["front", "tilted left", "tilted right", "turned left", "turned right"])
@pytest.mark.parametrize("mask_type", FITTED)
def test_a_mask_stays_inside_the_jaw(head, still, mask_type, pose):
    still.masks = {mask_type: 1.0}
    landmarks = {
        "front": head,
        "tilted left": head @ about_centre(25)[:, :2].T + about_centre(25)[:, 2],
        "tilted right": head @ about_centre(-25)[:, :2].T + about_centre(-25)[:, 2],
        "turned left": squeezed(head, -1),
        "turned right": squeezed(head, 1),
    }[pose]
    jaw = landmarks[np.r_[:17, 27:31]]
    hull = jaw[ConvexHull(jaw).vertices]
    inside = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(inside, [np.rint(hull * 16).astype(np.int32)], 1, shift=4)
    # Skin inside the jaw and over the eyes only.
    face = np.full((256, 256, 3), (40, 90, 200), np.uint8)
    cv2.fillPoly(face, [np.rint(landmarks[[*range(17), *range(26, 16, -1)]] * 16).astype(np.int32)], (190, 145, 120), shift=4)
    # Masks reach under the chin, and loose ones beyond the cheeks: up to 9 % of the 156 pixels of the face.
    allowed = cv2.dilate(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (29, 29))) > 0
    for seed in range(4):
        drawn = draw_mask(face, landmarks, np.random.default_rng(seed), still)
        # Without straps, which are thin.
        covered = binary_opening(drawn.alpha > 0.5, iterations=5)
        assert drawn.parameters["fit"] == "mesh"
        # The lower corners of a square one stand off the jaw.
        assert (covered & ~allowed).sum() < 0.03 * covered.sum()
        # And it fills the jaw, from the mouth down.
        mouth = at(drawn.alpha, landmarks, range(48, 68))
        assert mouth.min() > 0.98


@pytest.mark.parametrize("mask_type", TYPES)
def test_light_comes_from_the_bright_side(paint, head, still, mask_type):
    still.masks = {mask_type: 1.0}
    for sign in (1, -1):
        ramp = np.linspace(0.55, 1.3, 256)[::sign]
        lit = np.clip(paint() * ramp[None, :, None], 0, 255).astype(np.uint8)
        drawn = draw_mask(lit, head, np.random.default_rng(1), still)
        left, right = drawn.image[165:195, 76:112], drawn.image[165:195, 144:180]
        assert np.sign(float(right.mean()) - float(left.mean())) == sign
        assert np.sign(drawn.parameters["light_direction"][0]) == sign


@pytest.mark.parametrize("mask_type", TYPES)
def test_a_grey_picture_gets_a_grey_mask(paint, head, data_config, mask_type):
    data_config.masks = {mask_type: 1.0}
    face = np.repeat(paint(blur=0.8)[..., 1:2], 3, axis=-1)
    for seed in range(4):
        drawn = draw_mask(face, head, np.random.default_rng(seed), data_config)
        assert np.ptp(drawn.image[drawn.mask].astype(int), axis=-1).mean() < 3


def edge_blur(alpha):
    """Standard deviation s of the blur of a shape's edges: a Gaussian has the integral 1 and the energy 1 / (2 s sqrt(pi))."""
    slope = np.hypot(*np.gradient(np.asarray(alpha, np.float64)))
    return slope.sum() / (2 * np.sqrt(np.pi) * (slope**2).sum())


@pytest.mark.parametrize("mask_type", ["surgical", "n95", "cloth"])
def test_a_mask_is_as_blurred_as_the_picture(paint, head, still, mask_type):
    still.masks = {mask_type: 1.0}
    for blur in (0.8, 1.5, 3.0):
        face = paint(blur=blur)
        drawn = draw_mask(face, head, np.random.default_rng(0), still)
        # The lower half, where there are no straps; the chin of the face on its ground for comparison.
        chin = (face[195:, :, 2].astype(float) - 120) / 80
        assert edge_blur(drawn.alpha[195:]) == pytest.approx(edge_blur(chin), rel=0.3)


def high_pass(picture, where):
    """Standard deviation of what is left of lightness without its smooth part (Laplacian), scaled as for white noise."""
    left = laplace(picture.astype(np.float64) @ (0.299, 0.587, 0.114)) / np.sqrt(20)
    # Robust against edges: by the median.
    return np.median(np.abs(left[where])) * 1.4826


@pytest.mark.parametrize("mask_type", ["surgical", "n95", "kn95", "cloth"])
@pytest.mark.parametrize("noise", [4.0, 9.0])
def test_a_mask_has_the_noise_of_the_picture(paint, head, still, mask_type, noise):
    still.masks = {mask_type: 1.0}
    face = paint(blur=1.2, noise=noise, skin=(150, 115, 95))
    skin = np.zeros((256, 256), bool)
    skin[108:126, 70:186] = skin[50:76, 80:176] = True
    ratios = []
    for seed in range(4):
        drawn = draw_mask(face, head, np.random.default_rng(seed), still)
        inner = binary_erosion(drawn.alpha == drawn.alpha.max(), iterations=6) & (drawn.image.max(axis=-1) < 250)
        ratios.append(high_pass(drawn.image, inner) / high_pass(face, skin))
    assert np.mean(ratios) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("mask_type", TYPES)
def test_compression_touches_the_mask_alone(paint, head, data_config, mask_type):
    data_config.masks = {mask_type: 1.0}
    face = paint(blur=0.8)
    plain, packed = (
        draw_mask(face, head, np.random.default_rng(0), data_config, compression)
        for compression in (None, Compression(30, 1.0))
    )
    np.testing.assert_array_equal(plain.alpha, packed.alpha)
    np.testing.assert_array_equal(plain.mask, packed.mask)
    np.testing.assert_array_equal(packed.image[~packed.mask], face[~packed.mask])
    error = packed.image[plain.alpha > 0.5].astype(float) - plain.image[plain.alpha > 0.5]
    # As much as such a compression does, and no more.
    assert 0.7 < error.std() < 15
    assert packed.parameters["compression"] == {"quality": 30, "scale": 1.0} and plain.parameters["compression"] is None


def test_landmarks_of_another_picture(face, landmarks, data_config):
    with pytest.raises(UserError, match="outside the image"):
        draw_mask(face, landmarks + 1000, np.random.default_rng(0), data_config)


def test_a_face_half_out_of_the_picture(face, head, data_config):
    """Either a mask is drawn, or it is said why not."""
    data_config.masks = {"surgical": 1.0}
    drawn = 0
    for away in (40, 90, 140, 165, 185, 200):
        for direction in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1)):
            landmarks = head + np.multiply(away, direction)
            try:
                picture = draw_mask(face, landmarks, np.random.default_rng(away), data_config).image
            except UserError as error:
                assert "outside the image" in str(error)
            else:
                assert picture.shape == face.shape
                drawn += 1
    assert drawn >= 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_pictures(head, data_config, level):
    face = np.full((256, 256, 3), level, np.uint8)
    for seed in range(4):
        drawn = draw_mask(face, head, np.random.default_rng(seed), data_config)
        assert not (drawn.image != face).any(axis=-1)[~drawn.mask].any()
        json.dumps(drawn.parameters, allow_nan=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": {"balaclava": 1.0}}, "data.masks.*balaclava"),
        ({"masks": {"surgical": 0.0}}, "data.masks"),
        ({"masks": {"surgical": -1.0}}, "data.masks.surgical: the weight must be a finite number of at least 0, not -1.0"),
        ({"masks": {"surgical": "much"}}, "data.masks.surgical: .*not a str"),
        ({"masks": {"n95": True}}, "data.masks.n95: .*not a bool"),
        ({"masks": {"n95": float("nan")}}, "data.masks.n95: .*not nan"),
        ({"masks": {"n95": {"white": 1.0}}}, "data.masks.n95: .*not a ConfigDict"),
        ({"masks": {}}, "data.masks"),
        ({"masks": {"template": 1.0}}, "data.mask_templates"),
        ({"mask_templates": "/nowhere"}, "no mask is drawn from the folder in data.mask_templates: give 'template' a weight"),
        ({"masks": {"template": 1.0}, "mask_templates": "/nowhere"}, "data.mask_templates: cannot read /nowhere/masks.cfg"),
        ({"mask_patterns": {"paisley": 1.0}}, "data.mask_patterns: there is no pattern 'paisley'; the patterns are plain, "),
        ({"mask_patterns": {"dots": 0.0}}, "data.mask_patterns: no pattern has a weight above 0"),
        (
            {"mask_patterns": {"dots": -1.0}},
            "data.mask_patterns.dots: .* at least 0, not -1.0",
        ),
        ({"mask_patterns": {"dots": float("inf")}}, "data.mask_patterns.dots: .*not inf"),
        ({"mask_patterns": {}}, "data.mask_patterns"),
    ],
)
def test_wrong_settings(face, landmarks, data_config, settings, message):
    for name, value in settings.items():
        data_config[name] = value
    with pytest.raises(UserError, match=message):
        check_masks(data_config)
    with pytest.raises(UserError, match=message):
        draw_mask(face, landmarks, np.random.default_rng(0), data_config)


@pytest.fixture(scope="module")
def photos():
    """30 real faces, aligned."""
    folder = Path(os.environ["MASKGAN_FACES"])
    files = sorted(line.split(",")[0] for line in (folder / "faces.csv").read_text().splitlines()[1:])
    faces = []
    for file in files[:: len(files) // 40]:
        photo = cv2.imread(str(folder / file), cv2.IMREAD_COLOR)[..., ::-1]
        try:
            faces.append(align(photo, largest_face_landmarks(photo), 256))
        except UserError:  # No face is found.
            continue
        if len(faces) == 30:
            break
    assert len(faces) == 30
    return faces


@pytest.mark.skipif("MASKGAN_FACES" not in os.environ, reason="MASKGAN_FACES names no folder of real faces with a faces.csv")
@pytest.mark.parametrize("mask_type", TYPES)
def test_real_faces(photos, data_config, mask_type):
    data_config.masks = {mask_type: 1.0}
    data_config.mask_below_nose = 0.0
    data_config.mask_shift = data_config.mask_rotation = data_config.mask_scale = data_config.mask_height = 0.0
    drawn = 0
    for number, face in enumerate(photos):
        rng = np.random.default_rng(number)
        try:
            mask = draw_mask(face.image, face.landmarks, rng, data_config, Compression(85, 1.1))
        except UserError as error:
            assert "leave this photo out" in str(error)
            continue
        drawn += 1
        check_drawing(face.image, mask, mask_type)
        landmarks = np.clip(face.landmarks, 0, 255)
        assert at(mask.alpha, landmarks, range(48, 68)).mean() > 0.9
        assert at(mask.alpha, landmarks, (30,)) > 0.9
        assert at(mask.alpha, landmarks, EYES_AND_BROWS).mean() < 0.05
        again = draw_mask(face.image, face.landmarks, np.random.default_rng(number), data_config, Compression(85, 1.1))
        assert mask.image.tobytes() == again.image.tobytes() and mask.parameters == again.parameters
    assert drawn >= 27
