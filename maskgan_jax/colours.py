"""Colours that an image tells without an ICC profile, made one: by numbers of ITU-T H.273 (cICP, nclx), or as a gamma (PNG)."""

from __future__ import annotations

import functools
import itertools
import re
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from maskgan_jax.errors import UserError

# Chromaticities of red, green and blue, (x, y) each, by their numbers in H.273; all with the white of D65.
_PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),  # BT.709 and sRGB
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_D65 = (0.3127, 0.3290)
# From the white D65 to the white D50 of ICC profiles (Bradford).
_TO_D50 = np.array([[1.0479, 0.0229, -0.0502], [0.0296, 0.9904, -0.0171], [-0.0092, 0.0151, 0.7519]])
# Of these transfers, of cameras, pixels are shown as those of sRGB are.
_LIKE_SRGB = (1, 2, 6, 13, 14, 15)
_PQ, _HLG = 16, 18
HDR = (_PQ, _HLG)
# The luminance of white in an HDR image (ITU-R BT.2408), in nits; for HLG, its signal.
_WHITE_NITS, _WHITE_HLG = 203, 0.75
# Of a PNG, the chunks that say what its values mean.
_PNG_COLOUR = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_NCLX = re.compile(rb"colrnclx(....)", re.DOTALL)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, slice]]:
    """The chunks of a PNG: their names, and where their contents are. One may hold another PNG, such as a thumbnail."""
    place, name = 8, b""
    while place < len(data) and name != b"IEND":
        name, content = data[place + 4 : place + 8], slice(place + 8, place + 8 + int.from_bytes(data[place : place + 4]))
        yield name, content
        place = content.stop + 4


def png_colour_chunks(data: bytes) -> dict[bytes, bytes]:
    """The chunks of a PNG that tell its colours, but for an ICC profile, by name."""
    before_pixels = itertools.takewhile(lambda chunk: chunk[0] != b"IDAT", png_chunks(data))
    return {name: data[content] for name, content in before_pixels if name in _PNG_COLOUR}


def colour_profile(image: Image.Image, data: bytes) -> bytes | None:
    """An ICC profile of the colours of an image; None if they are sRGB.

    In the profile of an HDR image (PQ or HLG), which only a PNG may be, what is brighter than white is white.

    Args:
      image: as Pillow opened it.
      data: the file.

    Raises:
      UserError: it is an HDR image of another format, or tells its colours by numbers that are not known.
    """
    icc = image.info.get("icc_profile") or None
    if image.format == "PNG":
        chunks = png_colour_chunks(data)
        if len(chunks.get(b"cICP", b"")) == 4:
            primaries, transfer, matrix, full = chunks[b"cICP"]
            if matrix or not full:
                raise UserError("not a readable picture (its colours are not full-range RGB; save it as sRGB)")
            return _profile_by_numbers(primaries, transfer)
        gamma = image.info.get("gamma")
        if icc or b"sRGB" in chunks or not gamma:
            return icc
        of_srgb = (*_D65, *_PRIMARIES[1])
        told = image.info.get("chromaticity", of_srgb)
        if not _are_possible(told) or np.allclose(told, of_srgb, atol=0.005):
            if 0.44 < gamma < 0.47:  # 1 / 2.2, as of sRGB.
                return None
            told = of_srgb
        return _profile(told[2:], gamma=1 / gamma, white=told[:2])
    if icc or image.format not in ("AVIF", "HEIF") or not (told := _NCLX.search(data)):
        return icc
    primaries, transfer = struct.unpack(">HH", told[1])
    if transfer in HDR:
        raise UserError("not a readable picture (HDR, which would become 8 bits; save it as SDR, or as PNG)")
    return _profile_by_numbers(primaries, transfer)


def is_of_rgb(profile: bytes) -> bool:
    """Whether an ICC profile is for RGB. That of a grey image may be, which then is RGB with equal values."""
    return profile[16:20] == b"RGB "


def is_hdr(chunks: dict[bytes, bytes]) -> bool:
    """Whether a PNG with these `png_colour_chunks` is HDR."""
    return chunks.get(b"cICP", b"\0\0")[1] in HDR


def _are_possible(chromaticities: tuple[float, ...]) -> bool:
    """Whether the first two are those of something near white, and it is a mixture of the other three colours."""
    white, *colours = ((x, y, 1 - x - y) for x, y in np.reshape(chromaticities, (4, 2)))
    try:
        parts = np.linalg.solve(np.transpose(colours), white)
    except np.linalg.LinAlgError:
        return False
    return all(0.2 < value < 0.45 for value in white[:2]) and all(parts > 0.01)


def _profile_by_numbers(primaries: int, transfer: int) -> bytes | None:
    primaries = 6 if primaries == 7 else 1 if primaries == 2 else primaries  # The same; and what is not told.
    gammas = {**dict.fromkeys(_LIKE_SRGB), 4: 2.2, 5: 2.8, 8: 1.0, **dict.fromkeys(HDR)}
    if primaries not in _PRIMARIES or transfer not in gammas:
        raise UserError(
            f"not a readable picture (its colours, {primaries}/{transfer} of H.273, are not known; save it as sRGB)"
        )
    if primaries == 1 and transfer in _LIKE_SRGB:
        return None
    return _profile(_PRIMARIES[primaries], gamma=gammas[transfer], transfer=transfer)


@functools.lru_cache(maxsize=16)
def _profile(
    primaries: tuple[float, ...], *, gamma: float | None, transfer: int = 0, white: tuple[float, float] = _D65
) -> bytes:
    """An ICC profile, version 2, of chromaticities and a gamma, or without one a transfer of H.273."""
    signal = np.linspace(0, 1, 4096)
    if gamma:
        light = signal**gamma
    elif transfer == _PQ:
        root = signal ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125) * 10000 / _WHITE_NITS
    elif transfer == _HLG:
        light, at_white = (
            np.where(s <= 0.5, s**2 / 3, (np.exp((s - 0.55991073) / 0.17883277) + 0.28466892) / 12)
            for s in (signal, _WHITE_HLG)
        )
        light = light / at_white
    else:
        light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    curve = b"curv\0\0\0\0" + struct.pack(">I", len(light)) + np.rint(np.clip(light, 0, 1) * 65535).astype(">u2").tobytes()

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x, y, 1 - x - y])

    columns = np.stack([xyz(*primaries[i : i + 2]) for i in (0, 2, 4)], axis=1)
    columns = _TO_D50 @ (columns * np.linalg.solve(columns, xyz(*white) / white[1]))
    columns *= np.array([[0.9642], [1.0], [0.8249]]) / columns.sum(axis=1, keepdims=True)  # Exactly the white of profiles.

    def tag_of(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *np.rint(values * 65536).astype(int))

    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\7colour\0".ljust(96, b"\0"),
        b"cprt": b"text\0\0\0\0CC0\0",
        b"wtpt": tag_of(columns.sum(axis=1)),
        **{name: tag_of(columns[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    place, table = 132 + 12 * len(tags), struct.pack(">I", len(tags))
    places: dict[bytes, int] = {}  # Curves are shared.
    content = b""
    for name, value in tags.items():
        if value not in places:
            places[value] = place + len(content)
            content += value
        table += name + struct.pack(">2I", places[value], len(value))
    content += bytes(-len(content) % 4)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x", place + len(content), 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp", 63190, 65536, 54061
    )
    return header + table + content
