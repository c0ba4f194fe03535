"""Metadata of photos, read and written by exiv2: Exif, IPTC, XMP and comments; and the label of what is synthetic."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator
from typing import Any

import exiv2
from PIL import Image

# The label of a changed image, for people; and for programs, as IPTC's "Digital Source Type": an image of which a part was made
# by a trained model.
LABEL = "Synthetic: the face under the mask was drawn by maskgan_jax. It is a plausible face, not the person's own."
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

_SOURCE_TYPE, _INSTRUCTIONS, _HISTORY = "Xmp.iptcExt.DigitalSourceType", "Xmp.photoshop.Instructions", "Xmp.xmpMM.History"
_DESCRIPTION, _SOFTWARE = "Exif.Image.ImageDescription", "Exif.Image.Software"
# Where metadata tell the width and the height of the photo.
_WIDTHS = ("Exif.Photo.PixelXDimension", "Exif.Image.ImageWidth", "Xmp.exif.PixelXDimension", "Xmp.tiff.ImageWidth")
_HEIGHTS = ("Exif.Photo.PixelYDimension", "Exif.Image.ImageLength", "Xmp.exif.PixelYDimension", "Xmp.tiff.ImageLength")
# Tags of a TIFF's first directory that describe the photo. All others describe how the file stores its pixels.
_DESCRIPTIVE = re.compile(
    r"Exif\.Image\.(Image(Description|ID|UniqueID)|Make|Model|Software|DateTime|Artist|Copyright|Rating.*|XP\w+|HostComputer)"
)
# Of the others, by their numbers: those below 700 store pixels, but for the names of document, page and printer; and those that
# are kept otherwise: XMP, IPTC, Photoshop's, EXIF, colour profile and GPS.
_NAMES, _KEPT_OTHERWISE = (269, 285, 337), (700, 33723, 34377, 34665, 34675, 34853)
# What is not true of a result: how the photo is turned, and thumbnails of it; pictures and videos that follow it in its file.
_STALE = re.compile(
    r"Exif\.(Thumbnail|SubThumb\d|MpfInfo)\.|Exif\.Image\.Orientation$|Xmp\.(tiff\.Orientation$|xmp\.Thumbnails)"
    r"|Xmp\.(hdrgm|HDRGainMap|G?Container)\.|Xmp\.\w+\.(Motion|Micro)(Photo|Video)|Xmp\.xmpNote\.HasExtendedXMP"
)
# EXIF without tags, or of one, the orientation: Pillow makes it of how an AVIF is turned, which has no EXIF itself.
_NO_EXIF = re.compile(rb"(Exif\0\0)?(II\*\0\x08\0\0\0(\0\0|\x01\0\x12\x01)|MM\0\*\0\0\0\x08(\0\0|\0\x01\x01\x12))")

exiv2.LogMsg.setLevel(exiv2.LogMsg.Level.mute)  # What is damaged is reported in notes.


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Metadata of a photo, without what is not true of a result.

    Attributes:
      exif, iptc, xmp: as exiv2 has them.
      comment: of a JPEG or GIF.
    """

    exif: exiv2.ExifData = dataclasses.field(default_factory=exiv2.ExifData)
    iptc: exiv2.IptcData = dataclasses.field(default_factory=exiv2.IptcData)
    xmp: exiv2.XmpData = dataclasses.field(default_factory=exiv2.XmpData)
    comment: str = ""

    def labelled(self) -> Metadata:
        """The same with the label, once. Software and a digital source type of the photo's own go into its history."""
        exif, xmp = _copied(self.exif), _copied(self.xmp)
        for name, metadata, key, ours in (
            ("Software", exif, _SOFTWARE, "maskgan_jax"),
            ("Digital Source Type", xmp, _SOURCE_TYPE, SOURCE_TYPE),
        ):
            if key in metadata and (before := metadata[key].toString()) != ours:
                _add_to_history(xmp, f"{name} was {''.join(filter(str.isprintable, before))}")
            _replace(metadata, key, ours)
        if _DESCRIPTION not in exif:
            exif[_DESCRIPTION] = LABEL
        theirs = xmp[_INSTRUCTIONS].toString() if _INSTRUCTIONS in xmp else ""
        _replace(xmp, _INSTRUCTIONS, theirs if LABEL in theirs else f"{LABEL} {theirs}".strip())
        return dataclasses.replace(self, exif=exif, xmp=xmp)


def _copied(metadata: Any) -> Any:
    copy = type(metadata)()
    for item in metadata:
        copy.add(item)
    return copy


def _replace(metadata: Any, key: str, value: str) -> None:
    """Gives a tag a value, of its usual type. Assigned to a tag of an unknown type, as in damaged files, exiv2 crashes."""
    while key in metadata:  # Damaged files have some twice.
        del metadata[key]
    metadata[key] = value


def _add_to_history(xmp: exiv2.XmpData, what: str) -> None:
    events = {key[len(_HISTORY) :].split("]")[0] for item in xmp if (key := item.key()).startswith(f"{_HISTORY}[")}
    if not events:
        sequence = exiv2.XmpTextValue()
        sequence.setXmpArrayType(exiv2.XmpValue.XmpArrayType.xaSeq)
        xmp[_HISTORY] = sequence
    for field, value in (("action", "edited"), ("softwareAgent", "maskgan_jax"), ("parameters", what)):
        xmp[f"{_HISTORY}[{len(events) + 1}]/stEvt:{field}"] = value


def read_metadata(data: bytes, image: Image.Image, size: tuple[int, int], notes: list[str]) -> Metadata:
    """The metadata of a photo as they are true of a result.

    Args:
      data: the file.
      image: the same as Pillow opened it.
      size: width and height of the upright photo.
      notes: what is damaged, or cannot be kept, is added, in words.
    """
    try:
        exif, iptc, xmp, comment = _read(data)
    except exiv2.Exiv2Error:
        exif, iptc, xmp, comment = exiv2.ExifData(), exiv2.IptcData(), exiv2.XmpData(), ""
    packet = image.info.get("xmp")
    if packet and xmp.empty():  # Not UTF-8, or not XML from its first character on.
        text = packet.decode(errors="replace") if isinstance(packet, bytes) else str(packet)
        with contextlib.suppress(exiv2.Exiv2Error):
            file = exiv2.ImageFactory.create(exiv2.ImageType.png)
            file.setXmpPacket(text[text.find("<") :])
            xmp = _copied(file.xmpData())
        if xmp.empty():
            notes.append("XMP left out, which is damaged")
    if (block := image.info.get("exif")) and exif.empty() and not _NO_EXIF.match(block):
        notes.append("EXIF left out, which is damaged")
    if any(item.key() == "Xmp.xmpNote.HasExtendedXMP" for item in xmp):
        notes.append("the extended part of XMP left out")
    if image.format == "TIFF" and (lost := [item.tagName() for item in exif if _is_lost(item)]):
        notes.append(f"TIFF tags left out ({', '.join(lost)})")
    for metadata in (exif, xmp):
        for key in [item.key() for item in metadata]:
            of_storage = image.format == "TIFF" and key.startswith(("Exif.Image.", "Exif.SubImage", "Exif.Image2."))
            if _STALE.match(key) or (of_storage and not _DESCRIPTIVE.match(key)):
                del metadata[key]
            elif key in _WIDTHS:
                _replace(metadata, key, str(size[0]))
            elif key in _HEIGHTS:
                _replace(metadata, key, str(size[1]))
    if isinstance(image.info.get("comment"), bytes) and not comment:
        comment = image.info["comment"].decode(errors="replace").rstrip("\0")
    return Metadata(exif, iptc, xmp, comment)


def _is_lost(item: exiv2.Exifdatum) -> bool:
    """Whether a tag of a TIFF says something that a result does not keep."""
    if item.groupName() != "Image" or _DESCRIPTIVE.match(item.key()):
        return False
    return item.tag() in _NAMES or (item.tag() >= 700 and item.tag() not in _KEPT_OTHERWISE)


def write_metadata(data: bytes, form: str, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """An image file with other metadata.

    Args:
      data: the file, of a format that exiv2 writes: JPEG, PNG, TIFF or WebP.
      form: this format, by Pillow's name.
      metadata: all that the file will have.

    Returns:
      The file, and in words what its format has no room for.

    Raises:
      exiv2.Exiv2Error: they cannot be written.
    """
    for fitting, left_out in _shortened(metadata):
        file = exiv2.ImageFactory.open(data)
        file.readMetadata()
        if form != "TIFF":
            file.clearExifData()
        for item in fitting.exif:
            file.exifData().add(item)
        file.setXmpData(fitting.xmp)
        file.setIptcData(fitting.iptc)
        if form == "JPEG":
            file.setComment(fitting.comment)
        try:
            file.writeMetadata()
        except exiv2.Exiv2Error as error:
            if form != "JPEG" or error.code != exiv2.ErrorCode.kerTooLargeJpegSegment:
                raise
            continue
        data = bytes(file.data())
        if form == "JPEG" and "EXIF" not in left_out:  # Of what is too long, exiv2 leaves out the longest by itself.
            kept = {item.key() for item in _read(data)[0]}
            if any(item.key() not in kept for item in fitting.exif):
                left_out = ("parts of EXIF", *left_out)
        return data, tuple(f"{name} left out, too long for a JPEG" for name in left_out)
    raise exiv2.Exiv2Error(exiv2.ErrorCode.kerTooLargeJpegSegment, "even without EXIF and XMP")


def _shortened(metadata: Metadata) -> Iterator[tuple[Metadata, tuple[str, ...]]]:
    """Metadata, the same without what is too long, and without more; the label stays."""
    is_labelled = _SOURCE_TYPE in metadata.xmp and metadata.xmp[_SOURCE_TYPE].toString() == SOURCE_TYPE
    label = Metadata().labelled() if is_labelled else Metadata()
    for left_out in ((), ("EXIF",), ("XMP",), ("EXIF", "XMP")):
        yield dataclasses.replace(metadata, **{name.lower(): getattr(label, name.lower()) for name in left_out}), left_out


def png_texts(image: Image.Image) -> dict[str, str]:
    """The texts of a PNG, by their keywords, but for those that hold EXIF, IPTC or XMP."""
    texts = getattr(image, "text", {}).items()
    return {key: str(text) for key, text in texts if not key.startswith(("XML:", "Raw profile"))}


def packets(metadata: Metadata) -> dict[str, bytes]:
    """EXIF and XMP as Pillow writes them, for formats that exiv2 does not write."""
    empty = exiv2.ImageFactory.create(exiv2.ImageType.png)
    data, _ = write_metadata(bytes(empty.data()), "PNG", metadata)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return {name: image.info[name] for name in ("exif", "xmp") if name in image.info}


def _read(data: bytes) -> tuple[exiv2.ExifData, exiv2.IptcData, exiv2.XmpData, str]:
    file = exiv2.ImageFactory.open(data)
    file.readMetadata()
    comment = file.comment().encode(errors="surrogateescape")
    try:
        comment = comment.decode()
    except UnicodeDecodeError:
        comment = comment.decode("latin-1")  # The most common before UTF-8.
    return *map(_copied, (file.exifData(), file.iptcData(), file.xmpData())), comment
