"""A folder of odd and broken photos among good ones, built once: each is read right or listed with its reason."""

import csv
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from maskgan_jax.configs.default import splits
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.masked_faces.reader import load_split
from maskgan_jax.data.rendered.faces import render_face

DAMAGED = "not a readable picture (truncated, damaged or of an unusual kind)"
UNKNOWN = "not a readable picture (not AVIF, BMP, GIF, HEIF, JPEG, PNG, TIFF or WEBP)"
EMPTY = "not a readable picture (an empty file)"
LARGE = "not a readable picture (more than 100 megapixels; make it smaller)"
DEEP = "not a readable picture (32 bits a pixel; save it with 8 or 16 bits a channel)"
FACELESS = "no face found"

PLAIN = "plain.png"
# How a viewer turns the stored pixels, by the EXIF standard, undone.
STORED = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: lambda p: p.transpose(1, 0, 2),
    6: np.rot90,
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


def saved(picture, form, **parameters):
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    image.save(file, form, **parameters)
    return file.getvalue()


def saved_with_more(picture, form, **parameters):
    """As `saved`, with a second picture in the file that must not be taken."""
    return saved(picture, form, save_all=True, append_images=[Image.fromarray(255 - picture)], **parameters)


def png(width, height, depth, colour, rows):
    """A PNG file by hand: of 16 bits, or with too few rows for the size it says it has."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_png(picture, colour):
    """A PNG file with 16 bits a channel."""
    rows = (picture.astype(">u2") * 257).reshape(len(picture), -1).view(np.uint8)
    return png(picture.shape[1], len(picture), 16, colour, np.pad(rows, ((0, 0), (1, 0))).tobytes())


def with_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def odd_photos(face):
    """Photos to be read like `face`: {name: bytes}."""
    image = Image.fromarray(face)
    opaque = np.full(face.shape[:2], 255, np.uint8)
    jpeg = saved(face, "JPEG", quality=95)
    no_black = Image.fromarray(0 * opaque)
    cmyk = Image.merge("CMYK", [*Image.fromarray(255 - face).split(), no_black])
    # Pillow writes no YCCK: the conversion that belongs to it is done here, and its number is put where Adobe keeps it.
    luma = 255 - np.asarray(Image.fromarray(255 - face).convert("YCbCr"))
    ycck = bytearray(saved(Image.merge("CMYK", [*Image.fromarray(luma).split(), no_black]), "JPEG", quality=95))
    ycck[ycck.index(b"Adobe") + 11] = 2
    photos = {
        PLAIN: saved(face, "PNG"),
        "baseline.jpg": jpeg,
        "progressive.jpg": saved(face, "JPEG", quality=95, progressive=True),
        "upper case.JPG": jpeg,
        "jfif.jfif": jpeg,
        "cmyk.jpg": saved(cmyk, "JPEG", quality=95),
        "ycck.jpg": bytes(ycck),
        "cmyk.tif": saved(cmyk, "TIFF"),
        "followed by a video.jpg": jpeg + b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 9,
        "two pictures (mpo).jpg": saved_with_more(face, "MPO", quality=95),
        "png inside.jpg": saved(face, "PNG"),
        "jpeg inside.png": jpeg,
        "webp inside.jpeg": saved(face, "WEBP", lossless=True),
        "gif inside.bmp": saved(image.quantize(256), "GIF"),
        "16 bits.png": deep_png(face, 2),
        "16 bits with alpha.png": deep_png(np.dstack([face, opaque]), 6),
        "opaque.png": saved(np.dstack([face, opaque]), "PNG"),
        "opaque.webp": saved(np.dstack([face, opaque]), "WEBP", lossless=True),
        "palette.png": saved(image.quantize(256), "PNG"),
        "palette with a transparent colour.png": saved(image.quantize(255), "PNG", transparency=255),
        "animated.gif": saved_with_more(face, "GIF", duration=100),
        "animated.png": saved_with_more(face, "PNG", duration=100),
        "animated.webp": saved_with_more(face, "WEBP", duration=100, lossless=True),
        "bitmap.bmp": saved(face, "BMP"),
        "lzw.tif": saved(face, "TIFF", compression="tiff_lzw"),
        "several pages.tiff": saved_with_more(face, "TIFF"),
        "avif.avif": saved(face, "AVIF", quality=95),
        "damaged exif.jpg": saved(face, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 50),
        "damaged exif.png": saved(face, "PNG", exif=b"Exif\0\0MM"),
        "damaged profile.png": saved(face, "PNG", icc_profile=b"no profile"),
        "emoji \N{GRINNING FACE}.png": saved(face, "PNG"),
        "new\nline.png": saved(face, "PNG"),
        os.fsdecode(b"latin-1 \xe9.png"): saved(face, "PNG"),
    }
    for orientation, stored in STORED.items():
        photos[f"exif {orientation}.jpg"] = saved(stored(face), "JPEG", quality=95, exif=with_exif(orientation))
    for form in ("AVIF", "PNG", "TIFF", "WEBP"):
        photos[f"exif 6 {form}.{form.lower()}"] = saved(STORED[6](face), form, exif=with_exif(6))
    return photos


def odd_grey_photos(face):
    """Photos to be read like `face` in grey."""
    grey = np.asarray(Image.fromarray(face).convert("L"))
    return {
        "grey.png": saved(grey, "PNG"),
        "grey.jpg": saved(grey, "JPEG", quality=95),
        "grey with alpha.png": saved(np.dstack([grey, np.full_like(grey, 255)]), "PNG"),
        "grey 16 bits.png": deep_png(grey, 0),
        "grey 16 bits.tif": saved(grey.astype(np.uint16) * 257, "TIFF"),
    }


def broken_photos(face):
    """Files that are no photos of faces that can be read, and why: {name: (bytes, reason)}."""
    forms = {"bmp": "BMP", "gif": "GIF", "jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WEBP"}
    half = {name: (data := saved(face, form))[: len(data) // 2] for name, form in forms.items()}
    progressive = saved(face, "JPEG", progressive=True)
    lzw = saved(face, "TIFF", compression="tiff_lzw")
    wall = np.full((200, 200, 3), 120, np.uint8)
    jpeg = saved(wall, "JPEG")
    enormous = jpeg.replace(struct.pack(">HH", 200, 200), struct.pack(">HH", 20000, 20000), 1)
    crossed_out = bytearray(saved(face, "PNG"))
    crossed_out[2000:2100] = bytes(100)
    return {
        **{f"half.{name}": (data, DAMAGED) for name, data in half.items()},
        "half progressive.jpg": (progressive[: len(progressive) // 2], DAMAGED),
        "half, the rest zeros.jpg": (half["jpg"] + bytes(len(half["jpg"])), DAMAGED),
        "half lzw.tif": (lzw[: len(lzw) // 2], DAMAGED),
        "without its last byte.jpg": (jpeg[:-1], DAMAGED),
        "only a beginning.jpg": (jpeg[:20], DAMAGED),
        "crossed out.png": (bytes(crossed_out), DAMAGED),
        "empty.jpg": (b"", EMPTY),
        "empty.png": (b"", EMPTY),
        "text.jpg": (b"not found\n", UNKNOWN),
        "page.png": (b"<!DOCTYPE html><html><body>403 Forbidden</body></html>", UNKNOWN),
        "zeros.jpg": (bytes(5000), UNKNOWN),
        "pdf.jpg": (b"%PDF-1.7\n", UNKNOWN),
        "phone (heic).jpg": (b"\0\0\0\x18ftypheic" + bytes(2000), DAMAGED),
        "floats.tif": (saved(face[..., 0] / np.float32(255), "TIFF"), DEEP),
        "enormous.jpg": (enormous, LARGE),
        "bomb.png": (png(30000, 30000, 8, 2, bytes(10**6)), LARGE),
        "1 x 1.png": (saved(wall[:1, :1], "PNG"), FACELESS),
        "1 x 5000.png": (saved(np.zeros((5000, 1, 3), np.uint8), "PNG"), FACELESS),
        "5000 x 1.jpg": (saved(np.zeros((1, 5000, 3), np.uint8), "JPEG"), FACELESS),
        "3 x 3.gif": (saved(wall[:3, :3], "GIF"), FACELESS),
        "1 bit.png": (saved(wall[..., 0] > 200, "PNG"), FACELESS),
        "transparent.png": (saved(np.dstack([face, 0 * face[..., 0]]), "PNG"), FACELESS),
        "wall.jpg": (jpeg, FACELESS),
        "notes.txt": (b"no photo\n", "of a kind that is not read"),
        "raw.nef": (b"MM\0*", "camera raw; export it as JPEG or TIFF first"),
    }


def shown(name):
    """How a file name is told in a data set: in UTF-8."""
    return f"folder/{os.fsencode(name).decode(errors='backslashreplace')}"


@pytest.fixture(scope="module")
def face():
    return render_face(1, seed=0).image


@pytest.fixture(scope="module")
def built(face, make_config, tmp_path_factory):
    """The card, the records by id and the reasons by photo of a data set of all of them."""
    folder = tmp_path_factory.mktemp("odd")
    photos = folder / "photos"
    photos.mkdir()
    for name, data in (odd_photos(face) | odd_grey_photos(face)).items():
        (photos / name).write_bytes(data)
    for name, (data, _) in broken_photos(face).items():
        (photos / name).write_bytes(data)
    for number in range(2, 5):
        (photos / f"good {number}.png").write_bytes(saved(render_face(number, seed=0).image, "PNG"))
    (photos / "folder.jpg").mkdir()
    (photos / "folder.jpg" / "inside.png").write_bytes(saved(face, "PNG"))
    (photos / "link to nothing.jpg").symlink_to("nowhere.jpg")
    (photos / "link.jpg").symlink_to(PLAIN)
    (photos / "locked.png").write_bytes(saved(face, "PNG"))
    (photos / "locked.png").chmod(0)
    config = make_config()
    config.data.splits = splits(train={"*": 1.0})
    card = build_data_set([f"folder={photos}"], config, folder / "data", workers=1)
    records = {record["id"]: record for record in load_split(folder / "data", "train")}
    with (folder / "data" / "skipped.csv").open(newline="", encoding="utf-8") as file:
        reasons = {row["photo"]: row["reason"] for row in csv.DictReader(file)}
    return card, records, reasons


def assert_alike(record, plain, atol=2.0):
    """That a record is of the same face, at the same place in the photo, with the same colours."""
    landmarks, expected = record["landmarks"], plain["landmarks"]
    assert np.linalg.norm(landmarks - expected, axis=1).mean() < 1.0
    np.testing.assert_allclose(record["alignment"], plain["alignment"], atol=6)
    # Where landmarks are a little off, so is the aligned face: compared are the colours of its parts.
    parts = (pictures["real"].astype(float).reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) for pictures in (record, plain))
    assert np.abs(np.subtract(*parts)).mean() < atol


# Only the names of the files are needed before they are made.
BLANK = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize("name", [*odd_photos(BLANK), "folder.jpg/inside.png", "link.jpg"])
def test_odd_photo_is_read_like_a_plain_one(built, name):
    _, records, reasons = built
    assert shown(name) not in reasons
    assert_alike(records[shown(name)], records[shown(PLAIN)])


@pytest.mark.parametrize("name", odd_grey_photos(BLANK))
def test_grey_photo_is_read_like_a_plain_one(built, name):
    _, records, reasons = built
    assert shown(name) not in reasons
    assert_alike(records[shown(name)], records[shown("grey.png")])
    assert np.ptp(records[shown(name)]["real"], axis=-1).max() == 0


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in broken_photos(BLANK).items()])
def test_broken_photo_is_listed(built, name, reason):
    _, records, reasons = built
    assert shown(name) not in records
    assert reasons[shown(name)] == reason


def test_what_cannot_be_opened_is_listed(built):
    _, records, reasons = built
    assert reasons[shown("link to nothing.jpg")] == "cannot read (No such file or directory)"
    if os.geteuid():  # Root reads what it likes.
        assert reasons[shown("locked.png")] == "cannot read (Permission denied)"
    else:
        assert shown("locked.png") in records


def test_every_photo_is_in_the_data_set_or_listed_and_counted(built):
    card, records, reasons = built
    names = [
        *odd_photos(BLANK),
        *odd_grey_photos(BLANK),
        *broken_photos(BLANK),
        *(f"good {number}.png" for number in range(2, 5)),
    ]
    names += ["folder.jpg/inside.png", "link to nothing.jpg", "link.jpg", "locked.png"]
    assert sorted([*records, *reasons]) == sorted(map(shown, names))
    assert card["records"] == len(records)
    assert card["skipped"] == {reason: list(reasons.values()).count(reason) for reason in sorted(set(reasons.values()))}
