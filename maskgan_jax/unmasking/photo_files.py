"""Photo files: read with their metadata, written in the format they came in and labelled as synthetic."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, TiffTags

from maskgan_jax.errors import UserError
from maskgan_jax.files import decode_image, replacing, upright

# The label of a changed image, for people; and for programs, as IPTC's "Digital Source Type": an image of which a part was made
# by a trained model.
LABEL = "Synthetic: the face under the mask was drawn by maskgan_jax. It is a plausible face, not the person's own."
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_DESCRIPTION = (
    f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}" '
    f'photoshop:Instructions="{LABEL}"/>'
)
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_END = "</rdf:RDF>"

# The format that a result is written in, by Pillow's names: that of the photo, or PNG for GIF, which would lose colours.
WRITTEN = {
    "AVIF": "AVIF",
    "BMP": "BMP",
    "GIF": "PNG",
    "JPEG": "JPEG",
    "MPO": "JPEG",
    "PNG": "PNG",
    "TIFF": "TIFF",
    "WEBP": "WEBP",
}
# Formats that cannot hold metadata.
_BARE = ("BMP",)
# The longest packets of metadata in a JPEG, in bytes: each is one segment, whose length has 16 bits.
_JPEG_MOST = {"exif": 65533, "xmp": 65504}
# The tags of a TIFF that describe the photo. All others describe how the file stores its pixels, which a result does in its own
# way.
_DESCRIPTIVE = frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.Copyright,
        ExifTags.IFD.Exif,
        ExifTags.IFD.GPSInfo,
    }
)
# Compressions of a TIFF, by Pillow's names, for 8 bits a channel that every libtiff can also write; and those among them that
# compress differences of neighbours better than values.
_TIFF_COMPRESSIONS = ("raw", "packbits", "jpeg", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")
_TIFF_PREDICTED = ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")
_PREDICTOR = 317
# The orientation of a photo in XMP, as an attribute or as an element.
_XMP_ORIENTATION = re.compile(rb"""(<tiff:Orientation>\s*|tiff:Orientation\s*=\s*["']\s*)\d+""")


@dataclasses.dataclass(frozen=True)
class PhotoFile:
    """A photo as it is in its file.

    Attributes:
      rgb: `[H, W, 3]` uint8, upright, in sRGB, transparent parts white: what the networks see.
      pixels: `[H, W, C]` uint8, upright, in the file's own colours: C is 1 for grey and 3 for RGB, one more with transparency.
      format: of the file, by Pillow's name.
      info: what a result may be saved with, as Pillow found it in the file: `exif`, `xmp`, `icc_profile`, `dpi` ...
      notes: in words, what a result does not keep.
    """

    rgb: np.ndarray
    pixels: np.ndarray
    format: str
    info: dict[str, Any]
    notes: tuple[str, ...]

    def changed(self, result: np.ndarray) -> np.ndarray:
        """`pixels`, replaced by those of a result `[H, W, 3]` uint8, and made opaque, where it differs from `rgb`."""
        pixels = self.pixels.copy()
        channels = pixels.shape[2]
        colours = channels - (channels + 1) % 2  # 1 of 1 and 2, 3 of 3 and 4.
        where = (result != self.rgb).any(axis=-1)
        drawn = Image.fromarray(result)
        mode = "L" if colours == 1 else "RGB"
        profile = self.info.get("icc_profile")
        if profile and channels != 2:  # Of transparent grey, `decode_image` leaves the values alone.
            drawn = _from_srgb(drawn, profile, mode)
        pixels[where, :colours] = np.asarray(drawn.convert(mode)).reshape(*where.shape, colours)[where]
        pixels[where, colours:] = 255
        return pixels


def read_photo(path: str | os.PathLike) -> PhotoFile:
    """Reads a photo of any format that `decode_image` reads.

    Raises:
      UserError: the file is missing, or is no readable picture.
    """
    data = _read(path)
    try:
        rgb = decode_image(data)
    except UserError as error:
        raise UserError(f"{path} is {error}") from error
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of damaged EXIF.
        with Image.open(io.BytesIO(data)) as image:
            if "mp" in image.info or (image.format == "TIFF" and image.tag_v2.next):
                notes.append("only the first of several pictures")
            elif _is_animated(data):
                notes.append("only the first picture of an animation")
            image.load()
            native = upright(image)  # Before `_kept`, which takes the orientation away.
            info = _kept(image, data, notes)
            if (bits := _bits(image, data)) > 8:
                notes.append(f"{bits} bits a channel became 8")
            if image.mode in ("CMYK", "LAB"):
                notes.append(f"{image.mode} became RGB")
                info.pop("icc_profile", None)
            pixels = _native_pixels(native, rgb)
            return PhotoFile(rgb, pixels, image.format, info, tuple(notes))


def _read(path: str | os.PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error


def _is_animated(data: bytes) -> bool:
    """Whether other images follow the first, even damaged ones. Opens the file again, because Pillow seeks to find out."""
    with Image.open(io.BytesIO(data)) as image:
        try:
            return getattr(image, "n_frames", 1) > 1
        except Exception:  # If the next one is damaged, Pillow can raise anything.
            return True


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits a channel in the file, of the formats that can have more than Pillow keeps."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return int(np.max(image.tag_v2.get(ExifTags.Base.BitsPerSample, 1)))
    return 8


def _kept(image: Image.Image, data: bytes, notes: list[str]) -> dict[str, Any]:
    """What a result in the same format is saved with; what cannot be kept is added to `notes`."""
    info = {}
    if image.info.get("icc_profile"):
        info["icc_profile"] = image.info["icc_profile"]
    with contextlib.suppress(TypeError, ValueError):  # In a damaged file, it can be anything.
        across, down = map(float, image.info.get("dpi", ()))
        if 1 <= across <= 65535 and 1 <= down <= 65535:
            info["dpi"] = across, down
    xmp = image.info.get("xmp")
    if isinstance(xmp, bytes) and _END.encode() in xmp:
        info["xmp"] = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)  # The result is upright.
    elif xmp:
        notes.append("XMP left out, which is damaged")
    try:
        exif = image.getexif()
        exif.pop(ExifTags.Base.Orientation, None)
        exif.bigtiff = False
        for tag in list(exif) if image.format == "TIFF" else ():
            if tag not in _DESCRIPTIVE:
                del exif[tag]
        if exif:
            info["exif"] = _exif_bytes(exif)
    except Exception:  # On damaged EXIF, Pillow can raise anything; the image is good without.
        notes.append("EXIF left out, which is damaged")
    if image.format in ("JPEG", "MPO"):
        tables = [table for _, table in sorted(image.quantization.items())]
        info |= {"qtables": tables, "subsampling": JpegImagePlugin.get_sampling(image)}
    if image.format == "WEBP":
        info["lossless"] = _is_lossless(data)
    if image.format == "TIFF":
        compression = image.info["compression"]
        compression = "jpeg" if compression == "tiff_jpeg" else compression  # The old kind of JPEG.
        info["compression"] = compression if compression in _TIFF_COMPRESSIONS else "tiff_lzw"
    return info


def _chunks(data: bytes) -> Iterator[bytes]:
    """The chunks of a RIFF file: each a name of 4 bytes, a length and so many bytes."""
    place = 12
    while place + 8 <= len(data):
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        end = place + 8 + length + length % 2
        yield data[place:end]
        place = end


def _is_lossless(data: bytes) -> bool:
    """Whether the pixels of a WebP, or of the first image of an animation, are compressed without loss."""
    for chunk in _chunks(data):
        if chunk[:4] in (b"VP8 ", b"VP8L"):
            return chunk[:4] == b"VP8L"
        if chunk[:4] == b"ANMF":  # 16 bytes about the image, and its own chunks.
            return _is_lossless(chunk[12:])
    return False


def _native_pixels(image: Image.Image, rgb: np.ndarray) -> np.ndarray:
    """`[H, W, C]` uint8 of an upright image in its own colours; C as for `PhotoFile`."""
    if image.mode.startswith("I;16"):  # As `decode_image` reduces it.
        values, transparent = np.asarray(image), image.info.get("transparency")
        grey = (values >> 8).astype(np.uint8)
        return grey[..., None] if transparent is None else np.stack([grey, (values != transparent) * np.uint8(255)], axis=-1)
    if image.mode in ("CMYK", "LAB"):
        return rgb.copy()
    grey = image.mode in ("1", "L", "LA", "La")
    mode = ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
    if mode == "LA" and image.mode != "LA":  # Grey with one transparent level.
        image = image.convert("RGBA")
        return np.asarray(image)[..., [0, 3]]
    return np.asarray(image.convert(mode)).reshape(*rgb.shape[:2], -1)


def _from_srgb(image: Image.Image, profile: bytes, mode: str) -> Image.Image:
    """An image in the colours of an ICC profile for `mode`; unchanged if the profile is damaged or for another mode, as in
    `decode_image`."""
    try:
        source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, target, outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return image


def write_photo(
    path: str | os.PathLike, photo: PhotoFile, result: np.ndarray, *, keep_metadata: bool = True, label: bool = True
) -> tuple[str, ...]:
    """Writes the result of a photo in its format, atomically.

    JPEG is compressed with the quantization tables of the photo; lossy WebP, AVIF and JPEG in TIFF at a high quality.

    Args:
      path: of the file.
      photo: the original.
      result: `[H, W, 3]` uint8, as `Unmasker.unmask` gives it.
      keep_metadata: whether EXIF, XMP and resolution of the photo go into the file; colour profiles always do. For TIFF, EXIF
        means the tags that describe the photo.
      label: whether the file says that it is synthetic, in EXIF and XMP and, of PNG, as text.

    Returns:
      In words, what the file does not keep besides `photo.notes`: metadata that are too long for its format.

    Raises:
      UserError: the file cannot be written, or the photo's format cannot store its metadata.
    """
    pixels = photo.changed(result)
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
    form = WRITTEN[photo.format]
    try:
        options, notes = _options(photo, form, keep_metadata, label)
        data = _encoded(image, form, options)
    except Exception as error:  # As when reading: on metadata, Pillow can raise anything.
        raise UserError(
            f"cannot write {path} as {form} ({error}); leave out its metadata (--metadata=drop), or save the photo as PNG first"
        ) from error
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return notes


def write_drawn_png(path: str | os.PathLike, image: np.ndarray, *, label: bool = True) -> None:
    """Writes an image `[H, W, 3]` RGB, uint8, with drawn faces in it as PNG, atomically.

    Args:
      path: of the file.
      image: what is written.
      label: whether the file says that it is synthetic, as text and in XMP.

    Raises:
      UserError: the file cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    if label:
        text.add_text("Comment", LABEL)
        text.add_itxt("XML:com.adobe.xmp", label_packet().decode())
    data = _encoded(Image.fromarray(image), "PNG", {"pnginfo": text})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _options(photo: PhotoFile, form: str, keep_metadata: bool, label: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a result is saved with, and in words what its format has no room for."""
    if form in _BARE:
        return {}, ()
    options = {name: value for name, value in photo.info.items() if keep_metadata or name not in ("exif", "xmp", "dpi")}
    notes = []
    for name, labelled in (("exif", _labelled_exif), ("xmp", _labelled_xmp)):
        packet = options.pop(name, None)
        written = labelled(packet) if label else packet
        if form == "JPEG" and written and len(written) > _JPEG_MOST[name]:
            notes.append(f"{name.upper()} left out, too long for a JPEG")
            written = labelled(None) if label else None
        if written:
            options[name] = written
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        if label:
            text.add_text("Comment", LABEL)
        if "xmp" in options:
            text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode(errors="replace"))
        options["pnginfo"] = text
    if form == "WEBP":
        options["quality"] = 100 if options.get("lossless") else 90
    if form == "AVIF" or options.get("compression") == "jpeg":
        options["quality"] = 90
    return options, tuple(notes)


def _encoded(image: Image.Image, form: str, options: dict[str, Any]) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    if form != "TIFF":
        image.save(file, form, **options)
        return file.getvalue()
    # Pillow writes the metadata of a TIFF only if the pixels are not compressed. So the pixels are written first, as a TIFF of
    # their own. Its tags and the metadata then become the tags of the file, before the pixels; Pillow adjusts the offsets.
    if options["compression"] in _TIFF_PREDICTED:
        options["tiffinfo"] = {_PREDICTOR: 2}
    exif, xmp = _loaded(options.pop("exif", None)), options.pop("xmp", None)
    image.save(file, form, **options)
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.getvalue()[:8])
    file.seek(tags.next)
    tags.load(file)
    dict(tags)  # Decodes them all: Pillow writes only decoded ones.
    for tag, value in _encodable(exif).items():
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):  # Without the offset of another directory in the photo's file.
            value = {name: value for name, value in exif.get_ifd(tag).items() if name != ExifTags.IFD.Interop}
        tags[tag] = value
    if xmp:
        tags[ExifTags.Base.XMLPacket] = xmp
    whole = io.BytesIO()
    tags.save(whole)
    return whole.getvalue() + file.getvalue()


def _labelled_exif(exif: bytes | None) -> bytes:
    labelled = _loaded(exif)
    labelled[ExifTags.Base.Software] = "maskgan_jax"
    if ExifTags.Base.ImageDescription not in labelled:
        labelled[ExifTags.Base.ImageDescription] = LABEL
    return _exif_bytes(labelled)


def _loaded(exif: bytes | None) -> Image.Exif:
    tags = Image.Exif()
    if exif:
        tags.load(exif)
    return tags


def _exif_bytes(exif: Image.Exif) -> bytes:
    return _encodable(exif).tobytes()


def _encodable(exif: Image.Exif) -> Image.Exif:
    """The same tags with texts as the bytes they were read from: in texts, Pillow writes question marks for what is not ASCII,
    such as the copyright sign."""
    for tag, value in list(exif.items()):
        if isinstance(value, str) and not value.isascii() and TiffTags.lookup(tag).type == TiffTags.ASCII:
            exif[tag] = value.encode("latin-1")  # As Pillow read them.
    return exif


def label_packet() -> bytes:
    """The XMP packet of an image that says nothing but that it is synthetic."""
    return _labelled_xmp(None)


def _labelled_xmp(xmp: bytes | None) -> bytes:
    packet = xmp.decode(errors="replace") if xmp else _PACKET
    head, tail = packet.rsplit(_END, 1)
    return (head + _DESCRIPTION + _END + tail).encode()
