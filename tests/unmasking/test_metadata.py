import io
import shutil
import struct
import subprocess
import zlib
from collections import Counter
from xml.etree import ElementTree

import exiv2
import numpy as np
import pytest
from PIL import ExifTags, Image, IptcImagePlugin, PngImagePlugin, TiffImagePlugin

from maskgan_jax.files import open_image
from maskgan_jax.unmasking.metadata import LABEL, SOURCE_TYPE
from maskgan_jax.unmasking.photo_files import _left_out, read_photo

from .conftest import write_photo

IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
OWN = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    f'rdf:about="" xmlns:Iptc4xmpExt="{IPTC_EXT}" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:mine="http://example.org/mine/" {}</rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)
FORMS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"]


@pytest.fixture(scope="module")
def picture():
    return np.tile(np.linspace(0, 255, 60).astype(np.uint8)[None, :, None], (40, 1, 3))


def saved(picture, form, path, *, xmp=None, **options):
    """A photo, with XMP where its format has it."""
    xmp = PACKET.format(xmp).encode() if xmp else None
    if xmp and form == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp and form == "TIFF":
        options["tiffinfo"] = options.pop("exif", Image.Exif())
        options["tiffinfo"][ExifTags.Base.XMLPacket] = xmp
    elif xmp:
        options["xmp"] = xmp
    Image.fromarray(picture).save(path, form, **options)
    return path


def unmasked(path, out, **options):
    """Writes a result of a photo, and gives what is told of it."""
    photo = read_photo(path)
    result = photo.rgb.copy()
    result[8:24, 16:40] = 99
    return (*photo.notes, *write_photo(out, photo, result, **options))


def properties(path):
    """How often each property is in the XMP of a file, their values, and all of it, as a parser of XML reads them."""
    with Image.open(path) as image:
        image.load()
        tree = ElementTree.fromstring(image.info["xmp"])
    found = [
        item
        for description in tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
        for item in (*description.attrib.items(), *((child.tag, child.text) for child in description))
    ]
    return Counter(name for name, _ in found), dict(found), ElementTree.tostring(tree).decode()


@pytest.mark.parametrize(
    "own",
    [
        f'Iptc4xmpExt:DigitalSourceType="{OWN}">',
        f">{'<Iptc4xmpExt:DigitalSourceType>'}{OWN}</Iptc4xmpExt:DigitalSourceType>",
        None,
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_the_label_is_there_once(form, own, picture, tmp_path):
    path = saved(picture, form, tmp_path / "a", xmp=own)
    for name in ("once", "twice"):
        unmasked(path, tmp_path / name)
        counts, values, text = properties(tmp_path / name)
        assert counts[f"{{{IPTC_EXT}}}DigitalSourceType"] == 1
        assert values[f"{{{IPTC_EXT}}}DigitalSourceType"] == SOURCE_TYPE
        assert text.count(LABEL) == 1
        assert text.count(f"Digital Source Type was {OWN}") == (own is not None)
        with Image.open(tmp_path / name) as image:
            assert image.getexif()[ExifTags.Base.Software] == "maskgan_jax"
            assert form != "PNG" or image.text["Comment"] == LABEL
        path = tmp_path / name


@pytest.mark.parametrize(("tool", "flag"), [("exiv2", "-px"), ("exempi", "-x")])
def test_other_programs_read_the_label(tool, flag, picture, tmp_path):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    unmasked(saved(picture, "JPEG", tmp_path / "a.jpg", xmp=f'Iptc4xmpExt:DigitalSourceType="{OWN}">'), tmp_path / "out.jpg")
    told = subprocess.run([tool, flag, tmp_path / "out.jpg"], capture_output=True, text=True)
    assert SOURCE_TYPE in told.stdout and "rror" not in told.stdout + told.stderr


def test_instructions_and_history_of_the_photo_stay(picture, tmp_path):
    history = (
        f'Iptc4xmpExt:DigitalSourceType="{OWN}" photoshop:Instructions="call first" mine:stars="5"><xmpMM:History '
        'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"><rdf:Seq>'
        '<rdf:li stEvt:action="created" stEvt:softwareAgent="Camera"/></rdf:Seq></xmpMM:History>'
    )
    unmasked(saved(picture, "JPEG", tmp_path / "a.jpg", xmp=history), tmp_path / "out.jpg")
    _, values, text = properties(tmp_path / "out.jpg")
    assert values["{http://ns.adobe.com/photoshop/1.0/}Instructions"] == f"{LABEL} call first"
    assert values["{http://example.org/mine/}stars"] == "5"
    assert text.index("Camera") < text.index("maskgan_jax", text.index("History"))


@pytest.mark.parametrize("before", [b"http://ns.adobe.com/xap/1.0/\0", b"\n<?xml version='1.0'?>", b"\xff\xfe"])
def test_xmp_that_does_not_begin_as_xml_does(before, picture, tmp_path):
    packet = before + PACKET.format('mine:stars="5">').encode()
    Image.fromarray(picture).save(tmp_path / "a.webp", xmp=packet)
    assert unmasked(tmp_path / "a.webp", tmp_path / "out.webp") == ()
    _, values, text = properties(tmp_path / "out.webp")
    assert values["{http://example.org/mine/}stars"] == "5" and SOURCE_TYPE in text


@pytest.mark.parametrize("form", FORMS)
def test_software_goes_into_the_history(form, picture, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = b"Camera \xe9\x01 2.0"
    path = saved(picture, form, tmp_path / "a", exif=exif)
    for name in ("once", "twice"):
        unmasked(path, tmp_path / name)
        _, _, text = properties(tmp_path / name)
        assert text.count("Software was Camera ") == 1
        path = tmp_path / name


def test_tags_that_a_tiff_loses_are_told(picture, tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ExifTags.Base.DocumentName], tags[ExifTags.Base.PageName], tags[ExifTags.Base.Artist] = "a scan", "a page", "me"
    tags[33550], tags[34735] = (1.0, 1.0, 0.0), (1, 1, 0, 0)  # GeoTIFF: how large a pixel is, and what its coordinates mean.
    tags.tagtype[33550], tags.tagtype[34735] = 12, 3
    tags[42112] = "<GDALMetadata/>"
    Image.fromarray(picture).save(tmp_path / "a.tif", tiffinfo=tags, icc_profile=b"-", dpi=(300, 300))
    assert unmasked(tmp_path / "a.tif", tmp_path / "out.tif") == (
        "TIFF tags left out (DocumentName, PageName, 0x830e, 0x87af, 0xa480)",
    )


def test_videos_behind_several_pictures_and_in_heic_are_told(picture, tmp_path):
    video = b"\0\0\0\x18ftypmp42" + bytes(60) + b"moov"
    image, path = Image.fromarray(picture), tmp_path / "a"
    image.save(path, "MPO", save_all=True, append_images=[image])
    path.write_bytes(path.read_bytes() + video)
    assert {"only the first of several pictures", "video behind the photo left out"} == set(unmasked(path, tmp_path / "out"))
    image.save(path, "HEIF")
    path.write_bytes(path.read_bytes() + (len(video) + 8).to_bytes(4) + b"mpvd" + video)
    assert set(unmasked(path, tmp_path / "out")) == {"HEIC became JPEG", "video behind the photo left out"}


def test_a_depth_map_is_told(picture, tmp_path):
    """Pillow names it; no writer of it is at hand."""
    image = Image.fromarray(picture)
    image.save(tmp_path / "a", "HEIF")
    with open_image((tmp_path / "a").read_bytes()) as image:
        image.info["depth_images"] = [None]
        assert list(_left_out(image, (tmp_path / "a").read_bytes())) == ["depth map left out"]


def test_iptc_comments_and_texts_stay(picture, tmp_path):
    field = b"\x1c\x02\x78\0\x09A caption\0"
    irb = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(field) - 1) + field
    extra = b"\xff\xed" + struct.pack(">H", len(irb) + 2) + irb
    saved(picture, "JPEG", tmp_path / "a.jpg", comment="a comment", extra=extra)
    text = PngImagePlugin.PngInfo()
    for keyword, value in (("Title", "A title"), ("Author", "Ä. Author"), ("Comment", "mine")):
        text.add_text(keyword, value)
    saved(picture, "PNG", tmp_path / "a.png", pnginfo=text)
    Image.fromarray(picture).quantize(32).save(tmp_path / "a.gif", comment=b"of a GIF")
    for kind in ("jpg", "png", "gif"):
        notes = ["GIF became PNG"] if kind == "gif" else []
        assert list(unmasked(tmp_path / f"a.{kind}", tmp_path / f"out.{kind}")) == notes
    with Image.open(tmp_path / "out.jpg") as image:
        assert (
            IptcImagePlugin.getiptcinfo(image)[2, 120] == b"A caption" and image.info["comment"].rstrip(b"\0") == b"a comment"
        )
    with Image.open(tmp_path / "out.png") as image:
        assert image.text["Title"] == "A title" and image.text["Author"] == "Ä. Author"
        assert image.text["Comment"] == f"{LABEL} mine"
    with Image.open(tmp_path / "out.gif") as image:
        assert image.text["Comment"] == f"{LABEL} of a GIF"
    for kind in ("jpg", "png"):
        unmasked(tmp_path / f"a.{kind}", tmp_path / f"bare.{kind}", keep_metadata=False, label=False)
        data = (tmp_path / f"bare.{kind}").read_bytes()
        assert not any(one in data for one in (b"caption", b"comment", b"title", b"Author", b"mine"))


def test_bmp_has_room_for_its_resolution_alone(picture, tmp_path):
    saved(picture, "BMP", tmp_path / "a.bmp", dpi=(300, 300))
    assert unmasked(tmp_path / "a.bmp", tmp_path / "out.bmp") == ("no label, which .bmp cannot hold",)
    assert unmasked(tmp_path / "a.bmp", tmp_path / "bare.bmp", label=False) == ()
    with Image.open(tmp_path / "out.bmp") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_comment_that_is_not_utf8(picture, tmp_path):
    saved(picture, "JPEG", tmp_path / "a.jpg", comment=b"\xe9t\xe9")
    assert not unmasked(tmp_path / "a.jpg", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["comment"].rstrip(b"\0").decode() == "été"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_sizes_follow_the_pixels_and_no_thumbnail_of_the_photo_stays(form, picture, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.ExifImageWidth: 600, ExifTags.Base.ExifImageHeight: 400})
    if form == "TIFF":
        exif.load(exif.tobytes())
    path = saved(picture, form, tmp_path / "a", xmp='exif:PixelXDimension="600" exif:PixelYDimension="400">', exif=exif)
    if form == "JPEG":
        file = exiv2.ImageFactory.open(path.read_bytes())
        file.readMetadata()
        small = io.BytesIO()
        Image.fromarray(picture).save(small, "JPEG")
        exiv2.ExifThumb(file.exifData()).setJpegThumbnail(small.getvalue())
        file.writeMetadata()
        path.write_bytes(bytes(file.data()))
    assert unmasked(path, tmp_path / "out") == ()
    with Image.open(tmp_path / "out") as image:
        assert image.size == (40, 60)
        tags = image.getexif()
        assert ExifTags.Base.Orientation not in tags or tags[ExifTags.Base.Orientation] == 1
        sizes = tags.get_ifd(ExifTags.IFD.Exif)
        assert (sizes[ExifTags.Base.ExifImageWidth], sizes[ExifTags.Base.ExifImageHeight]) == (40, 60)
        assert not tags.get_ifd(ExifTags.IFD.IFD1)
    _, values, _ = properties(tmp_path / "out")
    assert values["{http://ns.adobe.com/exif/1.0/}PixelXDimension"] == "40"


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("gain map", "gain map (HDR) left out"),
        ("gain map of Apple", "gain map (HDR) left out"),
        ("motion", "video behind the photo left out"),
        ("other", "9 bytes behind the photo left out"),
        ("c2pa", "Content Credentials (C2PA) left out"),
        ("extended", "the extended part of XMP left out"),
        ("photoshop", "Photoshop's settings left out"),
        ("others", "JPEG segments of other programs left out (APP1, APP2, APP5)"),
        ("damaged xmp", "XMP left out, which is damaged"),
        ("damaged exif", "EXIF left out, which is damaged"),
    ],
)
def test_what_is_not_kept_is_told(kind, note, picture, tmp_path):
    apple = 'xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" HDRGainMap:HDRGainMapVersion="65536">'
    xmp = {"gain map": 'hdrgm:Version="1.0">', "gain map of Apple": apple, "extended": 'xmpNote:HasExtendedXMP="1234">'}
    xmp = (xmp | {"damaged xmp": "<<<"}).get(kind)
    irb = b"\xff\xed\x00\x20Photoshop 3.0\0" + b"8BIM\x04\x26\0\0\0\0\0\4abcd"
    options = {"photoshop": {"extra": irb}, "damaged exif": {"exif": b"Exif\0\0II*\0\xff\xff\xff\x7f"}}.get(kind, {})
    path = saved(picture, "JPEG", tmp_path / "a.jpg", xmp=xmp, **options)
    behind = {
        "gain map": path.read_bytes(),
        "motion": b"\0\0\0\x18ftypmp42" + bytes(60) + b"moov",
        "other": b"something",
        "c2pa": b"",
    }.get(kind, b"")
    data = path.read_bytes()
    if kind == "others":
        others = (1, b"FLIR\0"), (2, b"FPXR\0"), (5, b"Vendor\0"), (5, b"Vendor\0")
        data = data[:2] + b"".join(bytes([255, 224 + n, 0, len(name) + 2]) + name for n, name in others) + data[2:]
    if kind == "c2pa":
        data = data[:2] + b"\xff\xeb\x00\x20JP\0\0\0\0\0\0jumbjumdc2pa".ljust(34, b"\0") + data[2:]
    path.write_bytes(data + behind)
    notes = unmasked(path, tmp_path / "out.jpg")
    assert any(one.startswith(note) for one in notes)
    assert len((tmp_path / "out.jpg").read_bytes()) < len(data) + 6000
    _, _, text = properties(tmp_path / "out.jpg")
    assert SOURCE_TYPE in text and "hdrgm:" not in text and "GainMap" not in text and "HasExtended" not in text


@pytest.mark.parametrize("tiff", [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_without_tags_is_not_damaged(form, tiff, picture, tmp_path):
    path = saved(picture, form, tmp_path / "a", exif=b"Exif\0\0" + tiff + bytes(6))
    assert unmasked(path, tmp_path / "out") == ()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_avif_has_no_damaged_exif(orientation, picture, tmp_path):
    """Pillow makes EXIF of how it is turned."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = saved(picture, "AVIF", tmp_path / "a.avif", exif=exif)
    assert b"Exif" not in path.read_bytes()
    assert unmasked(path, tmp_path / "out.avif") == ()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_data_behind_a_photo_are_told(form, picture, tmp_path):
    path = saved(picture, form, tmp_path / "a")
    assert unmasked(path, tmp_path / "out") == ()
    path.write_bytes(path.read_bytes() + b"something")
    assert unmasked(path, tmp_path / "out") == ("9 bytes behind the photo left out",)


def test_chunks_of_a_png_that_are_not_kept_are_told(picture, tmp_path):
    """A resolution has a unit; without one, it tells the shape of pixels alone."""
    data = saved(picture, "PNG", tmp_path / "a", dpi=(300, 300)).read_bytes()
    assert unmasked(tmp_path / "a", tmp_path / "out") == ()
    data = saved(picture, "PNG", tmp_path / "a").read_bytes()
    chunks = b""
    for name, content in (
        (b"pHYs", b"\0\0\0\2\0\0\0\1\0"),
        (b"tIME", b"\7\xe8\1\1\0\0\0"),
        (b"vpAg", bytes(9)),
        (b"vpAg", bytes(9)),
    ):
        chunks += len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)
    (tmp_path / "a").write_bytes(data[:33] + chunks + data[33:])
    assert unmasked(tmp_path / "a", tmp_path / "out") == ("PNG chunks left out (pHYs, tIME, vpAg)",)


def test_a_png_in_a_chunk_is_no_end(picture, tmp_path):
    saved(picture, "PNG", tmp_path / "small")
    data, inner = (tmp_path / "small").read_bytes(), (tmp_path / "small").read_bytes()
    chunk = b"caBX" + inner
    chunk = len(inner).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    (tmp_path / "a").write_bytes(data[:33] + chunk + data[33:])
    assert not any("behind" in note for note in unmasked(tmp_path / "a", tmp_path / "out"))
    (tmp_path / "a").write_bytes(data[:33] + chunk + data[33:] + b"\n")
    assert "1 byte behind the photo left out" in unmasked(tmp_path / "a", tmp_path / "out")


@pytest.mark.parametrize("size_of_number", [2, 4])
def test_gain_maps_of_iso_21496_are_told(size_of_number, picture, tmp_path):
    """In AVIF they are an item of their own, which is listed; in JPEG, a marker names them."""
    entry = bytes([size_of_number // 2 + 1, 0, 0, 0]) + (2).to_bytes(size_of_number) + b"\0\0tmap\0"
    path = saved(picture, "AVIF", tmp_path / "a.avif")
    plain = path.read_bytes()
    assert unmasked(path, tmp_path / "out.avif") == ()
    item = (len(entry) + 8).to_bytes(4) + b"infe" + entry
    path.write_bytes(plain + (len(item) + 8).to_bytes(4) + b"free" + item)
    assert unmasked(path, tmp_path / "out.avif") == ("gain map (HDR) left out",)
    path = saved(picture, "JPEG", tmp_path / "a.jpg")
    named = b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe2" + (len(named) + 2).to_bytes(2) + named + data[2:])
    assert unmasked(path, tmp_path / "out.jpg") == ("gain map (HDR) left out",)
