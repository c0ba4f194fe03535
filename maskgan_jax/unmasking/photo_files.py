"""Photos as files: read with all that belongs to them, written in the format they came in and labelled as synthetic."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin

from maskgan_jax.errors import UserError
from maskgan_jax.files import decode_picture, replacing, upright

# What a file says of a picture that was changed, for people; and for programs, in the vocabulary of the press (IPTC's "Digital
# Source Type"): a picture part of which was made by a trained model.
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

# Formats that a result is written in, by Pillow's names: that of the photo, or PNG where there is no writing it without loss of
# colours (GIF).
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
# Those that cannot hold metadata.
_BARE = ("BMP",)


@dataclasses.dataclass(frozen=True)
class PhotoFile:
    """A photo as it was in its file.

    Attributes:
      rgb: `[H, W, 3]` uint8, upright, in sRGB, transparent parts white: what the networks see.
      pixels: `[H, W, C]` uint8, upright, in the file's own colours: C is 1 for grey and 3 for RGB, one more with transparency.
      format: of the file, by Pillow's name.
      info: of what Pillow found in the file, what a result may be saved with: `exif`, `xmp`, `icc_profile`, `dpi` ...
      notes: in words, what a result does not keep of it.
    """

    rgb: np.ndarray
    pixels: np.ndarray
    format: str
    info: dict[str, Any]
    notes: tuple[str, ...]

    def changed(self, result: np.ndarray) -> np.ndarray:
        """`pixels` with those values replaced that differ between `rgb` and a result `[H, W, 3]` uint8."""
        pixels = self.pixels.copy()
        colours = pixels.shape[2] - (pixels.shape[2] + 1) % 2  # 1 of 1 and 2, 3 of 3 and 4.
        where = (result != self.rgb).any(axis=-1)
        drawn = Image.fromarray(result)
        profile = self.info.get("icc_profile")
        if colours == 1:
            drawn = drawn.convert("L")
        elif profile:
            drawn = _from_srgb(drawn, profile)
        pixels[where, :colours] = np.asarray(drawn).reshape(*where.shape, colours)[where]
        return pixels


def read_photo(path: str | os.PathLike) -> PhotoFile:
    """Reads a photo of any format that `decode_picture` reads.

    Raises:
      UserError: the file is missing, or is no readable picture.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    try:
        rgb = decode_picture(data)
    except UserError as error:
        raise UserError(f"{path} is {error}") from error
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of damaged EXIF.
        with Image.open(io.BytesIO(data)) as image:
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                notes.append("only the first picture of an animation")
            info = _kept(image, data)
            native = upright(image)
            if image.mode.startswith("I;16") or (image.format == "PNG" and data[24] == 16):
                notes.append("16 bits a channel became 8")
            if image.mode == "CMYK":
                notes.append("CMYK became RGB")
                info.pop("icc_profile", None)
            pixels = _native_pixels(native, rgb)
            return PhotoFile(rgb, pixels, image.format, info, tuple(notes))


def _kept(image: Image.Image, data: bytes) -> dict[str, Any]:
    """What a result in the same format is saved with."""
    info = {name: image.info[name] for name in ("icc_profile", "dpi", "xmp") if image.info.get(name)}
    try:
        exif = image.getexif()
        exif.pop(ExifTags.Base.Orientation, None)  # The result is upright.
        if exif:
            info["exif"] = exif.tobytes()
    except Exception:  # Damaged EXIF can lead Pillow to anything; the picture is good without.
        pass
    if image.format in ("JPEG", "MPO"):
        info |= {"qtables": image.quantization, "subsampling": JpegImagePlugin.get_sampling(image)}
    if image.format == "WEBP":
        info["lossless"] = b"VP8L" in data[:64]
    if image.format == "TIFF" and "compression" in image.info:
        info["compression"] = image.info["compression"]
    return info


def _native_pixels(image: Image.Image, rgb: np.ndarray) -> np.ndarray:
    """`[H, W, C]` uint8 of an upright picture in its own colours; C as for `PhotoFile`."""
    grey = image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")
    if image.mode.startswith("I;16"):
        return rgb[..., :1].copy()
    if image.mode == "CMYK":
        return rgb.copy()
    mode = ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
    if mode == "LA" and image.mode != "LA":  # Grey with one transparent level.
        image = image.convert("RGBA")
        return np.asarray(image)[..., [0, 3]]
    return np.asarray(image.convert(mode)).reshape(*rgb.shape[:2], -1)


def _from_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """A picture in the colours of an ICC profile; as it is if the profile is damaged, which `decode_picture` left alone too."""
    try:
        source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return picture


def written_name(name: Path, format: str) -> Path:
    """The name of the result for a photo `name` in a format: its own, or one that ends in .png if that is what is written."""
    if WRITTEN[format] == format or format == "MPO" or name.suffix.lower() == ".png":
        return name
    return name.with_name(f"{name.name}.png")  # `name` with another suffix may be that of another photo.


def write_photo(
    path: str | os.PathLike, photo: PhotoFile, result: np.ndarray, *, keep_metadata: bool = True, label: bool = True
) -> None:
    """Writes what became of a photo, in its format, whole or not at all.

    JPEG is compressed with the tables of the photo, lossy WebP and AVIF at a high quality.

    Args:
      path: where to.
      photo: what it was.
      result: `[H, W, 3]` uint8, as `Unmasker.unmask` gives it.
      keep_metadata: whether EXIF, XMP and resolution of the photo go into the file; colour profiles do in any case.
      label: whether the file says that it is synthetic, in EXIF and XMP and, of PNG, as text.

    Raises:
      UserError: the file cannot be written.
    """
    pixels = photo.changed(result)
    image = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
    form = WRITTEN[photo.format]
    options = {name: value for name, value in photo.info.items() if keep_metadata or name not in ("exif", "xmp", "dpi")}
    if label and form not in _BARE:
        options["exif"] = _labelled_exif(options.get("exif"))
        options["xmp"] = _labelled_xmp(options.get("xmp"))
    if form == "PNG":
        text = PngImagePlugin.PngInfo()
        if label:
            text.add_text("Comment", LABEL)
        if "xmp" in options:
            text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
        options["pnginfo"] = text
    if form == "TIFF":  # Its own tags are what other formats hold as EXIF.
        options["tiffinfo"] = _loaded(options.pop("exif", None))
        if "xmp" in options:
            options["tiffinfo"][ExifTags.Base.XMLPacket] = options.pop("xmp")
    if form == "WEBP":
        options["quality"] = 100 if options.get("lossless") else 90
    if form == "AVIF":
        options["quality"] = 90
    if form in _BARE:
        options = {}
    with replacing(path) as temporary:
        image.save(temporary, format=form, **options)


def _labelled_exif(exif: bytes | None) -> bytes:
    labelled = _loaded(exif)
    labelled[ExifTags.Base.Software] = "maskgan_jax"
    if ExifTags.Base.ImageDescription not in labelled:
        labelled[ExifTags.Base.ImageDescription] = LABEL
    return labelled.tobytes()


def _loaded(exif: bytes | None) -> Image.Exif:
    tags = Image.Exif()
    if exif:
        tags.load(exif)
    return tags


def _labelled_xmp(xmp: bytes | str | None) -> bytes:
    packet = (xmp.decode(errors="replace") if isinstance(xmp, bytes) else xmp) or _PACKET
    if _END not in packet:
        packet = _PACKET
    head, tail = packet.rsplit(_END, 1)
    return (head + _DESCRIPTION + _END + tail).encode()
