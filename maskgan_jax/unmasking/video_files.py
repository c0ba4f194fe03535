"""Reading and writing video files: sound, subtitles, times and metadata are kept wherever that is possible."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import itertools
import math
import re
import struct
from collections.abc import Container, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageSequence

from maskgan_jax.colours import HDR, colour_profile
from maskgan_jax.errors import UserError
from maskgan_jax.files import IMAGE_FORMATS, MOST_MEGAPIXELS, read_file, to_array, upright
from maskgan_jax.unmasking.face import NOT_AMONG_LARGEST, TOO_SMALL, Face
from maskgan_jax.unmasking.inputs import is_animation
from maskgan_jax.unmasking.metadata import LABEL, png_texts

# What frames are encoded with, by the suffix of the file; H.264 for all others.
ENCODERS = {".webm": "libvpx-vp9", ".mpg": "mpeg2video", ".mpeg": "mpeg2video", ".avi": "mpeg4"}
OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "6", "crf": "24", "b": "0", "row-mt": "1"},
    "mpeg2video": {"qscale": "3"},
    "mpeg4": {"qscale": "3"},
}
# Frames per second of a camera that does not say.
CAMERA_RATE = 30
# What FFmpeg makes of HDR videos, by its names: white is that of ITU-R BT.2408, and what is brighter is compressed.
TO_SDR = {"out_primaries": "bt709", "out_transfer": "iec61966-2-1", "out_color_matrix": "bt709", "out_range": "tv"}
# Matrices (H.273, too) that FFmpeg converts to and from RGB: BT.709, FCC, both BT.601, SMPTE 240M and BT.2020.
MATRICES = (1, 4, 5, 6, 7, 9)
UNSPECIFIED = 2
# MPEG-2's frame rates are these, times 1 to 4, by 1 to 32.
MPEG2_RATES = (Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, Fraction(60000, 1001), 60)
# The formats that are read, by FFmpeg's names: others, such as lists of files in a text, would open what they name.
FORMATS = "apng,asf,avi,flv,gif,m4v,matroska,mov,mpeg,mpegts,mpegvideo,mxf,ogg"
MOST_PIXELS = MOST_MEGAPIXELS * 1_000_000
# Of all frames of an animation, which are in memory together: 4 GB.
MOST_MEGAPIXELS_OF_ANIMATION = 1000
# What a frame takes at least, however small it is, as pixels.
PIXELS_OF_FRAME = 4096
# What the metadata of a file say of the file itself; and those in 3GP, which FFmpeg writes but does not read.
_OF_FILE = frozenset({"compatible_brands", "encoder", "major_brand", "minor_version"})
_IN_3GP = frozenset({"album", "artist", "comment", "date", "genre", "title"})
# What marks the box of Content Credentials in an MP4 file, as C2PA has it, and how many boxes are looked at.
CREDENTIALS_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
MOST_BOXES = 100
# Where the times of a stream go back by more seconds than this, another file was appended.
DISCONTINUITY = 0.3
# A file is truncated if it ends earlier than it says by more than this many frames, and this fraction of its length.
SLACK_FRAMES = 3
SLACK = 0.01
# Of so many frames, it can be told whether some are missing between them.
LEAST_TIMES = 25
# Frames are missing where one follows only after so many times the usual interval; single ones are skipped by cameras, too.
GAP = 3.5
# That can be told of a video with a steady rate: no more than this fraction of its intervals, or so many around one damaged
# place, differ from the usual one by more than this fraction of it.
MOST_UNSTEADY, UNSTEADY_AROUND, UNSTEADY = 0.02, 3, 0.3

av.logging.set_level(av.logging.PANIC)  # Errors are reported in a sentence.


@dataclasses.dataclass
class Counts:
    """What the frames of a video showed: how many had faces; how many faces one had at most, and how many were left out in one
    at most, as too small, or as smaller than those asked for; and what was damaged.
    """

    frames: int = 0
    frames_with_faces: int = 0
    frames_unmasked: int = 0
    frames_with_faces_left_out: int = 0
    most_faces: int = 0
    most_faces_too_small: int = 0
    most_faces_not_asked_for: int = 0
    damaged_packets: int = 0

    def add(self, faces: Sequence[Face]) -> None:
        """Counts a frame with these faces."""
        self.frames += 1
        self.frames_with_faces += bool(faces)
        self.frames_unmasked += any(face.redrawn for face in faces)
        left_out = [face.left_out for face in faces]
        self.frames_with_faces_left_out += any(left_out)
        self.most_faces = max(self.most_faces, len(faces))
        self.most_faces_too_small = max(self.most_faces_too_small, left_out.count(TOO_SMALL))
        self.most_faces_not_asked_for = max(self.most_faces_not_asked_for, left_out.count(NOT_AMONG_LARGEST))


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[av.VideoStream]:
    """Opens a file and yields its video stream; closes it afterwards.

    Raises:
      UserError: it is no video, or its pictures have more than `MOST_MEGAPIXELS`.
    """
    try:
        if is_animation(path):
            file, metadata = _as_apng(path)
            source = av.open(file)
            source.metadata.update(metadata)
        else:
            source = _open(path)
            if "xmp" in source.metadata:  # No video has room for it, which will be told.
                source.metadata["xmp"] = ""
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a readable video ({_reason(error)})") from error
    with source:
        video = next((stream for stream in source.streams.video if _kind(stream) == "video"), None)
        if not video:
            kinds = ", ".join(_kind(stream) for stream in source.streams)
            raise UserError(f"{path} has no pictures, only {kinds or 'nothing'}")
        if video.width * video.height > MOST_PIXELS:
            raise UserError(f"{path} has pictures of more than {MOST_MEGAPIXELS} megapixels; make them smaller")
        video.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # They can grow later.
        yield video


def _as_apng(path: Path) -> tuple[io.BytesIO, dict[str, str]]:
    """An animation as PNG, upright and in sRGB, and its metadata: FFmpeg reads no WebP or AVIF, and obeys no profile."""
    file = io.BytesIO()
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            profile, metadata = colour_profile(image, read_file(path)), _metadata(image)
            frames, lasting, pixels = [], [], 0
            first = int(getattr(image, "default_image", False))  # A PNG may begin with an image that is none of its frames.
            for frame in itertools.islice(ImageSequence.Iterator(image), first, None):
                pixels += max(frame.width * frame.height, PIXELS_OF_FRAME)
                if pixels > MOST_MEGAPIXELS_OF_ANIMATION * 1_000_000:
                    raise ValueError(f"more than {MOST_MEGAPIXELS_OF_ANIMATION} megapixels in all its frames")
                frame.load()  # Only then it says how long the frame lasts.
                lasting.append(frame.info.get("duration", 100))
                frames.append(Image.fromarray(to_array(upright(frame), profile=profile)))
                if frame.has_transparency_data and frame.convert("RGBA").getextrema()[3][0] < 255:
                    frames[-1].putalpha(255)  # To be told.
            frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], duration=lasting)
    except UserError as error:
        raise UserError(f"{path} is {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # Damaged files can make Pillow raise anything.
        raise UserError(f"{path} is not a readable animation ({error}); save it as a video first") from error
    file.seek(0)
    return file, metadata


def _metadata(image: Image.Image) -> dict[str, str]:
    """The texts of an animation; and the names of metadata that no video has room for, which will be told."""
    # The comment of a GIF is bytes.
    texts = png_texts(image) or {"comment": image.info.get("comment", b"").decode(errors="replace")}
    texts = {key.lower(): text for key, text in texts.items() if text}
    return texts | dict.fromkeys(image.info.keys() & {"exif", "xmp"}, "")


def _kind(stream: av.stream.Stream) -> str:
    """What a stream is, in a word or two: to FFmpeg, a cover image is a video."""
    return "cover art" if stream.disposition & av.stream.Disposition.attached_pic else stream.type


def _open(path: Path, mode: str = "r") -> av.container.Container:
    """A file, opened such that metadata of another encoding than UTF-8 keep their bytes."""
    # From version 19 on they always do, and this cannot be asked for.
    settings = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
    if mode == "r":
        settings["container_options"] = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        settings["options"] = {"export_xmp": "1"}
    return av.open(f"file:{path}", mode, **settings)  # To FFmpeg, a name with a colon alone would be that of a protocol.


def has_credentials(path: Path) -> bool:
    """Whether an MP4 or QuickTime file has Content Credentials (C2PA): they are in a box of their own, close to the start."""
    with path.open("rb") as file:
        start = 0
        for _ in range(MOST_BOXES):
            file.seek(start)
            head = file.read(24)
            if head[4:] == b"uuid" + CREDENTIALS_BOX:
                return True
            if len(head) < 16:
                break
            size, _, large = struct.unpack(">I4sQ", head[:16])
            start += max(large if size == 1 else size, 8)
    return False


def count_frames(video: av.VideoStream) -> int | None:
    """About how many frames there are, if the file says so."""
    source = video.container
    if source.format.name == "avi":  # Of one that is cut off, FFmpeg guesses the duration by what is there.
        return video.frames or None
    # The duration, unlike the number of frames, leaves out what an edit list skips. Matroska has that of the whole file only.
    seconds = video.duration * video.time_base if video.duration else Fraction(source.duration or 0, av.time_base)
    return round(seconds * (video.average_rate or CAMERA_RATE)) or None


def decode(
    video: av.VideoStream, copied: Container[int], counts: Counts, notes: list[str]
) -> Iterator[av.VideoFrame | av.Packet]:
    """The frames of the video, and the packets of the streams that are copied (by their numbers), in the order of the file.

    Damaged packets are counted in `counts`. If the file lacks frames, or ends early, that is added to `notes`.
    """
    streams = video.container.streams
    discontinuities = _Discontinuities()
    frames = 0
    times: list[float] = []  # Of all frames that have one.
    last: dict[int, int] = {}  # The time of the last packet of each stream.
    try:
        for packet in video.container.demux([stream for stream in streams if stream is video or stream.index in copied]):
            discontinuities.move(packet)
            if packet.stream is video:
                try:
                    for frame in packet.decode():
                        frames += 1
                        if frame.time is not None:
                            times.append(frame.time)
                        yield frame
                except av.error.FFmpegError:
                    counts.damaged_packets += 1
            elif packet.size:  # The last ones, which are empty, only flush decoders.
                index = packet.stream.index
                least = last[index] + (packet.stream.type == "audio") if index in last else packet.dts
                # Those without a time, or that still go back, cannot be written. Two subtitles may have the same time.
                if packet.dts is None or packet.dts < least:
                    counts.damaged_packets += 1
                else:
                    last[index] = packet.dts
                    yield packet
    except av.error.FFmpegError as error:
        notes.append(f"damaged, and ends early ({_reason(error)})")
        with contextlib.suppress(av.error.FFmpegError):
            yield from video.decode(None)
    else:
        # By time, as frames may have any length, and of all streams, as the length may be that of the longest.
        length = count_frames(video) or 0
        missing = length - discontinuities.end * (video.average_rate or CAMERA_RATE)
        # The length of MPEG is a guess.
        if missing > max(SLACK_FRAMES, SLACK * length) and not video.container.format.name.startswith("mpeg"):
            notes.append(f"ends early: {frames} of about {length} frames")
    # In animations, one frame may last; and where two files meet, one stream may wait for another.
    if video.container.format.name != "apng" and not discontinuities.count:
        notes += missing_frames(times)


def missing_frames(times: Sequence[float]) -> list[str]:
    """A note if frames are missing between others, which FFmpeg does not tell of a damaged Matroska file or transport stream.

    Args:
      times: of the frames, in seconds.
    """
    times = np.sort(times)  # Decoders of damaged files may give them in disorder.
    if len(times) < LEAST_TIMES:
        return []
    intervals = np.diff(times)
    usual = np.median(intervals)
    unsteady = np.abs(intervals - usual) > UNSTEADY * usual
    gaps = np.flatnonzero(intervals > GAP * usual)
    if not len(gaps) or usual <= 0 or unsteady.sum() > max(UNSTEADY_AROUND, MOST_UNSTEADY * len(intervals)):
        return []
    count = int(np.rint(intervals[gaps] / usual - 1).sum())
    return [f"{count} frames are missing, {'first ' if len(gaps) > 1 else ''}at {times[gaps[0]] - times[0] + usual:.1f} s"]


def prepare(items: Iterable[av.VideoFrame | av.Packet], notes: list[str]) -> Iterator[av.VideoFrame | av.Packet]:
    """Frames (and packets between them) as networks take them: HDR becomes SDR, and interlaced frames become whole ones.

    What is done, transparency that is lost, and that sizes change, is added to `notes`.
    """
    graph, like, deinterlaces = None, None, False
    for item in items:
        if isinstance(item, av.Packet):
            yield item
            continue
        kind = item.width, item.height, item.format.name, item.color_trc
        if kind != like or (item.interlaced_frame and not deinterlaces):
            yield from _filtered(graph, None)
            deinterlaces |= item.interlaced_frame
            filters = {"bwdif": {"mode": "send_frame", "deint": "interlaced"}} if deinterlaces else {}
            if not item.format.is_planar:  # As those of PNG. PyAV frees the name of a profile twice.
                filters["sidedata"] = {"mode": "delete", "type": "ICC_PROFILE"}
            if item.color_trc in HDR:
                filters |= {"scale": TO_SDR, "format": {"pix_fmts": "yuv420p"}}
            done = {"bwdif": "deinterlaced", "scale": "HDR became SDR"}
            told = [done[name] for name in filters if name in done]
            if like and kind[:2] != like[:2]:
                told.append("pictures of other sizes became as large as the first")
            graph, like = _graph(item, filters) if filters else None, kind
            if len(item.format.components) in (2, 4):
                told.append("transparency left out")
            notes += [note for note in told if note not in notes]
        yield from _filtered(graph, item)
    yield from _filtered(graph, None)


def _graph(frame: av.VideoFrame, filters: dict[str, dict[str, str]]) -> av.filter.Graph:
    """A chain of FFmpeg's filters for frames like this one."""
    graph = av.filter.Graph()
    settings = {"video_size": f"{frame.width}x{frame.height}", "pix_fmt": frame.format.name, "time_base": str(frame.time_base)}
    settings |= {"colorspace": str(int(frame.colorspace)), "range": str(int(frame.color_range))}
    chain = {"buffer": settings, **filters, "buffersink": {}}
    graph.link_nodes(*(graph.add(name, **arguments) for name, arguments in chain.items())).configure()
    return graph


def _filtered(graph: av.filter.Graph | None, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
    """What a chain of filters gives for its next frame, or, for None, at its end. Without a chain, the frame as it is."""
    if graph:
        graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                yield graph.pull()
    elif frame:
        yield frame


class _Discontinuities:
    """Corrects the times of packets in concatenated files, where they start again at zero.

    All streams are shifted by the same time. Where two files meet, the last packets of one stream may come after the first of
    another, so video and sound pass from file to file independently. Subtitles, which are few and may go back within one file,
    follow them.
    """

    def __init__(self):
        """Starts before the first packet."""
        self.count = 0  # How often another file began so far.
        self._moves = [Fraction(0)]  # By how many seconds the packets of each file are shifted.
        self._file: dict[int, int] = {}  # The number of the file that each stream is in,
        self._last: dict[int, Fraction] = {}  # and the time of its last packet, before the shift.
        self.end = Fraction(0)  # Of everything so far, in seconds, after the shift.

    def move(self, packet: av.Packet) -> None:
        """Corrects the time of a packet, if it has one."""
        at = packet.pts if packet.dts is None else packet.dts
        if at is None:
            return
        index, seconds = packet.stream.index, at * packet.time_base
        follows = packet.stream.type == "subtitle" or index not in self._file
        begins_anew = seconds < self._last.get(index, seconds) - DISCONTINUITY
        if begins_anew and not follows and self._file[index] == self.count:
            self._moves.append(self.end - seconds)
            self.count += 1
        if begins_anew or follows:
            self._file[index] = self.count
        self._last[index] = seconds
        move = self._moves[self._file[index]]
        self.end = max(self.end, seconds + move + (packet.duration or 0) * packet.time_base)
        if packet.dts is not None:
            packet.dts += round(move / packet.time_base)
        if packet.pts is not None:
            packet.pts += round(move / packet.time_base)


def upright_frame(frame: av.VideoFrame, path: Path) -> np.ndarray:
    """A frame as `[H, W, 3]` RGB, uint8, turned and mirrored as its metadata says. Raises UserError if FFmpeg cannot."""
    if not frame.format.is_rgb and frame.colorspace not in MATRICES:
        frame.colorspace = UNSPECIFIED
    try:
        image = frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path} has pictures of an unusual kind ({_reason(error)}); convert it with another program first"
        ) from error
    (a, b), (c, d) = _display_matrix(frame)
    if _is_sideways(frame):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _display_matrix(frame: av.VideoFrame) -> np.ndarray:
    """How a frame is displayed, `[2, 2]`: its rows say where a step to the right, and one down, lead on the screen (x, y)."""
    try:
        matrix = frame.side_data["DISPLAYMATRIX"]
    except (KeyError, ValueError):  # None, or other side data that PyAV does not know; the rotation it also gives as an angle.
        angle = math.radians(frame.rotation)
        return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2].astype(np.int64)


def _is_sideways(frame: av.VideoFrame) -> bool:
    """Whether a frame is displayed rotated by 90 degrees, to either side."""
    (a, b), (c, d) = abs(_display_matrix(frame))
    return a + d < b + c


class VideoWriter:
    """A video that is being written: frames are encoded, sound and subtitles are copied.

    Attributes:
      copied: the streams that are copied, by their numbers in the source.
      notes: in words, what is not kept of the source.
    """

    def __init__(
        self, path: Path, temporary: Path, video: av.VideoStream | None, *, keep_metadata: bool = True, label: bool = True
    ):
        """Opens a temporary file for what will be `path`, like the file that `video` is in, if there is one.

        Args:
          path: what errors tell of; its suffix says which format.
          temporary: the file itself.
          video: whose sound, subtitles and, with `keep_metadata`, titles and chapters are kept.
          keep_metadata: see there.
          label: whether the file says that it is synthetic.

        Raises:
          UserError: it cannot be written, as from all other methods.
        """
        self._path, self._temporary = path, temporary
        self.copied: dict[int, av.stream.Stream] = {}
        self.notes: list[str] = []
        self._aspect = video and video.sample_aspect_ratio  # Of a pixel: width by height.
        self._last: int | None = None  # The time of the last frame.
        self._late: Fraction | None = None  # By how much the first frame's is later than in the source.
        self._is_animation = video is not None and video.container.format.name == "apng"
        self._lasting = Fraction(0)  # How long the last frame of an animation lasts, in seconds.
        self._waiting: list[tuple[int, av.Packet]] | None = []  # For the first frame, whose size the file begins with.
        self._encoder = ENCODERS.get(path.suffix.lower(), "libx264")
        rate = (video and video.average_rate) or Fraction(CAMERA_RATE)
        if self._encoder == "mpeg2video":
            # The lowest that is not too slow.
            rates = {one * times / by for one in map(Fraction, MPEG2_RATES) for times in range(1, 5) for by in range(1, 33)}
            rate = min(rates, key=lambda one: (one < rate * Fraction(9999, 10000), abs(one - rate)))
        self._rate = rate
        with self._as_user_errors(), contextlib.ExitStack() as on_error:
            self._container = on_error.enter_context(_open(temporary, "w"))
            self._video = self._container.add_stream(self._encoder, rate=rate, options=OPTIONS[self._encoder])
            if video:
                self._copy_streams(video, keep_metadata)
            on_error.pop_all()
        if label:
            metadata = self._container.metadata
            comment = next((metadata.pop(key) for key in list(metadata) if key.lower() == "comment"), "")  # Matroska: COMMENT.
            metadata["comment"] = comment if LABEL in comment else f"{LABEL} {comment}".strip()

    def _copy_streams(self, video: av.VideoStream, keep_metadata: bool) -> None:
        """Adds the streams that are copied from the source, and notes those that are not."""
        source = video.container
        chapters = source.chapters() if keep_metadata else []
        self._container.set_chapters(chapters)
        if keep_metadata:
            self._container.metadata.update({key: text for key, text in source.metadata.items() if key not in _OF_FILE})
            # Keys such as com.apple.quicktime.make: then all metadata are written as such.
            if self._path.suffix.lower() in (".m4v", ".mov", ".mp4") and any(key.startswith("com.") for key in source.metadata):
                self._container.options["movflags"] = "use_metadata_tags"
            # The rest says how the video was encoded, which is no longer true.
            self._video.metadata.update({key: video.metadata[key] for key in ("language", "title") if key in video.metadata})
        # Beside the pictures, in WebM. In capitals if it is also a tag, as in files for which FFmpeg was told so.
        if "1" in (video.metadata.get("alpha_mode"), video.metadata.get("ALPHA_MODE")):
            self.notes.append("transparency left out")
        for stream in source.streams:
            kind = _kind(stream)
            if kind in ("audio", "subtitle") and self._can_hold(stream):
                copy = self._container.add_stream_from_template(stream)
                copy.disposition = stream.disposition
                if keep_metadata:
                    copy.metadata.update(stream.metadata)
                self.copied[stream.index] = copy
                continue
            if kind in ("audio", "subtitle"):
                codec = stream.codec_context.name if stream.codec_context else "of an unknown kind"
                kind = f"{kind}, {codec}; {self._path.suffix} cannot hold it"
            # MP4 also stores the names of chapters in a stream.
            if stream is not video and not (chapters and kind == "data" and stream.name == "bin_data"):
                self.notes.append(f"stream {stream.index} ({kind}) left out")

    def _can_hold(self, stream: av.stream.Stream) -> bool:
        """Whether this format can hold a stream as it is: many tell only when a file is begun, so one is, in memory."""
        try:
            with av.open(io.BytesIO(), "w", format=self._container.format.name) as trial:
                trial.add_stream_from_template(stream)
                trial.start_encoding()
        except (av.error.FFmpegError, ValueError):
            return False
        return True

    def __enter__(self) -> VideoWriter:
        """Itself; leaving the block closes the file, finished or not."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        with contextlib.suppress(av.error.FFmpegError):  # Unless `finish` has closed it already, it is of no use.
            self._container.close()

    @contextlib.contextmanager
    def _as_user_errors(self) -> Iterator[None]:
        """Turns errors of FFmpeg into UserErrors."""
        try:
            yield
        except (av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
                raise UserError(f"cannot write {self._path} ({_reason(error)}); free space, or give another --out") from error
            raise UserError(
                f"cannot write {self._path} ({_reason(error)}); convert the video to .mkv with another program first"
            ) from error

    def write(self, image: np.ndarray, pts: int | None, time_base: Fraction, like: av.VideoFrame | None = None) -> None:
        """Encodes an image `[H, W, 3]` at the time `pts * time_base`, in the colour space of a frame of the source."""
        if self._waiting is not None:
            self._begin(image, time_base, like)
        context = self._video.codec_context
        drawn = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
            format=context.pix_fmt, dst_colorspace=context.colorspace, dst_color_range=context.color_range
        )
        # A missing time is one frame later than the last; one that goes back, or is too close, is the next that can be written.
        if pts is not None:
            exact = pts * time_base / context.time_base
            place = round(exact) if self._last is None else max(round(exact), self._last + 1)
            self._late = place - exact if self._late is None else self._late
            note = f"times of pictures moved to a steady rate, as {self._path.suffix} has"
            # Of a frame; the times of most files are rounded to less.
            if self._encoder.startswith("mpeg") and abs(place - exact - self._late) > 0.25 and note not in self.notes:
                self.notes.append(note)
        else:
            place = 0 if self._last is None else self._last + max(1, round(1 / (self._rate * context.time_base)))
        self._last = place
        drawn.pts, drawn.time_base = place, context.time_base
        if self._is_animation:
            self._lasting = like.duration * like.time_base
        with self._as_user_errors():
            self._container.mux(self._video.encode(drawn))
        waiting, self._waiting = self._waiting, None
        for index, packet in waiting or ():
            self.copy(index, packet)

    def _begin(self, image: np.ndarray, time_base: Fraction, like: av.VideoFrame | None) -> None:
        """Sets the encoder up for images like the first."""
        context = self._video.codec_context
        # MPEG-2 and AVI have a fixed frame rate, and MPEG-4 no finer times than these.
        steady = self._encoder.startswith("mpeg")
        context.time_base = (1 / self._rate).limit_denominator(65535) if steady else time_base
        context.height, context.width = image.shape[:2]
        # H.264 needs even sides if colours have half the resolution, as in nearly all videos.
        odd = self._encoder == "libx264" and any(side % 2 for side in image.shape[:2])
        context.pix_fmt = "yuv444p" if odd else "yuv420p"
        if not like:
            return
        # Without these, players guess. RGB has no matrix, so that it gets the default, BT.601; MPEG cannot signal full range.
        is_rgb = like.format.is_rgb
        context.colorspace = 6 if is_rgb else like.colorspace if like.colorspace in MATRICES else UNSPECIFIED
        context.color_range = 1 if is_rgb or steady else like.color_range
        context.color_primaries, context.color_trc = like.color_primaries, like.color_trc
        if (bits := max(component.bits for component in like.format.components)) > 8:
            self.notes.append(f"{bits} bits became 8")
        if self._aspect:
            context.sample_aspect_ratio = 1 / self._aspect if _is_sideways(like) else self._aspect
            if self._encoder == "libvpx-vp9" and self._aspect != 1:  # PyAV cannot write it into WebM.
                self.notes.append(f"shape of pixels ({self._aspect}) lost")

    def copy(self, index: int, packet: av.Packet) -> None:
        """Writes a packet of sound or subtitles, of the stream `index` of the source, as it is."""
        if self._waiting is not None:
            self._waiting.append((index, packet))
            return
        packet.stream = self.copied[index]
        with self._as_user_errors():
            self._container.mux(packet)

    def finish(self) -> None:
        """Flushes the encoder, finishes the file, and notes which metadata it could not hold."""
        with self._as_user_errors():
            packets = self._video.encode(None)
            if packets and self._lasting:  # Encoders take it for as long as one at the frame rate.
                packets[-1].duration = round(self._lasting / packets[-1].time_base)
            self._container.mux(packets)
            self._container.close()
        metadata, kept = self._container.metadata, set()
        with contextlib.suppress(av.error.FFmpegError), _open(self._temporary) as file:
            kept = {key.lower() for key, text in file.metadata.items() if text}
        if self._path.suffix.lower() in (".3g2", ".3gp"):
            kept |= _IN_3GP
        lost = {key for key in metadata if re.sub(r"-\w{3}$", "", key.lower()) not in kept}  # A title in English: title-eng.
        if "comment" in lost and LABEL in metadata["comment"]:
            self.notes.append(f"no label, which {self._path.suffix} cannot hold")
            lost.remove("comment")
        if lost:
            self.notes.append(f"metadata left out ({', '.join(sorted(lost))})")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())
