"""Feeds damaged files to one of the program's readers, as atheris (a coverage-guided fuzzer) or hypothesis makes them up.

    pip install atheris
    python tools/fuzz.py state_dict --minutes=10 --cases=cases
    python tools/fuzz.py state_dict --minutes=10 --cases=cases --engine=hypothesis

A reader may answer a file only with what is in it or with a UserError of one line. Anything else is a fault: the file is kept
in `--cases` with its traceback, once for each place in the code, and the exit code is 1. So is what takes longer than 20
seconds, or more than 3 GB of memory; either ends a run of atheris. Cases become tests in tests/tools/test_fuzz.py.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import io
import itertools
import json
import os
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from maskgan_jax.errors import UserError, exit_code

SECONDS, MEGABYTES, LONGEST = 20, 3000, 1 << 16
# What hypothesis puts in the place of words, numbers and texts.
ODD = (b"null", b"[]", b"{}", b"-1", b"0", b"1e999", b"NaN", b"1" + b"0" * 30, b'""', b'"../../x"', b'"\\ud800"', b"true")
ODD += (b"[" * 3000 + b"]" * 3000, b'"__class__"', b"\0", b"\xff" * 8, b"\n", b"9" * 5000, b'"', b"")
_WORD = re.compile(rb'"[^"]*"|[\w.+-]+')


class Reader(NamedTuple):
    """One reader: what gives good files, and what reads the bytes of one, with a folder to work in."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]


@contextlib.contextmanager
def in_one_sentence() -> Iterator[None]:
    """Lets the block end in a UserError; raises ValueError if that has several lines."""
    try:
        yield
    except UserError as error:
        if "\n" in str(error):
            raise ValueError("a message of several lines") from error


def _written(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


# Networks and configs.


def _config_text() -> bytes:
    from maskgan_jax.configs.default import get_config

    return json.dumps(get_config().to_dict()).encode()


def _weights_seeds() -> list[bytes]:
    import numpy as np
    from safetensors.numpy import save

    config = json.loads(_config_text())
    network = {"task": "unmask", "size": 64, "zoom": 1.0, "settings": {"width": 4}}
    header = {"format": "maskgan_jax", "version": "2", "network": json.dumps(network), "config": json.dumps({"task": "unmask"})}
    old = {"format": "maskgan_jax", "config": json.dumps({name: config[name] for name in ("task", "data", "generator")})}
    files = [save({"params/down_0/kernel": np.zeros((1, 2), np.float16)}, metadata=each) for each in (header, old)]
    return [*files, *(data[8:-4].rstrip() for data in files)]


def _weights(data: bytes, folder: Path) -> None:
    """A whole file, or its header."""
    from maskgan_jax.networks.safetensors import load_safetensors, read_header

    data = struct.pack("<Q", len(data)) + data + bytes(4) if data[:1] == b"{" else data
    path = _written(data, folder / "network.safetensors")
    for read in (load_safetensors, read_header):
        with in_one_sentence():
            read(path)


def _state_dict_seeds() -> list[bytes]:
    from maskgan_jax.weights.state_dict import LEGACY_MAGIC, LEGACY_PROTOCOL

    # {'w': tensor of 2 float32}, as torch.save writes it: in a zip file, and as a row of pickles.
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02tQK\x00K\x02\x85K\x01\x85"
        b"\x89ccollections\nOrderedDict\n)Rt"
    )
    pickled = b"\x80\x02}q\x00U\x01w" + tensor + b"Rs."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", struct.pack("<2f", 1, 2))

    def long(value: int) -> bytes:
        number = value.to_bytes((value.bit_length() + 8) // 8, "little")
        return b"\x80\x02\x8a" + bytes([len(number)]) + number + b"."

    legacy = (
        long(LEGACY_MAGIC),
        long(LEGACY_PROTOCOL),
        b"\x80\x02}.",
        pickled.replace(b"K\x02tQ", b"K\x02NtQ"),
        b"\x80\x02]U\x010a.",
    )
    return [file.getvalue(), b"".join(legacy) + struct.pack("<q2f", 2, 1, 2)]


def _state_dict(data: bytes, folder: Path) -> None:
    import numpy as np

    from maskgan_jax.weights.state_dict import read_state_dict

    for array in read_state_dict(_written(data, folder / "state.pth")).values():
        np.ascontiguousarray(array)


def _config(data: bytes, folder: Path) -> None:
    from maskgan_jax.config import read_config, read_digests
    from maskgan_jax.networks.stored import read_description

    path = _written(data, folder / "config.json")
    for read in (read_config, read_digests, lambda path: read_description(path.parent)):
        with in_one_sentence():
            read(path)


# Data sets and what they are made of.


def _templates_seeds() -> list[bytes]:
    points = "mask_a: 1, 1\nmask_b: 4, 0\nmask_c: 7, 1\nmask_d: 1, 5\nmask_e: 4, 7\nmask_f: 7, 5\n"
    return [f"[flat]\ntemplate: flat.png\n{points}[flat_left]\ntemplate: flat.png\n{points}[empty]\n".encode()]


def _templates(data: bytes, folder: Path) -> None:
    from maskgan_jax.data.masks.templates import load_templates

    _written(_png(b"", channels=4), folder / "flat.png")
    _written(data, folder / "masks.cfg")
    load_templates.cache_clear()
    load_templates(str(folder))


_DATA_SET: dict[str, bytes] = {}


def _records_seeds() -> list[bytes]:
    """A good data set; each seed is the number of one of its files, and the file."""
    from maskgan_jax.configs.default import get_config, splits
    from maskgan_jax.data.build.build import build_data_set

    config = get_config()
    config.data.size, config.data.splits = 64, splits(test={"*": 1.0})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        build_data_set(["rendered=2"], config, folder, workers=1)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and path.suffix not in (".png", ".csv") and path.name != "card.json":
                _DATA_SET[path.relative_to(folder).as_posix()] = path.read_bytes()
    return [bytes([number]) + content for number, content in enumerate(_DATA_SET.values())]


def _records(data: bytes, folder: Path) -> None:
    from maskgan_jax.data.masked_faces.reader import config_of, digest_of, load_split

    damaged = list(_DATA_SET)[data[0] % len(_DATA_SET)] if data else ""
    for name, content in _DATA_SET.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data[1:] if name == damaged else content)
    for read in (config_of, digest_of, lambda folder: list(load_split(folder, "test"))):
        with in_one_sentence():
            read(folder)


def _table_seeds() -> list[bytes]:
    return [
        b"\xef\xbb\xbffile,source,identity,expression\na.png,x,somebody,happy\n../b.png,,,\n",
        b"a.png 1\n000001.jpg 2880\n",
    ]


def _table(data: bytes, folder: Path) -> None:
    from maskgan_jax.configs.default import get_config
    from maskgan_jax.data.build.sources import TABLES, list_all_photos, list_photos

    _written(b"", folder / "a.png")
    for table, kind in zip(TABLES, ("celeba", "folder"), strict=True):
        _written(data, folder / table)
        with in_one_sentence():
            list(list_all_photos([f"{kind}={folder}"], get_config()))
        list(list_photos(f"ffhq={folder}", get_config()))
        (folder / table).unlink()


def _faces_seeds() -> list[bytes]:
    header = b'{"format": "maskgan faces", "version": 1}\n'
    points = base64.b64encode(struct.pack("<136f", *range(136))).decode()
    face = json.dumps({"id": "ffhq/a.png", "landmarks": points, "jpeg_quality": 90}).encode()
    return [header + face + b"\n" + b'{"id": "ffhq/b.png", "reason": "no face found"}\n', header]


def _faces(data: bytes, folder: Path) -> None:
    import numpy as np

    from maskgan_jax.data.align import align
    from maskgan_jax.data.build.face_file import read_face_file
    from maskgan_jax.data.build.make_record import FoundFace
    from maskgan_jax.data.build.sources import Photo

    known = read_face_file(_written(data, folder / "faces.jsonl"))
    found = known.face_in(Photo("ffhq/a.png", "ffhq", "", "", str(folder / "a.png")))
    if isinstance(found, FoundFace):
        align(np.zeros((200, 200, 3), np.uint8), found.landmarks, 64)


# Pictures.


def _png(chunks: bytes, *, channels: int = 3) -> bytes:
    """A PNG of 8 x 8 pixels, with more chunks after the first."""
    pixels = zlib.compress((b"\0" + b"\xff" * 8 * channels) * 8)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2 if channels == 3 else 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + chunks + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _image_seeds() -> list[bytes]:
    from PIL import Image

    import maskgan_jax.files  # noqa: F401  It registers HEIF.

    image = Image.radial_gradient("L").resize((16, 16)).convert("RGB")
    seeds = []
    for form in ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP"):
        for options in ({}, {"save_all": True, "append_images": [image.rotate(90)]} if form in ("GIF", "PNG", "WEBP") else {}):
            file = io.BytesIO()
            image.save(file, form, **options)
            seeds.append(file.getvalue())
    return seeds


def _image(data: bytes, folder: Path) -> None:
    from maskgan_jax.files import jpeg_quality, read_image
    from maskgan_jax.unmasking.inputs import find_jobs
    from maskgan_jax.unmasking.outputs import Outputs
    from maskgan_jax.unmasking.photo_files import read_photo

    path = _written(data, folder / "photo.png")
    for read in (read_image, lambda path: read_image(path, grey=True), read_photo):
        with in_one_sentence():
            read(path)
    jpeg_quality(data)
    for job in find_jobs([path], Outputs(folder / "results")):
        _ = job.is_video, job.redrawn_suffix


def _metadata_seeds() -> list[bytes]:
    from PIL import ExifTags, Image

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.ImageDescription] = 6, "a photo"
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>'
    )
    return [b"\0" + exif.tobytes(), b"\1" + packet, b"\2a comment", b"\3" + b"8BIM\x04\x04\0\0\0\0\0\x08\x1c\x02x\0\x03abc"]


def _metadata(data: bytes, folder: Path) -> None:
    """EXIF, XMP, a comment or IPTC of a JPEG."""
    from PIL import Image

    from maskgan_jax.unmasking.photo_files import photo_bytes, read_photo

    marker, beginning = (
        (b"\xe1", b""),
        (b"\xe1", b"http://ns.adobe.com/xap/1.0/\0"),
        (b"\xfe", b""),
        (b"\xed", b"Photoshop 3.0\0"),
    )[data[0] % 4 if data else 0]
    content = (beginning + data[1:])[:65533]
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    jpeg = file.getvalue()
    segment = b"\xff" + marker + struct.pack(">H", len(content) + 2) + content
    photo = read_photo(_written(jpeg[:2] + segment + jpeg[2:], folder / "photo.jpg"))
    photo_bytes(folder / "result.jpg", photo, 255 - photo.rgb)


def _colours_seeds() -> list[bytes]:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    chunks = (
        (b"cICP", b"\x09\x10\0\1"),
        (b"gAMA", struct.pack(">I", 100000)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        (b"iCCP", b"profile\0\0" + zlib.compress(profile)),
    )
    return [name + content for name, content in chunks]


def _colours(data: bytes, folder: Path) -> None:
    """A chunk of a PNG, by its name and content, beside a gamma."""
    from maskgan_jax.unmasking.photo_files import photo_bytes, read_photo

    chunks = _chunk(data[:4].ljust(4, b"x"), data[4:])
    for more in (b"", _chunk(b"gAMA", struct.pack(">I", 100000))):
        with in_one_sentence():
            photo = read_photo(_written(_png(more + chunks), folder / "photo.png"))
            photo_bytes(folder / "result.png", photo, 255 - photo.rgb)


def _labels_seeds() -> list[bytes]:
    from maskgan_jax.unmasking.labels import throwaway_certificate

    return [throwaway_certificate()]


def _labels(data: bytes, folder: Path) -> None:
    from maskgan_jax.unmasking.labels import Credentials

    Credentials(_written(data, folder / "signer.pem"))


READERS = {
    "weights": Reader(_weights_seeds, _weights),
    "state_dict": Reader(_state_dict_seeds, _state_dict),
    "config": Reader(lambda: [_config_text()], _config),
    "templates": Reader(_templates_seeds, _templates),
    "records": Reader(_records_seeds, _records),
    "table": Reader(_table_seeds, _table),
    "faces": Reader(_faces_seeds, _faces),
    "image": Reader(_image_seeds, _image),
    "metadata": Reader(_metadata_seeds, _metadata),
    "colours": Reader(_colours_seeds, _colours),
    "labels": Reader(_labels_seeds, _labels),
}


def answer(name: str, data: bytes, folder: Path) -> None:
    """Lets a reader read a file. Raises what it raises, unless that is a UserError of one line."""
    with in_one_sentence():
        READERS[name].read(data, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the flags, fuzzes in a process of its own, says what was found; returns 1 if anything was."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", default="cases", metavar="DIR", help="where faults are kept (default: cases)")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], default="atheris")
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args(arguments)
    if not flags.minutes > 0 or flags.seed < 0:
        raise UserError(f"--minutes={flags.minutes:g} --seed={flags.seed}: give minutes above 0, and a seed of 0 or more")
    cases = Path(flags.cases)
    try:
        cases.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {cases} ({error.strerror}); give another folder as --cases") from error
    try:
        importlib.import_module(flags.engine)
    except ImportError as error:
        raise UserError(f"fuzzing needs {flags.engine}; install it with pip install {flags.engine}") from error
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work:
        # atheris ends its process.
        if not (child := os.fork()):
            fuzz = _by_atheris if flags.engine == "atheris" else _by_hypothesis
            fuzz(flags.reader, flags.minutes, cases, flags.seed, Path(work))
            os._exit(0)
        _, status = os.waitpid(child, 0)
    minutes = (time.monotonic() - started) / 60
    found = sorted(path.name for path in cases.glob(f"{flags.reader}-*") if path.suffix != ".txt")
    faults = (", ".join(found) or "none") + ("; it ended with an error" if status else "")
    print(f"{flags.reader}: {minutes:.1f} minutes of {flags.engine}, {len(found)} faults in {cases}: {faults}")
    return 1 if found or status else 0


def _by_atheris(name: str, minutes: float, cases: Path, seed: int, work: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["maskgan_jax"], enable_loader_override=False):
        import maskgan_jax.config
        import maskgan_jax.data.build.face_file
        import maskgan_jax.data.build.sources
        import maskgan_jax.data.masked_faces.reader
        import maskgan_jax.data.masks.templates
        import maskgan_jax.networks.stored
        import maskgan_jax.unmasking.labels
        import maskgan_jax.unmasking.photo_files
        import maskgan_jax.weights.state_dict  # noqa: F401

    (corpus := work / "corpus").mkdir()
    for number, data in enumerate(READERS[name].seeds()):
        (corpus / str(number)).write_bytes(data)
    options = [
        f"-max_total_time={max(1, round(minutes * 60))}",  # 0 is without end.
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-seed={seed}",
        f"-artifact_prefix={cases}/{name}-",
        f"-max_len={LONGEST}",
        "-keep_seed=1",
        "-reduce_inputs=0",
        "-len_control=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], _keeping_faults(name, cases, work))
    atheris.Fuzz()


def _by_hypothesis(name: str, minutes: float, cases: Path, seed: int, work: Path) -> None:
    import hypothesis

    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    files = damaged(READERS[name].seeds())
    resource.setrlimit(resource.RLIMIT_DATA, (MEGABYTES << 20,) * 2)
    try_one, end = _keeping_faults(name, cases, work), time.monotonic() + 60 * minutes
    checks, tried = list(hypothesis.HealthCheck), 0
    for number in itertools.count(seed):

        @hypothesis.seed(number)
        @hypothesis.settings(max_examples=200, deadline=None, database=None, suppress_health_check=checks)
        @hypothesis.given(files)
        def run(data: bytes) -> None:
            nonlocal tried
            if time.monotonic() < end:
                tried += 1
                signal.alarm(SECONDS)
                try_one(data)
                signal.alarm(0)

        run()
        if time.monotonic() > end:
            print(f"{tried} files were tried", flush=True)  # The process ends without it.
            return


def damaged(seeds: Sequence[bytes]) -> Any:
    """Hypothesis' strategy for files that were good ones: words replaced by odd ones, bytes replaced, left out or doubled."""
    from hypothesis import strategies as st

    @st.composite
    def draw_file(draw: Callable) -> bytes:
        data = draw(st.sampled_from(seeds))
        for _ in range(draw(st.integers(1, 3))):
            how = draw(st.sampled_from(["word", "replaced", "left out", "doubled"]))
            words = list(_WORD.finditer(data)) if how == "word" else []
            if words:
                start, end = words[draw(st.integers(0, len(words) - 1))].span()
            else:
                start = draw(st.integers(0, len(data)))
                end = start + draw(st.integers(0, 9 if how == "replaced" else len(data)))
            new = draw(st.sampled_from(ODD) if how == "word" else st.binary(max_size=9))
            new = {"left out": b"", "doubled": data[start:end] * 2}.get(how, new)
            data = (data[:start] + new + data[end:])[:LONGEST]
        return data

    return draw_file()


def _keeping_faults(name: str, cases: Path, work: Path) -> Callable[[bytes], None]:
    """A function that tries a file, in a folder below `work`, and keeps it if it is the first with its fault."""
    (folder := work / "files").mkdir()

    def try_one(data: bytes) -> None:
        try:
            answer(name, data, folder)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{name}-{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"
            if not (cases / place).exists():
                (cases / place).write_bytes(data)
                (cases / f"{place}.txt").write_text(traceback.format_exc())
                print(f"fault: {place}: {error}", file=sys.stderr)
        if any(folder.iterdir()):
            shutil.rmtree(folder)
            folder.mkdir()

    return try_one


if __name__ == "__main__":
    sys.exit(exit_code("fuzz", main))
