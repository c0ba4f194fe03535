"""Reading and writing images and other files: images are read as upright RGB, files are written completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import re
import shutil
import stat
import tempfile
import uuid
import warnings
from collections.abc import Container, Iterator
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageCms

from maskgan_jax.colours import colour_profile, is_of_rgb
from maskgan_jax.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv"}
    | {".ts", ".vob", ".webm", ".wmv"}
)
# Why files with other suffixes are not read.
_RAW, _OTHER = "camera raw; export it as JPEG or TIFF first", "this kind of image is not read; save it as JPEG or PNG first"
_UNREAD = {
    **dict.fromkeys((".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"), _RAW),
    **dict.fromkeys((".eps", ".exr", ".hdr", ".j2k", ".jp2", ".jxl", ".jxr", ".pdf", ".psd", ".svg", ".tga", ".xcf"), _OTHER),
}
# Larger images would take more than 1 GB of memory; and of photos to be unmasked, more than 4 GB.
MOST_MEGAPIXELS, MOST_MEGAPIXELS_TO_UNMASK = 100, 250

# Larger files hold no such image: it has up to 8 bytes a pixel.
MOST_MEGABYTES = 8 * MOST_MEGAPIXELS_TO_UNMASK + 100

# The formats that are read, by Pillow's names, and how their files begin; suffixes are ignored.
IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP")
_BEGINNING = re.compile(
    rb"....ftyp(avi[fs]|hei[cfmsx]|hev[cmsx]|m[is]f1)|BM|GIF8|\xff\xd8\xff|\x89PNG\r\n|II[*+]\0|MM\0[*+]|RIFF....WEBP",
    re.DOTALL,
)
_DAMAGED = "truncated, damaged or of an unusual kind"
# A JPEG marker. Within coded pixels, the byte 255 is followed by 0 or a restart number.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# What makes an image upright, by its EXIF orientation; 1 is upright.
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = MOST_MEGAPIXELS_TO_UNMASK * 1_000_000 // 2  # Pillow itself refuses twice as many.


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields an empty temporary file beside `path`, which replaces it when the block ends without an error.

    If the block fails, `path` remains as it was.

    Raises:
      UserError: the folder or the file cannot be written (no name, no permission, full disk).
    """
    path = _named(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a new temporary folder beside `path`, which becomes `path` when the block ends without an error.

    Raises:
      UserError: there is something at `path` already, or it cannot be written (no name, no permission, full disk).
    """
    path = _named(path)
    if path.exists():
        raise UserError(f"{path} is there already; delete it, or give another name")
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_writable(path: str | os.PathLike) -> None:
    """Raises UserError as `replacing` would; to be called before the work whose result is written to `path`."""
    path = _named(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def check_scores_file(path: str | os.PathLike) -> None:
    """As `check_writable`, for JSON that is written beside pictures. Raises UserError for the name of a picture, too."""
    if is_image_name(Path(path)):
        raise UserError(f"{path} has the name of a picture, which scores would replace; give a name that ends in .json")
    check_writable(path)


def _named(path: str | os.PathLike) -> Path:
    """`path`. Raises UserError if it is a URL, or cannot be replaced: it is empty, `.`, `/`, a pipe or a device."""
    if "://" in os.fspath(path):
        raise UserError(f"cannot write to {os.fspath(path)}, which is a URL; give a path on this machine")
    if not Path(path).name:
        raise UserError(f"cannot write to {os.fspath(path)!r}, which has no name in it; give the name of what is to be written")
    # /dev/stdout is a link, which would be replaced itself, to the file that the output goes to.
    if is_endless(path) or os.path.realpath(Path(path).parent) == "/dev":
        raise UserError(f"cannot write to {os.fspath(path)}, which is a pipe or a device; give the name of a file")
    return Path(path)


def _unwritable(path: Path, error: OSError) -> UserError:
    reason = error.strerror or error
    if isinstance(error, FileNotFoundError) and path.parent.is_dir():  # As in /proc.
        reason = "no files can be made in its folder"
    return UserError(f"cannot write {path} ({reason}); check the folder's permissions and free space")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a UTF-8 text file, completely or not at all. Raises UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, completely or not at all. Raises UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(encode_json(value))


def encode_json(value: Any) -> bytes:
    """The bytes of an indented JSON file of `value`."""
    return (json.dumps(value, indent=2) + "\n").encode()


def is_image_name(path: PurePath) -> bool:
    """Whether a file is an image by its suffix, and not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def find_images(folder: str | os.PathLike) -> list[Path]:
    """All image files below `folder`, sorted by path.

    Raises:
      UserError: `folder` is not a folder, or there are no images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the images")
    paths = find_files(folder, IMAGE_SUFFIXES)
    if not paths:
        raise UserError(f"no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in {folder}")
    return paths


def find_files(folder: Path, suffixes: Container[str] | None = None) -> list[Path]:
    """All files below `folder`, or those with one of these suffixes (in lower case), but for hidden ones, by their names.

    Links to nothing are among them, and, without suffixes, pipes, devices, and folders that are not searched: links and those
    that cannot be read. None of these can be read as a file, and all are to be reported as such.
    """
    failed: list[OSError] = []
    paths, links = [], []
    for parent, folders, names in os.walk(folder, onerror=failed.append):
        folders[:] = (name for name in folders if not name.startswith("."))
        links += (path for path in (Path(parent, name) for name in folders) if path.is_symlink())
        paths += (Path(parent, name) for name in names if not name.startswith("."))
    found = [path for path in paths if _has(path, suffixes) and not (suffixes and is_endless(path))]
    if suffixes is None:
        found += (*links, *(Path(error.filename) for error in failed))
    return sorted(found)


def is_endless(path: str | os.PathLike) -> bool:
    """Whether it is a pipe, a socket or a device: reading it may never end. False if there is no such file."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # It is not there, or the name is impossible.
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _has(path: Path, suffixes: Container[str] | None) -> bool:
    return suffixes is None or path.suffix.lower() in suffixes


def why_no_image(path: PurePath) -> str:
    """Why a file, by the suffix of its name, is no image that is read; or a folder is not searched."""
    if is_endless(path):
        return "a pipe or a device"
    if os.path.isdir(path):
        return "a link to a folder; give that folder itself" if os.path.islink(path) else "a folder that cannot be read"
    return _UNREAD.get(path.suffix.lower(), "of a kind that is not read")


def images_by_name(folder: str | os.PathLike) -> dict[str, Path]:
    """The images below `folder`, by their relative paths without suffix.

    Raises:
      UserError: it is not a folder, there are no images in it, or two have the same name.
    """
    pictures: dict[str, Path] = {}
    for path in find_images(folder):
        other = pictures.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
        if other != path:
            raise UserError(f"{other} and {path} have the same name; keep one of them")
    return pictures


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of `image`, `[H, W, 3]` RGB or `[H, W]` or `[H, W, 1]` grey, uint8."""
    if image.dtype != np.uint8 or image.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"cannot encode an array of shape {image.shape} and type {image.dtype} as PNG")
    return cv2.imencode(".png", image[..., ::-1] if image.shape[2:] == (3,) else image)[1].tobytes()


def is_image(beginning: bytes) -> bool:
    """Whether a file that begins so (with 12 bytes or more) is an image of a format that is read."""
    return bool(_BEGINNING.match(beginning))


def decode_image(data: bytes, *, grey: bool = False, most_megapixels: int = MOST_MEGAPIXELS) -> np.ndarray:
    """Decodes an image file to `[H, W, 3]` RGB (or `[H, W]` if `grey`), uint8, with its EXIF orientation applied.

    The format is recognized by the bytes. Of an animation, the first frame is taken. 16 bits are reduced to 8. Transparent
    pixels become white; if `grey`, which is for masks, black (not hidden). Colours (Display P3, Adobe RGB, print, HDR) are
    converted to sRGB; if `grey`, values are left as they are.

    Raises:
      UserError: the bytes are not a complete image of a known format, it has more megapixels than that, or colours that are
        not known.
    """
    with open_image(data, most_megapixels) as image:
        return to_array(upright(image), grey=grey, profile=None if grey else colour_profile(image, data))


@contextlib.contextmanager
def open_image(data: bytes, most_megapixels: int = MOST_MEGAPIXELS) -> Iterator[Image.Image]:
    """Opens an image file of a format that is read, by its bytes, with its first image loaded.

    Raises:
      UserError: as `decode_image` does; also what the block raises, unless it is a UserError, is taken for damage.
      MemoryError: memory ran out, which is no fault of the file.
    """
    if not data:
        raise _unreadable("an empty file")
    too_large = _unreadable(f"more than {most_megapixels} megapixels; make it smaller")
    if not is_image(data):
        raise _unreadable(f"not {', '.join(IMAGE_FORMATS[:-1])} or {IMAGE_FORMATS[-1]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About damaged EXIF, which does not matter, and deprecations.
        try:
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
                if image.width * image.height > most_megapixels * 1_000_000:
                    raise too_large
                image.load()
                if image.format in ("JPEG", "MPO") and not jpeg_end(data):
                    raise _unreadable(_DAMAGED)
                yield image
        except (MemoryError, UserError):
            raise
        except Image.DecompressionBombError as error:
            raise too_large from error
        except Exception as error:  # Damaged files can make Pillow raise anything.
            raise _unreadable(_DAMAGED) from error


def _unreadable(reason: str) -> UserError:
    return UserError(f"not a readable picture ({reason})")


def jpeg_end(data: bytes) -> int | None:
    """Where a JPEG ends, after its end marker. A broken download filled with zeros has none, but decodes, too."""
    place = 2
    while marker := _JPEG_MARKER.search(data, place):
        if marker[0] == b"\xff\xd9":
            return marker.end()
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return None


def upright(image: Image.Image, like: Image.Image | None = None) -> Image.Image:
    """A Pillow image, rotated and mirrored by its EXIF orientation, or by that of another, `like`."""
    try:
        orientation = (like or image).getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Damaged EXIF can make Pillow raise anything; the image itself is good.
        orientation = None
    return image.transpose(_TURN[orientation]) if orientation in _TURN else image


def to_array(image: Image.Image, *, grey: bool = False, profile: bytes | None = None) -> np.ndarray:
    """The pixels of a Pillow image, in sRGB, or grey, as `decode_image` gives them; `profile` says which colours it has.

    Raises:
      UserError: it has 32 bits a pixel.
    """
    mode = "L" if grey else "RGB"
    if image.mode in ("I", "F"):
        raise _unreadable("32 bits a pixel; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I;16"):  # Pillow would clip it. It reduces 16-bit colours itself, in the same way.
        values, transparent = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray((values >> 8).astype(np.uint8))
        if transparent is not None:
            image.putalpha(Image.fromarray(values != transparent))
    if image.has_transparency_data:
        # Grey stays so, for which its profile may be.
        opaque = "L" if image.mode in ("L", "LA") else "RGB"
        image, cut_out = Image.new(opaque, image.size, "black" if grey else "white"), image.convert(f"{opaque}A")
        image.paste(cut_out, mask=cut_out)
    if image.mode not in ("L", "RGB", "CMYK") or (image.mode == "L" and profile and is_of_rgb(profile)):
        image = image.convert("RGB")
    if not grey and profile and (to_srgb := _to_srgb(profile, image.mode)):
        image = ImageCms.applyTransform(image, to_srgb)
    elif image.mode != mode:
        image = image.convert(mode)
    # Copied in bands: all at once would take three times their memory in Pillow.
    width, height = image.size
    pixels = np.empty((height, width) if grey else (height, width, 3), np.uint8)
    for top in range(0, height, 1024):
        bottom = min(top + 1024, height)
        pixels[top:bottom] = image.crop((0, top, width, bottom))
    return pixels


@functools.lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion of an image from an ICC profile to sRGB; None if it is not needed or the profile is damaged."""
    try:
        transform = ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode == "RGB":
        levels = np.linspace(0, 255, 6).astype(np.uint8)
        colours = Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(6, 36, 3))
        change = np.subtract(ImageCms.applyTransform(colours, transform), colours, dtype=int)
        if abs(change).max() <= 2:  # It is sRGB: only rounding would change.
            return None
    return transform


def read_file(path: str | os.PathLike, most_megabytes: int = MOST_MEGABYTES) -> bytes:
    """The bytes of a file.

    Raises:
      UserError: it cannot be read, is a device, or is larger than that.
    """
    most = most_megabytes * 1_000_000
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise UserError(f"cannot read {path} (it is a device, not a file)")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= most:
                data = file.read(size + 1)
                if len(data) > size:  # A pipe does not tell its size. `read` takes as much memory as it may fill.
                    data += file.read(most - size)
                if len(data) <= most:
                    return data
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    raise UserError(f"{path} has more than {most_megabytes} megabytes; make it smaller")


def read_image(path: str | os.PathLike, *, grey: bool = False, most_megapixels: int = MOST_MEGAPIXELS) -> np.ndarray:
    """Reads an image file as `decode_image` decodes it.

    Raises:
      UserError: the file is missing or cannot be decoded.
    """
    data = read_file(path)
    try:
        return decode_image(data, grey=grey, most_megapixels=most_megapixels)
    except UserError as error:
        raise UserError(f"{path} is {error}") from error


# Its former name, which scripts outside use.
read_picture = read_image


def jpeg_quality(data: bytes) -> int | None:
    """The quality a JPEG was compressed with, 1..100 on libjpeg's scale, or None if it is not a JPEG.

    This is the quality whose luminance table is nearest to the file's, which may be by another encoder.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                table = np.array(image.quantization[0])
    except MemoryError:
        raise
    except Exception:  # Damaged files can make Pillow raise anything.
        return None
    return 1 + int(np.abs(_luminance_tables() - table).sum(axis=1).argmin())


@functools.cache
def _luminance_tables() -> np.ndarray:
    """`[100, 64]`: libjpeg's tables for the qualities 1 to 100."""
    tables = []
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            tables.append(image.quantization[0])
    return np.array(tables)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes `image` (as for `encode_png`) to a PNG file, completely or not at all. Raises UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(encode_png(image))
