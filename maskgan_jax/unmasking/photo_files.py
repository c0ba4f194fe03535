"""Photo files: read with their colours and metadata, written in the format they came in and labelled as synthetic."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from maskgan_jax.colours import colour_profile, is_hdr, is_of_rgb, png_chunks, png_colour_chunks
from maskgan_jax.errors import UserError
from maskgan_jax.files import (
    IMAGE_FORMATS,
    MOST_MEGAPIXELS_TO_UNMASK,
    jpeg_end,
    open_image,
    read_file,
    replacing,
    to_array,
    upright,
)
from maskgan_jax.unmasking.metadata import LABEL, Metadata, packets, png_texts, read_metadata, write_metadata

# What a result is written as, by Pillow's names, where that is not the format of the photo: a GIF would lose colours.
WRITTEN_AS = {"GIF": "PNG", "HEIF": "JPEG", "MPO": "JPEG"}
# Compressions of a TIFF, by Pillow's names, that every libtiff can also write; and those that compress differences of
# neighbours better than values.
_TIFF_COMPRESSIONS = ("raw", "packbits", "jpeg", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")
_TIFF_PREDICTED = ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "lzma", "zstd")
_PREDICTOR = 317
# How the pixels of a WebP begin, which are compressed without loss (VP8L) or with it.
_WEBP_PIXELS = re.compile(rb"VP8(L....\x2f| .{7}\x9d\x01\x2a)", re.DOTALL)
# What Pillow calls metadata of AVIF, and OpenCV.
_AVIF_METADATA = {
    "exif": cv2.IMAGE_METADATA_EXIF,
    "icc_profile": cv2.IMAGE_METADATA_ICCP,
    "xmp": cv2.IMAGE_METADATA_XMP,
}
CREDENTIALS_LEFT_OUT = "Content Credentials (C2PA) left out, which vouch for the original"
# How a file names a gain map, which brightens a photo on HDR screens: Adobe's, Apple's, and ISO 21496-1's in JPEG and in HEIF.
_GAIN_MAP = re.compile(rb"hdrgm:Version|HDRGainMap|hdrgainmap|urn:iso:std:iso:ts:21496|infe[\2\3]\0\0.{5,7}tmap", re.DOTALL)
# How a video begins that follows a photo (of HEIC, in a box), also behind other pictures of the same file.
_VIDEO = re.compile(rb"\0\0\0.ftyp", re.DOTALL)
# What Photoshop keeps in a JPEG that is kept otherwise: resolution, thumbnails, IPTC and its digest.
_PHOTOSHOP_KEPT = frozenset({0x03ED, 0x0404, 0x0409, 0x040C, 0x0425})
# How segments of a JPEG begin, and which chunks a PNG has, that are kept, told otherwise, or of how the pixels are stored.
_KEPT_SEGMENTS = (
    *(b"JFIF\0", b"JFXX\0", b"Exif\0", b"http://ns.adobe.com/", b"ICC_PROFILE\0", b"MPF\0", b"urn:iso:std:iso:ts:21496"),
    *(b"JP", b"Photoshop 3.0\0", b"Adobe"),
)
_KEPT_CHUNKS = frozenset(
    b"IHDR PLTE IDAT IEND tRNS sBIT hIST iDOT cHRM gAMA iCCP sRGB cICP mDCV cLLI tEXt zTXt iTXt eXIf pHYs caBX acTL fcTL "
    b"fdAT".split()
)


@dataclasses.dataclass(frozen=True)
class PhotoFile:
    """A photo as it is in its file.

    Attributes:
      rgb: `[H, W, 3]` uint8, upright, in sRGB, transparent parts white: what the networks see.
      pixels: `[H, W, C]` uint8 or uint16, upright, in the file's own colours: C is 1 for grey and 3 for RGB, one more with
        transparency.
      format: of the file, by Pillow's name.
      info: what a result is saved with besides metadata, by the names of Pillow's arguments: `icc_profile`, `dpi` ...; and of
        AVIF, `bits` a channel.
      notes: in words, what a result does not keep.
      profile: an ICC profile of the colours; None if they are sRGB.
      colour_chunks: of a PNG, the chunks that tell its colours.
      texts: of a PNG, by their keywords.
      metadata: as they are true of a result.
    """

    rgb: np.ndarray
    pixels: np.ndarray
    format: str
    info: dict[str, Any]
    notes: tuple[str, ...]
    profile: bytes | None
    colour_chunks: dict[bytes, bytes]
    texts: dict[str, str]
    metadata: Metadata

    def changed(self, result: np.ndarray) -> np.ndarray:
        """`pixels`, replaced by those of a result `[H, W, 3]` uint8, and made opaque, where it differs from `rgb`."""
        if self.pixels is self.rgb:
            return result
        pixels = self.pixels.copy()
        window = _window_of_difference(result, self.rgb)
        if window is None:
            return pixels
        channels = pixels.shape[2]
        colours = 1 if channels < 3 else 3
        where = (result[window] != self.rgb[window]).any(axis=-1)
        drawn = Image.fromarray(np.ascontiguousarray(result[window]))
        mode = "L" if colours == 1 else "RGB"
        if self.profile:
            if is_hdr(self.colour_chunks):  # White stands for all that is brighter in the profile: none of it is drawn.
                drawn = Image.fromarray(np.minimum(drawn, 254))
            drawn = _from_srgb(drawn, self.profile, "RGB" if is_of_rgb(self.profile) else mode)
        values = np.asarray(drawn.convert(mode)).reshape(*where.shape, colours)[where]
        changed = pixels[window]
        changed[where, :colours] = values.astype(pixels.dtype) * (257 if pixels.dtype == np.uint16 else 1)
        changed[where, colours:] = np.iinfo(pixels.dtype).max
        return pixels


def _window_of_difference(one: np.ndarray, other: np.ndarray) -> tuple[slice, slice] | None:
    """The rows and columns of two images within which they differ; None if they do not. Row by row, to save memory."""
    rows = np.flatnonzero([not np.array_equal(a, b) for a, b in zip(one, other, strict=True)])
    if not len(rows):
        return None
    band = slice(rows[0], rows[-1] + 1)
    columns = np.flatnonzero((one[band] != other[band]).any(axis=(0, 2)))
    return band, slice(columns[0], columns[-1] + 1)


def read_photo(path: str | os.PathLike) -> PhotoFile:
    """Reads a photo of any format that `decode_image` reads, of up to `MOST_MEGAPIXELS_TO_UNMASK`.

    Raises:
      UserError: the file is missing, or is no readable picture.
    """
    data = read_file(path)
    try:
        with open_image(data, MOST_MEGAPIXELS_TO_UNMASK) as image:
            return _photo_file(image, data)
    except UserError as error:
        raise UserError(f"{path} is {error}") from error


def _photo_file(image: Image.Image, data: bytes) -> PhotoFile:
    notes = list(_left_out(image, data))
    native, profile = upright(image), colour_profile(image, data)
    rgb = to_array(native, profile=profile)
    pixels = rgb if image.mode == "RGB" and not (profile or image.has_transparency_data) else _native_pixels(native, rgb)
    if (bits := _bits(image, data)) > 8:
        wide = _wide_pixels(image, data, pixels)
        if wide is None:
            notes.append(f"{bits} bits a channel became 8")
        else:
            pixels = wide
    if image.format == "GIF":
        notes.append("GIF became PNG")
    if image.format == "HEIF":
        notes.append("HEIC became JPEG")
        if pixels.shape[2] in (2, 4):
            pixels = to_array(native)[..., : pixels.shape[2] - 1]  # On white, as the photo is seen.
            notes.append("transparency left out")
    info = _saved_with(image, data)
    if image.mode in ("CMYK", "LAB"):
        notes.append(f"{image.mode} became RGB")
        info.pop("icc_profile", None)
        profile = None
    elif profile and image.format in ("AVIF", "HEIF"):  # Pillow writes AVIF as sRGB, unless there is a profile.
        info["icc_profile"] = profile
    return PhotoFile(
        rgb=rgb,
        pixels=pixels,
        format=image.format,
        info=info,
        profile=profile,
        colour_chunks=png_colour_chunks(data) if image.format == "PNG" else {},
        texts=png_texts(image),
        metadata=read_metadata(data, image, native.size, notes),
        notes=tuple(notes),
    )


def _left_out(image: Image.Image, data: bytes) -> Iterator[str]:
    """In words, what else is in the file that a result will not have."""
    jpeg = image.format in ("JPEG", "MPO")
    if _GAIN_MAP.search(data):
        yield "gain map (HDR) left out"
    elif "mp" in image.info or (image.format == "TIFF" and image.tag_v2.next):
        yield "only the first of several pictures"
    elif _is_animated(data):
        yield "only the first picture of an animation" if image.format != "HEIF" else "only the first of several pictures"
    if _VIDEO.search(data, jpeg_end(data) if jpeg else 1):
        yield "video behind the photo left out"
    elif "mp" not in image.info and (behind := data[_end(image, data) :].strip(b"\0")):
        yield f"{len(behind)} byte{'s' * (len(behind) > 1)} behind the photo left out"
    if image.info.get("depth_images"):
        yield "depth map left out"
    if b"jumb" in data and b"c2pa" in data:
        yield CREDENTIALS_LEFT_OUT
    if isinstance(image.info.get("photoshop"), dict) and image.info["photoshop"].keys() - _PHOTOSHOP_KEPT:
        yield "Photoshop's settings left out"
    segments = image.applist if jpeg else ()
    if names := {name for name, start in segments if name != "COM" and not start.startswith(_KEPT_SEGMENTS)}:
        yield f"JPEG segments of other programs left out ({', '.join(sorted(names))})"
    if image.format == "PNG":
        # A resolution without a unit tells the shape of pixels alone.
        kept = _KEPT_CHUNKS if "dpi" in image.info else _KEPT_CHUNKS - {b"pHYs"}
        if names := {name.decode() for name, _ in png_chunks(data) if name.isalpha() and name not in kept}:
            yield f"PNG chunks left out ({', '.join(sorted(names))})"


def _end(image: Image.Image, data: bytes) -> int | None:
    """Where an image ends in its file, of the formats that tell it simply."""
    if image.format in ("JPEG", "MPO"):
        return jpeg_end(data)
    if image.format == "PNG":
        return max(content.stop for _, content in png_chunks(data)) + 4
    if image.format == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    return len(data)


def _is_animated(data: bytes) -> bool:
    """Whether other images follow the first, even damaged ones. Opens the file again, because Pillow seeks to find out."""
    with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
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
    if image.format == "AVIF":
        flags = data[data.index(b"av1C") + 6]
        return 8 + 2 * (flags >> 6 & 1) + 2 * (flags >> 5 & 1)  # high_bitdepth, twelve_bit
    return image.info.get("bit_depth", 8)


def _wide_pixels(image: Image.Image, data: bytes, pixels: np.ndarray) -> np.ndarray | None:
    """`[H, W, C]` uint16 of a PNG, TIFF or AVIF with `pixels` in its upper 8 bits, upright; None if OpenCV reads others."""
    # Grey AVIF is written by Pillow, with 8 bits.
    if image.format not in ("PNG", "TIFF", "AVIF") or (image.format == "AVIF" and pixels.shape[2] < 3):
        return None
    wide = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if wide is None or wide.dtype != np.uint16:
        return None
    off = 0
    if image.format == "AVIF":
        off = 2  # Levels, on average: of colours at half the resolution, Pillow and OpenCV make pixels differently.
        wide = _rescaled(wide, 2 ** _bits(image, data) - 1, 65535)
    wide = wide.reshape(*wide.shape[:2], -1)
    wide = wide[..., {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(wide.shape[2], slice(None))]
    channels = [upright(Image.fromarray(np.ascontiguousarray(wide[..., i])), like=image) for i in range(wide.shape[2])]
    wide = np.stack(channels, axis=-1)
    is_same = wide.shape == pixels.shape and cv2.norm((wide >> 8).astype(np.uint8), pixels, cv2.NORM_L1) <= off * pixels.size
    return wide if is_same else None


def _rescaled(values: np.ndarray, most: int, new_most: int) -> np.ndarray:
    """uint16 values from 0 to `most` as those from 0 to `new_most`."""
    return np.rint(np.arange(most + 1) * (new_most / most)).astype(np.uint16)[values]


def _saved_with(image: Image.Image, data: bytes) -> dict[str, Any]:
    """What a result in the same format is saved with."""
    info = {}
    if image.info.get("icc_profile"):
        info["icc_profile"] = image.info["icc_profile"]
    with contextlib.suppress(TypeError, ValueError):  # In a damaged file, it can be anything.
        across, down = map(float, image.info.get("dpi", ()))
        if 1 <= across <= 65535 and 1 <= down <= 65535:
            info["dpi"] = across, down
    if image.format in ("JPEG", "MPO"):
        tables = [table for _, table in sorted(image.quantization.items())]
        info |= {"qtables": tables, "subsampling": JpegImagePlugin.get_sampling(image)}
    if image.format == "AVIF":
        info["bits"] = _bits(image, data)
    if image.format == "WEBP":
        info["lossless"] = _WEBP_PIXELS.search(data)[1].startswith(b"L")
    if image.format == "TIFF":
        compression = image.info["compression"]
        compression = "jpeg" if compression == "tiff_jpeg" else compression  # The old kind of JPEG.
        info["compression"] = compression if compression in _TIFF_COMPRESSIONS else "tiff_lzw"
    return info


def _native_pixels(image: Image.Image, rgb: np.ndarray) -> np.ndarray:
    """`[H, W, C]` uint8 of an upright image in its own colours; C as for `PhotoFile`."""
    if image.mode.startswith("I;16"):  # As `to_array` reduces it.
        values, transparent = np.asarray(image), image.info.get("transparency")
        grey = (values >> 8).astype(np.uint8)
        return grey[..., None] if transparent is None else np.stack([grey, (values != transparent) * np.uint8(255)], axis=-1)
    if image.mode in ("CMYK", "LAB"):
        return rgb.copy()
    grey = image.mode in ("1", "L", "LA", "La")
    mode = ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
    return np.asarray(image.convert(mode)).reshape(*rgb.shape[:2], -1)


def _from_srgb(image: Image.Image, profile: bytes, mode: str) -> Image.Image:
    """An image in the colours of an ICC profile for `mode`; unchanged if the profile is damaged or for another mode, as in
    `to_array`."""
    try:
        source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, target, outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return image


def photo_bytes(
    path: str | os.PathLike, photo: PhotoFile, result: np.ndarray, *, keep_metadata: bool = True, label: bool = True
) -> tuple[bytes, tuple[str, ...]]:
    """The file of the result of a photo, in its format (but see `WRITTEN_AS`).

    JPEG is compressed with the quantization tables of the photo; lossy WebP, AVIF and JPEG in TIFF at a high quality.

    Args:
      path: of the file, which errors name.
      photo: the original.
      result: `[H, W, 3]` uint8, as `Unmasker.unmask` gives it.
      keep_metadata: whether EXIF, IPTC, XMP, comments, texts and resolution of the photo go into the file; colour profiles
        always do. For TIFF, EXIF means the tags that describe the photo.
      label: whether the file says that it is synthetic, in EXIF and XMP and, of PNG, as text.

    Returns:
      The file, and in words what it does not keep besides `photo.notes`, such as metadata that are too long for its format.

    Raises:
      UserError: the photo's format cannot store its metadata.
    """
    form = WRITTEN_AS.get(photo.format, photo.format)
    metadata = photo.metadata if keep_metadata else Metadata()
    metadata = metadata.labelled() if label else metadata
    texts = dict(photo.texts) if keep_metadata else {}
    if form == "PNG" and metadata.comment:
        texts.setdefault("Comment", metadata.comment)
    if label and LABEL not in texts.get("Comment", ""):
        texts["Comment"] = f"{LABEL} {texts.get('Comment', '')}".strip()
    options = {name: value for name, value in photo.info.items() if keep_metadata or name != "dpi"}
    try:
        if form == "AVIF":
            options |= packets(metadata)
        data = _encoded(photo.changed(result), form, options, photo.colour_chunks, texts)
        if form == "BMP":
            return data, ("no label, which .bmp cannot hold",) if label else ()
        return (data, ()) if form == "AVIF" else write_metadata(data, form, metadata)
    except MemoryError:
        raise
    except Exception as error:  # As when reading: on metadata, Pillow can raise anything.
        raise UserError(
            f"cannot write {path} as {form} ({error}); leave out its metadata (--metadata=drop), or save the photo as PNG first"
        ) from error


def drawn_png_bytes(image: np.ndarray, *, label: bool = True) -> bytes:
    """The PNG file of an image `[H, W, 3]` RGB, uint8, with drawn faces in it.

    Args:
      image: what is written.
      label: whether the file says that it is synthetic, as text and in XMP.
    """
    data = _encoded(image, "PNG", {}, {}, {"Comment": LABEL} if label else {})
    return write_metadata(data, "PNG", Metadata().labelled())[0] if label else data


def write_drawn_png(path: str | os.PathLike, image: np.ndarray, *, label: bool = True) -> None:
    """Writes what `drawn_png_bytes` gives, completely or not at all. Raises UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(drawn_png_bytes(image, label=label))


def _encoded(
    pixels: np.ndarray, form: str, options: dict[str, Any], colour_chunks: dict[bytes, bytes], texts: dict[str, str]
) -> bytes:
    """The bytes of an image file without metadata; chunks and texts are for PNG."""
    if form == "WEBP":
        options["quality"] = 100 if options.get("lossless") else 90
    if form == "AVIF" or options.get("compression") == "jpeg":
        options["quality"] = 90
    if form == "JPEG" and "qtables" not in options:
        options["quality"] = 95
    if options.get("compression") in _TIFF_PREDICTED:
        options["tiffinfo"] = {_PREDICTOR: 2}
    if form == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for name, content in colour_chunks.items():
            options["pnginfo"].add(name, content)
        for keyword, text in texts.items():
            options["pnginfo"].add_text(keyword, text)
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        return _encoded_wide(pixels, form, options)
    file = io.BytesIO()
    options.pop("bits", None)
    Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]).save(file, form, **options)
    return file.getvalue()


def _encoded_wide(pixels: np.ndarray, form: str, options: dict[str, Any]) -> bytes:
    """The bytes of a PNG, TIFF or AVIF with more than 8 bits in each of 3 or 4 channels.

    OpenCV writes the pixels; Pillow all else of PNG and TIFF, which OpenCV cannot.
    """
    bgr = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    if form == "AVIF":
        settings = [cv2.IMWRITE_AVIF_DEPTH, options["bits"], cv2.IMWRITE_AVIF_QUALITY, options["quality"]]
        kept = [name for name in _AVIF_METADATA if name in options]
        contents = [np.frombuffer(options[name], np.uint8) for name in kept]
        bgr = _rescaled(bgr, 65535, 2 ** options["bits"] - 1)
        return cv2.imencodeWithMetadata(".avif", bgr, [_AVIF_METADATA[name] for name in kept], contents, settings)[1].tobytes()
    if form == "PNG":
        data, file = cv2.imencode(".png", bgr)[1].tobytes(), io.BytesIO()
        Image.new("RGB", (1, 1)).save(file, form, **options)
        header = 33  # Of PNG, and the chunk of its size.
        return data[:header] + file.getvalue()[header : file.getvalue().index(b"IDAT") - 4] + data[header:]
    settings = [cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW]
    for axis, dpi in zip((cv2.IMWRITE_TIFF_XDPI, cv2.IMWRITE_TIFF_YDPI), options.get("dpi", ()), strict=False):
        settings += [axis, round(dpi)]
    file = io.BytesIO(cv2.imencode(".tif", bgr, settings)[1].tobytes())
    tags = TiffImagePlugin.ImageFileDirectory_v2(file.getvalue()[:8])
    file.seek(tags.next)
    tags.load(file)
    dict(tags)  # Decodes them all: Pillow writes only decoded ones.
    if pixels.shape[2] == 4:
        tags[ExifTags.Base.ExtraSamples] = 2  # Transparency.
    if "icc_profile" in options:
        tags[ExifTags.Base.InterColorProfile] = options["icc_profile"]
    whole = io.BytesIO()
    tags.save(whole)  # Before the pixels, whose places Pillow adjusts.
    return whole.getvalue() + file.getvalue()
