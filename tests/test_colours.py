import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from colour_signals import STORED, linear
from PIL import Image, ImageCms

from maskgan_jax.colours import colour_profile
from maskgan_jax.errors import UserError
from maskgan_jax.files import decode_image
from maskgan_jax.unmasking.photo_files import photo_bytes, read_photo

CICP_PQ, CICP_HLG, CICP_P3 = bytes([9, 16, 0, 1]), bytes([9, 18, 0, 1]), bytes([12, 13, 0, 1])
TOLD = {
    "pq": (b"cICP", CICP_PQ),
    "hlg": (b"cICP", CICP_HLG),
    "p3": (b"cICP", CICP_P3),
    "gamma 1": (b"gAMA", struct.pack(">I", 100000)),
}


def with_chunk(png, name, content):
    body = name + content
    return png[:33] + struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


def png_of(values, name, content, bits=8):
    values = np.rint(np.clip(values, 0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    return with_chunk(cv2.imencode(".png", values[..., ::-1])[1].tobytes(), name, content), values


@pytest.fixture(scope="module")
def picture():
    """Colours of a face and others, neither black nor white, `[40, 60, 3]`, 0 to 1."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 1, (40, 60, 3)), (0, 0), 4)
    return cv2.normalize(noise, None, 0.2, 0.85, cv2.NORM_MINMAX)


@pytest.mark.parametrize("kind", STORED)
def test_networks_see_srgb(kind, picture):
    data, _ = png_of(STORED[kind](linear(picture)), *TOLD[kind], bits=16)
    np.testing.assert_allclose(decode_image(data) / 255, picture, atol=0.025)  # Of HDR, 8 bits are coarse.


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", STORED)
def test_all_other_pixels_keep_their_values_and_what_tells_them(kind, bits, picture, tmp_path):
    data, values = png_of(STORED[kind](linear(picture)), *TOLD[kind], bits=bits)
    (tmp_path / "a.png").write_bytes(data)
    photo = read_photo(tmp_path / "a.png")
    drawn = np.uint8([200, 120, 255])  # Up to white.
    result = photo.rgb.copy()
    result[8:24, 16:40] = drawn
    written, _ = photo_bytes(tmp_path / "out.png", photo, result)
    back = cv2.imdecode(np.frombuffer(written, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    outside = np.ones(back.shape[:2], bool)
    outside[8:24, 16:40] = False
    assert back.dtype == values.dtype and b"iCCP" not in written
    np.testing.assert_array_equal(back[outside], values[outside])
    name, content = TOLD[kind]
    assert name + content in written[: written.index(b"IDAT")]
    expected = STORED[kind](linear(drawn[None, None] / 255))[0, 0]
    np.testing.assert_allclose(back[12, 20] / (2**bits - 1), expected, atol=0.012)


@pytest.mark.parametrize("told", [(b"gAMA", struct.pack(">I", 45455)), (b"cICP", bytes([1, 13, 0, 1])), (b"sRGB", b"\0")])
def test_what_is_srgb_anyway(told, picture):
    data, values = png_of(picture, *told)
    np.testing.assert_array_equal(decode_image(data), values)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
@pytest.mark.parametrize("kind", STORED)
def test_grey_is_shown_as_the_same_colours_are(kind, mode, picture, tmp_path):
    """And the values of a result are those that tell what is drawn; a mask has its own."""
    grey = np.rint(picture[..., 0] * 255).astype(np.uint8)
    stored = {"L": grey, "LA": np.dstack([grey, np.full_like(grey, 255)]), "I;16": grey.astype(np.uint16) << 8}[mode]
    data = with_chunk(cv2.imencode(".png", np.repeat(grey[..., None], 3, axis=-1))[1].tobytes(), *TOLD[kind])
    shown = decode_image(data).astype(int)
    Image.fromarray(stored).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(data := with_chunk((tmp_path / "a.png").read_bytes(), *TOLD[kind]))
    np.testing.assert_allclose(decode_image(data).astype(int), shown, atol=1)
    np.testing.assert_array_equal(decode_image(data, grey=True), grey)
    photo = read_photo(tmp_path / "a.png")
    result = photo.rgb.copy()
    result[8:24, 16:40] = 120
    written, _ = photo_bytes(tmp_path / "out.png", photo, result)
    np.testing.assert_allclose(decode_image(written).astype(int), result, atol=2)
    with Image.open(io.BytesIO(written)) as image:
        assert image.mode == mode
        kept = np.asarray(image).reshape(*grey.shape, -1)[..., 0]
    np.testing.assert_array_equal(kept[24:], stored.reshape(*grey.shape, -1)[24:, :, 0])


def with_chromaticities(picture, gamma, *values):
    data, _ = png_of(picture, b"gAMA", struct.pack(">I", gamma))
    return with_chunk(data, b"cHRM", struct.pack(">8I", *values))


def test_primaries_matter_at_the_gamma_of_srgb(picture):
    """Those of Adobe RGB, whose gamma is near it; but not those of sRGB, as programs round them."""
    adobe = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    shown, other = (decode_image(with_chromaticities(picture, gamma, *adobe)).astype(int) for gamma in (45455, 47100))
    assert np.abs(shown - other).mean() < 4 < np.abs(shown - picture * 255).mean()
    srgb = (31269, 32899, 63999, 33001, 30000, 60000, 15000, 5999)
    np.testing.assert_array_equal(decode_image(with_chromaticities(picture, 45455, *srgb)), np.rint(picture * 255))


@pytest.mark.parametrize(
    "values",
    [
        (0,) * 8,
        (31270, 32900) * 4,
        (31270, 0, 64000, 33000, 30000, 60000, 15000, 6000),
        (2**31,) * 8,
        (31270, 32900, 64000, 33000, 15000, 6000, 20000, 10000),
    ],
)
def test_impossible_primaries_count_as_those_of_srgb(values, picture):
    plain, _ = png_of(picture, *TOLD["gamma 1"])
    np.testing.assert_array_equal(decode_image(with_chromaticities(picture, 100000, *values)), decode_image(plain))


def nclx(form, values, primaries, transfer, path):
    """An AVIF or HEIC whose colours are told by numbers."""
    Image.fromarray(values).save(path, form, quality=95)
    data = bytearray(path.read_bytes())
    place = data.index(b"colrnclx") + 8
    data[place : place + 4] = struct.pack(">HH", primaries, transfer)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
def test_display_p3_by_numbers(form, picture, tmp_path):
    """The result has the same values, and a profile that says the same of them."""
    values = np.rint(STORED["p3"](linear(picture)) * 255).astype(np.uint8)
    photo = read_photo(nclx(form, values, 12, 13, tmp_path / "a"))
    np.testing.assert_allclose(photo.rgb / 255, picture, atol=0.06)
    with Image.open(io.BytesIO(photo_bytes(tmp_path / "out", photo, photo.rgb)[0])) as image:
        np.testing.assert_allclose(np.asarray(image).astype(int), values, atol=16)
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        shown = ImageCms.profileToProfile(image.copy(), profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert np.abs(np.asarray(shown) / 255 - picture).mean() < 0.8 * np.abs(values / 255 - picture).mean()
    np.testing.assert_allclose(np.asarray(shown) / 255, picture, atol=0.08)


@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
@pytest.mark.parametrize(("transfer", "message"), [(16, "HDR"), (18, "HDR"), (11, "9/11 of H.273, are not known")])
def test_what_cannot_be_kept_is_refused(form, transfer, message, picture, tmp_path):
    path = nclx(form, np.rint(picture * 255).astype(np.uint8), 9, transfer, tmp_path / "a")
    with pytest.raises(UserError, match=message):
        read_photo(path)


def test_a_profile_of_numbers_is_exact():
    """The white of a profile is that of all profiles, so that grey stays grey."""
    for primaries in (1, 5, 6, 7, 9, 12):
        data = with_chunk(
            cv2.imencode(".png", np.full((2, 2, 3), 128, np.uint8))[1].tobytes(), b"cICP", bytes([primaries, 4, 0, 1])
        )
        with Image.open(io.BytesIO(data)) as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(colour_profile(image, data)))
            shown = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert np.ptp(np.asarray(shown)[0, 0].astype(int)) <= 1
