import io
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_picture
from maskgan_jax.unmasking.photo_files import LABEL, SOURCE_TYPE, read_photo, write_photo, written_name


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
    out = tmp_path / "out" / written_name(path, photo.format).name
    write_photo(out, photo, result, **options)
    return photo, out, where


@pytest.mark.parametrize("form", ["png", "bmp", "tiff", "gif", "webp"])
def test_without_loss_all_other_pixels_are_the_same(form, picture, tmp_path):
    path = tmp_path / f"a.{form}"
    Image.fromarray(picture).save(path, **({"lossless": True} if form == "webp" else {}))
    photo, out, where = went_through(path, picture, tmp_path)
    back = read_picture(out)
    np.testing.assert_array_equal(back[~where], photo.rgb[~where])
    assert (back[where] == [200, 60, 90]).all()
    with Image.open(out) as image:
        assert image.format == ("PNG" if form == "gif" else photo.format)


@pytest.mark.parametrize(("form", "quality"), [("JPEG", 60), ("JPEG", 95), ("WEBP", 80), ("AVIF", 80)])
def test_lossy_formats_stay_what_they_are(form, quality, picture, tmp_path):
    path = tmp_path / f"a.{form.lower()}"
    Image.fromarray(picture).save(path, form, quality=quality)
    photo, out, where = went_through(path, picture, tmp_path)
    back = read_picture(out)
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
            if "A" in mode:
                np.testing.assert_array_equal(values[..., -1], before[..., -1])
            assert (values[where] != before[where]).any()


@pytest.mark.parametrize("mode", ["P", "1"])
def test_palettes_and_bits(mode, picture, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(picture).convert(mode).save(path)
    photo, out, where = went_through(path, picture, tmp_path)
    np.testing.assert_array_equal(read_picture(out)[~where], photo.rgb[~where])


@pytest.mark.parametrize("grey", [False, True])
def test_16_bits_become_8_and_that_is_told(grey, picture, tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), (picture[..., 0] if grey else picture).astype(np.uint16) * 257)
    photo, out, where = went_through(path, picture, tmp_path)
    assert photo.notes == ("16 bits a channel became 8",)
    np.testing.assert_array_equal(read_picture(out)[~where], photo.rgb[~where])


def test_print_colours_become_rgb(picture, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).convert("CMYK").save(path, quality=95)
    photo, out, where = went_through(path, picture, tmp_path)
    assert photo.notes == ("CMYK became RGB",)
    with Image.open(out) as image:
        assert image.mode == "RGB"


def test_an_animation_gives_its_first_picture(picture, tmp_path):
    path = tmp_path / "a.gif"
    Image.fromarray(picture).save(path, save_all=True, append_images=[Image.fromarray(255 - picture)])
    photo, out, where = went_through(path, picture, tmp_path)
    assert photo.notes == ("only the first picture of an animation",)
    assert out.name == "a.gif.png"
    np.testing.assert_array_equal(read_picture(out)[~where], photo.rgb[~where])


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


def test_metadata_is_kept_or_dropped(picture, tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Photographer"
    exif[ExifTags.Base.ImageDescription] = "A day out"
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="theirs"/></rdf:RDF></x:xmpmeta>'
    )
    Image.fromarray(picture).save(path, exif=exif, xmp=xmp, dpi=(300, 300))
    _, out, _ = went_through(path, picture, tmp_path)
    with Image.open(out) as image:
        assert image.getexif()[ExifTags.Base.Artist] == "A. Photographer"
        assert image.getexif()[ExifTags.Base.ImageDescription] == "A day out"
        assert image.info["dpi"] == (300, 300)
        (rdf,) = ElementTree.fromstring(image.info["xmp"])
        assert [list(part.attrib.values())[1] for part in rdf] == ["theirs", SOURCE_TYPE]
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
    assert read_picture(out).shape == picture.shape


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture(data, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UserError, match="a.png is not a readable picture"):
        read_photo(tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot read .*gone.png"):
        read_photo(tmp_path / "gone.png")
