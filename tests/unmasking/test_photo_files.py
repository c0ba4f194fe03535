import io
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import cv2
import exiv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image
from maskgan_jax.unmasking import photo_files
from maskgan_jax.unmasking.inputs import Job
from maskgan_jax.unmasking.metadata import LABEL, SOURCE_TYPE, Metadata, write_metadata
from maskgan_jax.unmasking.outputs import Outputs
from maskgan_jax.unmasking.photo_files import read_photo, write_drawn_png

from .conftest import write_photo

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" {}</rdf:RDF></x:xmpmeta>'
)


@pytest.fixture
def picture():
    noise = np.random.default_rng(0).uniform(0, 255, (40, 60, 3))
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def painted(rgb):
    """The photo with a square drawn over, and where that is."""
    where = np.zeros(rgb.shape[:2], bool)
    where[8:24, 16:40] = True
    return np.where(where[..., None], np.uint8([200, 60, 90]), rgb), where


def went_through(path, picture, tmp_path, **options):
    """A photo as it was and as it is read back after it was changed, and where it was."""
    photo = read_photo(path)
    result, where = painted(photo.rgb)
    job = Job(path, Path(path.name))
    out = Outputs(tmp_path / "out").result(job, job.redrawn_suffix)
    write_photo(out, photo, result, **options)
    return photo, out, where


@pytest.mark.parametrize("form", ["png", "bmp", "tiff", "gif", "webp"])
def test_without_loss_all_other_pixels_are_the_same(form, picture, tmp_path):
    path = tmp_path / f"a.{form}"
    Image.fromarray(picture).save(path, **({"lossless": True} if form == "webp" else {}))
    photo, out, where = went_through(path, picture, tmp_path)
    back = read_image(out)
    np.testing.assert_array_equal(back[~where], photo.rgb[~where])
    assert (back[where] == [200, 60, 90]).all()
    with Image.open(out) as image:
        assert image.format == ("PNG" if form == "gif" else photo.format)


@pytest.mark.parametrize(("form", "quality"), [("JPEG", 60), ("JPEG", 95), ("WEBP", 80), ("AVIF", 80)])
def test_lossy_formats_stay_what_they_are(form, quality, picture, tmp_path):
    path = tmp_path / f"a.{form.lower()}"
    Image.fromarray(picture).save(path, form, quality=quality)
    photo, out, where = went_through(path, picture, tmp_path)
    back = read_image(out)
    far = cv2.dilate(where.astype(np.uint8), np.ones((33, 33))) == 0
    assert np.abs(back[far].astype(int) - photo.rgb[far]).mean() < 3
    with Image.open(out) as image, Image.open(path) as original:
        assert image.format == form
        if form == "JPEG":
            assert image.quantization == original.quantization


def test_grey_alpha_and_both(picture, tmp_path):
    grey = Image.fromarray(picture).convert("L")
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1)))
    for mode, image in {"L": grey, "RGBA": Image.merge("RGBA", (*Image.fromarray(picture).split(), alpha)), "LA": grey}.items():
        if mode == "LA":
            image = Image.merge("LA", (grey, alpha))
        path = tmp_path / f"{mode}.png"
        image.save(path)
        photo, out, where = went_through(path, picture, tmp_path)
        with Image.open(out) as back:
            assert back.mode == mode
            values, before = np.asarray(back), np.asarray(image)
            np.testing.assert_array_equal(values[~where], before[~where])
            if "A" in mode:  # What was drawn hides what is behind it.
                assert (values[where][:, -1] == 255).all()
            assert (values[where] != before[where]).any()


def test_heic_becomes_jpeg(picture, tmp_path):
    """What was transparent becomes white, and shows nothing of what is behind it."""
    image = Image.fromarray(picture)
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:, 48:] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "a.heic", "HEIF", quality=95)
    photo, out, _ = went_through(tmp_path / "a.heic", picture, tmp_path)
    assert photo.notes == ("HEIC became JPEG", "transparency left out") and out.name == "a.heic.jpg"
    with Image.open(out) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
    back = read_image(out)
    assert (photo.rgb[:, 48:] == 255).all() and (back[:, 50:] > 240).all()
    assert np.abs(back[:, :8].astype(int) - photo.rgb[:, :8]).mean() < 4


@pytest.mark.parametrize("mode", ["P", "1"])
def test_palettes_and_bits(mode, picture, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(picture).convert(mode).save(path)
    photo, out, where = went_through(path, picture, tmp_path)
    np.testing.assert_array_equal(read_image(out)[~where], photo.rgb[~where])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["grey png", "RGB png", "RGBA png", "grey tiff", "RGB tiff", "RGBA tiff"])
def test_16_bits_stay_16(kind, turned, picture, tmp_path):
    mode, suffix = kind.split()
    wide = np.dstack([picture, picture[..., :1]]).astype(np.uint16) * 256 + 77
    wide = wide[..., : {"grey": 1, "RGB": 3, "RGBA": 4}[mode]]
    path, profile = tmp_path / f"a.{suffix}", icc(b"GRAY" if mode == "grey" else b"RGB ")
    metadata = Metadata()
    metadata.exif["Exif.Image.Artist"] = "A. Photographer"
    if turned:
        metadata.exif["Exif.Image.Orientation"] = exiv2.UShortValue(3)
    encoded = cv2.imencode(path.suffix, wide[..., [2, 1, 0, 3][: wide.shape[2]]] if mode != "grey" else wide)[1].tobytes()
    path.write_bytes(write_metadata(encoded, {"png": "PNG", "tiff": "TIFF"}[suffix], metadata)[0])
    photo = read_photo(path)
    photo.info.update(icc_profile=profile, dpi=(300, 300))
    result, where = painted(photo.rgb)
    assert photo.notes == () and photo.pixels.dtype == np.uint16
    write_photo(tmp_path / "out", photo, result)
    expected = wide[::-1, ::-1] if turned else wide
    back = cv2.imdecode(np.frombuffer((tmp_path / "out").read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    back = back[..., None] if mode == "grey" else back[..., [2, 1, 0, 3][: wide.shape[2]]]
    np.testing.assert_array_equal(back[~where], expected[~where])
    drawn = {"grey": [cv2.cvtColor(np.uint8([[[200, 60, 90]]]), cv2.COLOR_RGB2GRAY)[0, 0]], "RGB": [200, 60, 90]}
    np.testing.assert_allclose(
        back[where] / 257, np.broadcast_to([*drawn.get(mode, drawn["RGB"]), 255][: wide.shape[2]], back[where].shape), atol=1
    )
    with Image.open(tmp_path / "out") as image:
        image.load()
        assert image.getexif()[ExifTags.Base.Artist] == "A. Photographer"
        assert image.info["icc_profile"] == profile and round(image.info["dpi"][0]) == 300
        assert image.mode == {"grey": "I;16"}.get(mode, mode)


def test_a_result_that_is_as_the_photo(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.changed(photo.rgb), picture)


def test_print_colours_become_rgb(picture, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).convert("CMYK").save(path, quality=95)
    photo, out, where = went_through(path, picture, tmp_path)
    assert photo.notes == ("CMYK became RGB",)
    with Image.open(out) as image:
        assert image.mode == "RGB"


def test_an_animation_gives_its_first_image(picture, tmp_path):
    path = tmp_path / "a.gif"
    Image.fromarray(picture).save(path, save_all=True, append_images=[Image.fromarray(255 - picture)])
    photo, out, where = went_through(path, picture, tmp_path)
    assert photo.notes == ("only the first picture of an animation", "GIF became PNG")
    np.testing.assert_array_equal(read_image(out)[~where], photo.rgb[~where])


def test_photo_on_its_side_comes_out_upright(picture, tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Camera"
    Image.fromarray(np.ascontiguousarray(np.rot90(picture))).save(path, exif=exif, quality=95)
    photo, out, _ = went_through(path, picture, tmp_path)
    assert photo.rgb.shape == picture.shape
    with Image.open(out) as image:
        assert image.size == (60, 40)
        assert ExifTags.Base.Orientation not in image.getexif()
        assert image.getexif()[ExifTags.Base.Make] == "Camera"


def exif_of(orientation=None, **tags):
    exif = Image.Exif()
    for name, value in tags.items():
        exif[ExifTags.Base[name]] = value
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("orientation", [3, 5, 6])
@pytest.mark.parametrize("form", ["png", "jpg", "webp", "tiff"])
def test_turned_photos_keep_their_pixels(form, orientation, picture, tmp_path):
    path = tmp_path / f"a.{form}"
    picture = np.kron(picture[::4, ::4], np.ones((8, 8, 1), np.uint8))  # Of flat blocks, which JPEG keeps.
    options = {"jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True}}.get(form, {})
    Image.fromarray(picture).save(path, exif=exif_of(orientation, Make="Camera"), **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    photo, out, where = went_through(path, picture, tmp_path)
    np.testing.assert_array_equal(photo.rgb, expected)
    with Image.open(out) as image:
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert image.getexif()[ExifTags.Base.Make] == "Camera"
        values = np.asarray(image)
    far = cv2.dilate(where.astype(np.uint8), np.ones((17, 17))) == 0
    np.testing.assert_allclose(values[far].astype(int), expected[far], atol=4 if form == "jpg" else 0)
    assert np.abs(values[12:20, 20:36].astype(int) - [200, 60, 90]).max() < (12 if form == "jpg" else 1)


@pytest.mark.parametrize(
    "kind", ['tiff:Orientation="6"/>', "tiff:Orientation='6'/>", "><tiff:Orientation>6</tiff:Orientation></rdf:Description>"]
)
@pytest.mark.parametrize("in_exif", [True, False])
@pytest.mark.parametrize("form", ["png", "jpg", "tiff"])
def test_xmp_does_not_turn_the_result_again(form, in_exif, kind, picture, tmp_path):
    path = tmp_path / f"a.{form}"
    xmp, exif = XMP.format(kind).encode(), exif_of(6 if in_exif else None)
    if form == "png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        Image.fromarray(picture).save(path, pnginfo=text, exif=exif)
    elif form == "tiff":
        exif[ExifTags.Base.XMLPacket] = xmp
        Image.fromarray(picture).save(path, tiffinfo=exif)
    else:
        Image.fromarray(picture).save(path, xmp=xmp, exif=exif)
    for label in (True, False):
        photo, out, _ = went_through(path, picture, tmp_path, label=label)
        with Image.open(out) as image:
            image.load()
            turned = ImageOps.exif_transpose(image)
            assert b"6" not in re.findall(rb"tiff:Orientation\D+(\d)", image.info.get("xmp", b""))
            assert turned.size == image.size == photo.rgb.shape[1::-1]


def saved_tiff(kind, picture, path):
    """A TIFF of a kind, by Pillow or OpenCV."""
    image = Image.fromarray(picture)
    if kind == "opencv":  # LZW of differences.
        cv2.imwrite(str(path), picture[..., ::-1])
    elif kind == "48 bits":
        cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 257)
    elif kind == "16 bits":
        cv2.imwrite(str(path), picture[..., 0].astype(np.uint16) * 257)
    elif kind == "bilevel":
        image.convert("1").save(path, compression="group4")
    elif kind == "white is 0":
        image.convert("L").save(path, tiffinfo={262: 0})
    elif kind == "big":
        image.save(path, big_tiff=True, tiffinfo={ExifTags.Base.Artist: "A. Photographer"})
    elif kind == "turned":
        image.save(path, compression="tiff_lzw", tiffinfo={ExifTags.Base.Orientation: 6})
    elif kind == "strips":
        image.save(path, compression="tiff_lzw", strip_size=600)
    elif kind in ("jpeg", "zstd"):
        image.save(path, compression=kind)
    else:
        image.convert(kind).save(path, compression="tiff_lzw")


TIFFS = "P CMYK YCbCr LA RGBA opencv bilevel big turned strips jpeg zstd".split() + ["48 bits", "16 bits", "white is 0"]


@pytest.mark.parametrize("kind", TIFFS)
def test_tiffs_of_all_kinds_are_readable_and_keep_their_pixels(kind, picture, tmp_path):
    path = tmp_path / "a.tif"
    saved_tiff(kind, picture, path)
    photo, out, where = went_through(path, picture, tmp_path)
    with Image.open(path) as image:
        image.load()
        expected = np.asarray(image)[..., None] >> 8 if kind == "16 bits" else np.asarray(image.convert("RGB"))
    with Image.open(out) as image:
        values = read_image(out)
        assert image.getexif()[ExifTags.Base.ImageDescription] == LABEL
    assert values.shape == photo.rgb.shape
    far = cv2.dilate(where.astype(np.uint8), np.ones((33, 33))) == 0
    np.testing.assert_allclose(
        values[far].astype(int), np.broadcast_to(expected, values.shape)[far], atol=24 if kind == "jpeg" else 0
    )
    if kind not in ("LA", "zstd"):  # Which OpenCV does not read.
        np.testing.assert_array_equal(cv2.imread(str(out))[..., ::-1], values)
    assert photo.notes == (("CMYK became RGB",) if kind == "CMYK" else ())


def test_of_a_tiff_what_says_something_of_the_photo_is_kept(picture, tmp_path):
    for compression in ("raw", "tiff_lzw"):
        exif = exif_of(Artist="A. Photographer", PageName="a page")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExposureTime] = TiffImagePlugin.IFDRational(1, 60)
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:02 03:04:05"
        exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.5)
        exif.load(exif.tobytes())  # Makes the two directories tags of the file.
        exif[ExifTags.Base.Copyright] = "© Photographer".encode()
        path = tmp_path / "a.tif"
        Image.fromarray(picture).save(path, tiffinfo=exif, dpi=(300, 300))
        photo = read_photo(path)
        photo.info["compression"] = compression  # Pillow writes such tags with "raw" only.
        out = tmp_path / "out.tif"
        assert write_photo(out, photo, painted(photo.rgb)[0]) == ()
        with Image.open(out) as image:
            image.load()
            assert image.info["compression"] == compression and image.info["dpi"] == (300, 300)
            tags = image.getexif()
            assert tags[ExifTags.Base.Artist] == "A. Photographer"
            assert tags[ExifTags.Base.Copyright].encode("latin-1").decode() == "© Photographer"
            assert ExifTags.Base.PageName not in tags
            assert tags.get_ifd(ExifTags.IFD.Exif) == {33434: 1 / 60, 36867: "2020:01:02 03:04:05"}
            assert tags.get_ifd(ExifTags.IFD.GPSInfo) == {2: (1.0, 2.0, 3.5)}
        write_photo(out, photo, painted(photo.rgb)[0], keep_metadata=False)
        with Image.open(out) as image:
            assert ExifTags.IFD.GPSInfo not in image.getexif() and ExifTags.Base.Artist not in image.getexif()


def test_a_lack_of_memory_is_no_fault_of_metadata(picture, tmp_path, monkeypatch):
    Image.fromarray(picture).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    monkeypatch.setattr(photo_files, "_encoded", lambda *_: np.empty(2**62, np.uint8))
    with pytest.raises(MemoryError):
        write_photo(tmp_path / "b.png", photo, photo.rgb)


@pytest.mark.parametrize("name", ["exif", "xmp"])
def test_metadata_too_long_for_a_jpeg_is_left_out_and_that_is_reported(name, picture, tmp_path):
    path = tmp_path / "a.jpg"
    long = {
        "exif": exif_of(Artist="A" * 65490),
        "xmp": XMP.format('tiff:Make="' + "A" * 65100 + '"/>').encode(),
    }
    Image.fromarray(picture).save(path, **{"exif": exif_of(Artist="A"), name: long[name]})
    photo = read_photo(path)
    out = tmp_path / "out.jpg"
    notes = write_photo(out, photo, painted(photo.rgb)[0])
    assert notes == ({"exif": "parts of EXIF", "xmp": "XMP"}[name] + " left out, too long for a JPEG",)
    with Image.open(out) as image:
        assert image.getexif()[ExifTags.Base.ImageDescription] == LABEL
        assert SOURCE_TYPE.encode() in image.info["xmp"]
        assert (ExifTags.Base.Artist in image.getexif()) == (name == "xmp")


def test_xmp_that_is_not_utf8(picture, tmp_path):
    path = tmp_path / "a.png"
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    text = b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + XMP.format('tiff:Make="K\xe4mera"/>').encode("latin-1")
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", PngImagePlugin._crc32(text))
    path.write_bytes(file.getvalue()[:33] + chunk + file.getvalue()[33:])
    for label in (True, False):
        _, out, _ = went_through(path, picture, tmp_path, label=label)
        with Image.open(out) as image:
            image.load()
            assert "K\ufffdmera" in image.info["xmp"].decode()


def test_what_pillow_refuses_is_reported_and_nothing_is_replaced(picture, tmp_path):
    path, out = tmp_path / "a.jpg", tmp_path / "out.jpg"
    Image.fromarray(picture).save(path)
    out.write_bytes(b"earlier")
    photo = read_photo(path)
    photo.info["qtables"] = []
    with pytest.raises(UserError, match="out.jpg as JPEG .*; leave out its metadata"):
        write_photo(out, photo, painted(photo.rgb)[0])
    assert out.read_bytes() == b"earlier" and len(list(tmp_path.iterdir())) == 2


def test_resolutions_that_are_none(picture, tmp_path):
    path = tmp_path / "a.tif"
    rational = TiffImagePlugin.IFDRational(0, 0)
    Image.fromarray(picture).save(path, tiffinfo={282: rational, 283: rational, 296: 2})
    photo, out, where = went_through(path, picture, tmp_path)
    np.testing.assert_array_equal(read_image(out)[~where], picture[~where])


@pytest.mark.parametrize("animated", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
def test_webp_without_loss_is_known_behind_a_colour_profile(lossless, animated, picture, tmp_path):
    path = tmp_path / "a.webp"
    more = {"save_all": True, "append_images": [Image.fromarray(255 - picture)]} if animated else {}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture).save(path, lossless=lossless, icc_profile=profile, **more)
    photo, out, where = went_through(path, picture, tmp_path)
    assert (b"VP8L" in out.read_bytes()) == lossless
    if lossless:
        np.testing.assert_array_equal(read_image(out)[~where], photo.rgb[~where])


def icc(space, **curves):
    """An ICC profile, of version 2, of a gamma: for grey, or with the primaries of Adobe RGB."""

    def xyz(*values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    white, gamma = xyz(0.9642, 1, 0.8249), b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(1.8 * 256), 0)
    tags = {b"desc": b"desc\0\0\0\0\0\0\0\2g\0".ljust(92, b"\0"), b"cprt": b"text\0\0\0\0-\0\0\0", b"wtpt": white}
    if space == b"GRAY":
        tags[b"kTRC"] = gamma
    else:
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma)
        tags |= {
            b"rXYZ": xyz(0.6097, 0.3111, 0.0195),
            b"gXYZ": xyz(0.2053, 0.6257, 0.0609),
            b"bXYZ": xyz(0.1492, 0.0632, 0.7446),
        }
    place, table = 132 + 12 * len(tags), struct.pack(">I", len(tags))
    for name, value in tags.items():
        table += name + struct.pack(">2I", place, len(value))
        place += len(value)
    header = struct.pack(
        ">I4sI4s4s4s12s4s28x3i48x", place, b"", 0x02100000, b"mntr", space, b"XYZ ", b"", b"acsp", 63190, 65536, 54061
    )
    return header + table + b"".join(tags.values())


def test_the_profile_of_transparent_grey_is_obeyed(picture, tmp_path):
    for mode in ("L", "LA"):
        Image.fromarray(picture).convert(mode).save(tmp_path / f"{mode}.png", icc_profile=icc(b"GRAY"))
    photo = read_photo(tmp_path / "LA.png")
    np.testing.assert_array_equal(photo.rgb, read_photo(tmp_path / "L.png").rgb)
    result = photo.rgb.copy()
    result[8:24, 16:40] = 120
    write_photo(tmp_path / "out.png", photo, result)
    np.testing.assert_allclose(read_image(tmp_path / "out.png").astype(int), result, atol=2)


@pytest.mark.parametrize("kind", ["L png", "L jpg", "16 bits", "RGB"])
def test_what_is_drawn_is_in_the_colours_of_the_profile(kind, picture, tmp_path):
    """In the result, read with its profile, are the drawn colours; and the values of all others are those of the file."""
    path = tmp_path / ("a.jpg" if kind == "L jpg" else "a.png")
    grey = kind != "RGB"
    profile = icc(b"GRAY" if grey else b"RGB ")
    image = Image.fromarray(picture)
    if kind == "16 bits":
        image = Image.fromarray(picture[..., 0].astype(np.uint16) * 256 + 7)
    elif grey:
        image = image.convert("L")
    image.save(path, icc_profile=profile, **({"quality": 95} if kind == "L jpg" else {}))
    photo = read_photo(path)
    where = np.zeros(photo.rgb.shape[:2], bool)
    where[8:24, 16:40] = True
    drawn = np.uint8([120, 120, 120] if grey else [120, 60, 90])
    out = tmp_path / "out" / path.name
    write_photo(out, photo, np.where(where[..., None], drawn, photo.rgb))
    before = picture[..., 0] if kind == "16 bits" else np.asarray(Image.open(path))
    with Image.open(out) as image:
        assert image.info["icc_profile"] == profile
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if kind == "16 bits" else image.copy()
        assert image.mode == ("L" if grey else "RGB")
        values = np.asarray(image)
        to_srgb = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    np.testing.assert_allclose(np.asarray(to_srgb)[12:20, 20:36].reshape(-1, 3).mean(axis=0), drawn, atol=2)
    if kind == "L jpg":
        far = cv2.dilate(where.astype(np.uint8), np.ones((17, 17))) == 0
        np.testing.assert_allclose(values[far].astype(int), before[far], atol=6)
    else:
        np.testing.assert_array_equal(values[~where], before[~where])
    assert (
        np.abs(values[12:20, 20:36].mean(axis=(0, 1)) - (drawn[0] if grey else drawn)).max() > 4
    )  # It is another space than sRGB.


@pytest.mark.parametrize("kind", ["RGBA webp", "palette png", "colour png", "grey png", "16 bits png", "gif"])
def test_what_is_drawn_is_opaque(kind, picture, tmp_path):
    path = tmp_path / f"a.{kind.split()[-1]}"
    image, half = Image.fromarray(picture), np.zeros((40, 60), np.uint8)
    half[:, 30:] = 255
    if kind == "RGBA webp":
        image.putalpha(Image.fromarray(half))
        image.save(path, lossless=True)
    elif kind == "colour png":
        image = Image.fromarray(np.where(half[..., None] == 0, np.uint8([1, 2, 3]), picture))
        image.save(path, transparency=(1, 2, 3))
    elif kind in ("grey png", "16 bits png"):
        grey = np.where(half == 0, np.uint8(3), np.maximum(picture[..., 0], 10))
        Image.fromarray(grey if kind == "grey png" else grey.astype(np.uint16) * 256).save(
            path, transparency=3 if kind == "grey png" else 3 * 256
        )
    else:
        image = image.quantize(255)
        values = np.where(half == 0, np.uint8(255), np.asarray(image))
        palette, image = image.getpalette(), Image.fromarray(values)
        image.putpalette(palette[:765] + [1, 2, 3])
        image.save(path, transparency=255)
    photo, out, where = went_through(path, picture, tmp_path)
    assert photo.notes == {"16 bits png": ("16 bits a channel became 8",), "gif": ("GIF became PNG",)}.get(kind, ())
    with Image.open(out) as image:
        assert image.mode != "I;16"
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    assert (alpha[where] == 255).all()
    np.testing.assert_array_equal(alpha[~where], half[~where])


def test_other_images_of_the_file_are_reported(picture, tmp_path):
    for name, form in (("a.jpg", "MPO"), ("a.tif", "TIFF")):
        Image.fromarray(picture).save(tmp_path / name, form, save_all=True, append_images=[Image.fromarray(255 - picture)])
        photo, out, where = went_through(tmp_path / name, picture, tmp_path)
        assert photo.notes == ("only the first of several pictures",)
        assert np.abs(read_image(out)[~where].astype(int) - picture[~where]).mean() < 8


def test_images_after_the_first_may_be_damaged(picture, tmp_path):
    for name, form in (("a.gif", "GIF"), ("a.tif", "TIFF")):
        file = io.BytesIO()
        second = Image.fromarray(255 - picture)
        Image.fromarray(picture).save(
            file, form, save_all=True, append_images=[second], **({"duration": 90} if form == "GIF" else {})
        )
        data = bytearray(file.getvalue())
        if form == "GIF":
            data[data.rindex(b"\x21\xf9\x04") + 2] = 1  # What is said of the second picture is too short.
        else:
            with Image.open(file) as image:
                data[image.tag_v2.next :] = b"\0" * 100
        (tmp_path / name).write_bytes(data)
        photo, out, where = went_through(tmp_path / name, picture, tmp_path)
        assert len(photo.notes) == 1 + (form == "GIF") and "only the first" in photo.notes[0]
        np.testing.assert_array_equal(read_image(out)[~where], photo.rgb[~where])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_results_say_that_they_are_synthetic(form, picture, tmp_path):
    path = tmp_path / f"a.{form.lower()}"
    Image.fromarray(picture).save(path)
    _, out, _ = went_through(path, picture, tmp_path)
    with Image.open(out) as image:
        image.load()
        assert image.getexif()[ExifTags.Base.ImageDescription] == LABEL
        assert image.getexif()[ExifTags.Base.Software] == "maskgan_jax"
        if form == "PNG":
            assert image.info["Comment"] == LABEL
    assert SOURCE_TYPE.encode() in out.read_bytes()
    _, bare, _ = went_through(path, picture, tmp_path, label=False)
    assert SOURCE_TYPE.encode() not in bare.read_bytes() and b"maskgan" not in bare.read_bytes()


@pytest.mark.parametrize("label", [True, False])
def test_drawn_images_say_so_too(label, picture, tmp_path):
    write_drawn_png(tmp_path / "a.png", picture, label=label)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text.get("Comment") == (LABEL if label else None)
        assert (SOURCE_TYPE in image.text.get("XML:com.adobe.xmp", "")) == label


def test_metadata_is_kept_or_dropped(picture, tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    exif[ExifTags.Base.ImageDescription] = "A day out"
    exif[ExifTags.Base.Copyright] = "© Müller".encode()
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="theirs"/></rdf:RDF></x:xmpmeta>'
    )
    Image.fromarray(picture).save(path, exif=exif, xmp=xmp, dpi=(300, 300))
    _, out, _ = went_through(path, picture, tmp_path)
    with Image.open(out) as image:
        assert image.getexif()[ExifTags.Base.Artist] == "A. Photographer"
        assert image.getexif()[ExifTags.Base.ImageDescription] == "A day out"
        assert "© Müller".encode() in image.info["exif"]
        assert image.info["dpi"] == (300, 300)
        ((described,),) = ElementTree.fromstring(image.info["xmp"])
        assert {"theirs", SOURCE_TYPE} < set(described.attrib.values())
    _, out, _ = went_through(path, picture, tmp_path, keep_metadata=False)
    with Image.open(out) as image:
        assert ExifTags.Base.Artist not in image.getexif()
        assert SOURCE_TYPE.encode() in image.info["xmp"] and b"theirs" not in image.info["xmp"]


def test_colour_profile_is_kept_and_obeyed(picture, tmp_path):
    """A profile that exchanges nothing but is not sRGB: LAB's D50 white with other primaries is not to be had without a file,
    so sRGB's own stands in, and the file must still hold it."""
    path = tmp_path / "a.png"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(picture).save(path, icc_profile=profile)
    photo, out, where = went_through(path, picture, tmp_path)
    with Image.open(out) as image:
        assert image.info["icc_profile"] == profile
        values = np.asarray(image)
    np.testing.assert_array_equal(values[~where], picture[~where])
    np.testing.assert_allclose(values[where], np.broadcast_to([200, 60, 90], values[where].shape), atol=2)


def test_damaged_exif_does_not_matter(picture, tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", exif=exif)
    path.write_bytes(re.sub(b"II\\*\x00....|MM\x00\\*....", b"II*\x00\xff\xff\xff\x7f", file.getvalue(), count=1))
    _, out, _ = went_through(path, picture, tmp_path)
    assert read_image(out).shape == picture.shape


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image(data, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match="a.png is not a readable picture"):
        read_photo(tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot read .*gone.png"):
        read_photo(tmp_path / "gone.png")


def full_of_metadata(form, picture, path, orientation):
    exif = exif_of(orientation, Artist="secret")
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSMapDatum] = "secret place"
    options = {"exif": exif, "xmp": XMP.format('tiff:Make="secret"/>').encode(), "icc_profile": icc(b"RGB ")}
    image = Image.fromarray(picture)
    more = [Image.fromarray(255 - picture)]
    if form == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", "secret")
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
    if form in ("JPEG", "MPO"):
        options |= {"comment": "secret", "extra": b"\xff\xed\x00\x16Photoshop 3.0\0secret", "quality": 80}
    if form == "MPO":
        options |= {"save_all": True, "append_images": more}
    if form in ("WEBP", "GIF"):
        options |= {"save_all": True, "append_images": more, "duration": 100}
    if form == "GIF":
        image = image.quantize(64)
        options = {"comment": b"secret", "save_all": True, "append_images": more, "duration": 100, "loop": 3}
    if form == "TIFF":
        exif[ExifTags.Base.XMLPacket] = options.pop("xmp")
        options |= {"tiffinfo": options.pop("exif"), "save_all": True, "append_images": more}
    image.save(path, form, **options)
    assert b"secret" in path.read_bytes()


@pytest.mark.parametrize("orientation", [None, 6])
@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_nothing_is_left_of_metadata_that_are_dropped(form, orientation, picture, tmp_path):
    path = tmp_path / f"a.{form.lower()}"
    full_of_metadata(form, picture, path, orientation)
    photo = read_photo(path)
    write_photo(tmp_path / "out", photo, photo.rgb, keep_metadata=False, label=False)
    written = (tmp_path / "out").read_bytes()
    assert b"secret" not in written and b"maskgan_jax" not in written
    assert np.abs(read_image(tmp_path / "out").astype(int) - photo.rgb).mean() < 8
