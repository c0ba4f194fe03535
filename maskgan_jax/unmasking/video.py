"""Videos of people with masks in, the same videos without the masks out; and what a camera sees."""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from maskgan_jax.errors import UserError
from maskgan_jax.files import replacing, write_json
from maskgan_jax.unmasking.inputs import Job
from maskgan_jax.unmasking.photo_files import LABEL
from maskgan_jax.unmasking.photos import Outputs
from maskgan_jax.unmasking.tracking import Tracker
from maskgan_jax.unmasking.unmasker import Unmasker, put_into

if TYPE_CHECKING:
    import av

# What frames are encoded with, by the suffix of the file; H.264 for all others.
ENCODERS = {".webm": "libvpx-vp9", ".mpg": "mpeg2video", ".mpeg": "mpeg2video", ".avi": "mpeg4"}
OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "6", "crf": "24", "b": "0", "row-mt": "1"},
    "mpeg2video": {"qscale": "3"},
    "mpeg4": {"qscale": "3"},
}
# Frames per second of a camera that does not tell.
CAMERA_RATE = 30
MILLISECOND = Fraction(1, 1000)
# Transfer characteristics (ITU-T H.273) of videos with more than the brightness of a screen: PQ and HLG.
HDR = (16, 18)


def unmask_video(job: Job, unmasker: Unmasker, out: Path, outputs: Outputs) -> str:
    """Unmasks a video, frame by frame, and writes it with its sound.

    Every frame keeps its time, so that rate and length stay what they were. Interrupted, it leaves no file.

    Args:
      job: the video; `job.out` is where the result goes, and beside it `<name>.json`.
      unmasker: does it.
      out: the folder of all results, which the folders of `outputs` are made in.
      outputs: `side_by_side`, `keep_metadata` and `label` are heeded.

    Returns:
      What was done, in one line.

    Raises:
      UserError: PyAV is not installed, the video cannot be read or has no frames, or the result cannot be written.
    """
    av = load_av()
    if job.mask:
        raise UserError(f"{job.path} is a video, but --mask is for pictures; leave it out")
    counts = {"frames": 0, "frames_with_faces": 0, "frames_unmasked": 0, "most_faces": 0, "damaged_packets": 0}
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        source, video = stack.enter_context(_reading(av, job.path))
        video.thread_type = "AUTO"
        paths = [job.out]
        if outputs.side_by_side:
            paths.append(out / "side_by_side" / job.out.relative_to(out))
        targets = []
        for path in paths:
            temporary = stack.enter_context(replacing(path))
            targets.append(stack.enter_context(_Target(av, path, temporary, video, outputs)))
        rate = float(video.average_rate or CAMERA_RATE)
        tracker = Tracker(unmasker, rate)
        total = video.frames or (round(float(source.duration / av.time_base) * rate) if source.duration else None)
        bar = stack.enter_context(tqdm(total=total, desc=f"unmask {job.path.name}", unit="frame"))
        shape = None
        for item in _decoded(av, video, job.path, counts):
            if isinstance(item, av.Packet):
                index = item.stream.index
                for target in targets:
                    target.copy(index, item)
                continue
            picture = _upright(item)
            if shape is None:
                shape = picture.shape[:2]
            elif picture.shape[:2] != shape:
                picture = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA)
            faces = tracker(picture, item.time)
            result = put_into(picture, faces)
            counts["frames"] += 1
            counts["frames_with_faces"] += bool(faces)
            counts["frames_unmasked"] += any(face.after is not None for face in faces)
            counts["most_faces"] = max(counts["most_faces"], len(faces))
            pictures = [result, np.concatenate([picture, result], axis=1)]
            for target, drawn in zip(targets, pictures, strict=False):
                target.write(drawn, item.pts, item.time_base, item)
            bar.update()
        if not counts["frames"]:
            raise UserError(f"{job.path} has no frames that can be decoded; convert it with another program first")
        for target in targets:
            target.finish()
    seconds = time.monotonic() - started
    notes = targets[0].notes
    if counts["damaged_packets"]:
        notes.append(f"{counts['damaged_packets']} damaged packets left out")
    write_json(f"{job.out}.json", _description(job, counts, rate, shape, notes))
    told = (
        f"masks removed in {counts['frames_unmasked']} of {counts['frames']} frames",
        f"{counts['frames'] / seconds:.1f} frames per second",
    )
    return f"{job.path}: {', '.join((*told, *notes))}"


def unmask_camera(number: int, unmasker: Unmasker, path: Path, *, label: bool = True) -> str:
    """Unmasks what a camera sees, and writes it to `path`, until Ctrl-C.

    Args:
      number: of the camera, from 0, as OpenCV counts them.
      unmasker: does it.
      path: file of the result.
      label: whether the file says that it is synthetic.

    Returns:
      What was done, in one line.

    Raises:
      UserError: PyAV is not installed, there is no such camera, it gives no pictures, or the result cannot be written.
    """
    av = load_av()
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise UserError(f"there is no camera {number}, or it is in use; try another number, or close what uses it")
        rate = camera.get(cv2.CAP_PROP_FPS) or CAMERA_RATE
        tracker = Tracker(unmasker, rate)
        frames = 0
        with replacing(path) as temporary, tqdm(desc=f"camera {number}, Ctrl-C ends it", unit="frame") as bar:
            with _Target(av, path, temporary, None, Outputs(label=label)) as target:
                started = time.monotonic()
                # Ctrl-C is how a recording ends well.
                with contextlib.suppress(KeyboardInterrupt):
                    while (read := camera.read())[0]:
                        picture = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
                        now = time.monotonic() - started
                        result = put_into(picture, tracker(picture, now))
                        target.write(result, round(now / MILLISECOND), MILLISECOND)
                        frames += 1
                        bar.update()
                if not frames:
                    raise UserError(f"camera {number} gives no pictures; is it in use by another program?")
                target.finish()
    finally:
        camera.release()
    return f"{frames} frames of camera {number} are in {path}"


def load_av() -> Any:
    """PyAV, which reads and writes videos. Raises UserError if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError("videos need PyAV: pip install 'maskgan_jax[video]'") from error
    av.logging.set_level(av.logging.PANIC)  # What matters is told in a sentence.
    return av


@contextlib.contextmanager
def _reading(av: Any, path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The opened file and its film. Raises UserError if it is no video."""
    try:
        source = av.open(_address(path))
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a readable video ({_reason(error)})") from error
    with source:
        films = [stream for stream in source.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
        if not films:
            raise UserError(f"{path} has no film, only {', '.join(stream.type for stream in source.streams) or 'nothing'}")
        yield source, films[0]


def _address(path: Path) -> str:
    """A path for FFmpeg, to which a name with a colon is that of a protocol."""
    return f"file:{path}"


def _decoded(av: Any, video: av.VideoStream, path: Path, counts: dict[str, int]) -> Iterator[Any]:
    """The frames of the film, and the packets of what is only copied, as they come in the file."""
    source = video.container
    packets = source.demux([stream for stream in source.streams if stream is video or stream.type in ("audio", "subtitle")])
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            tqdm.write(f"maskgan unmask: {path} is damaged, and ends here ({_reason(error)})", file=sys.stderr)
            yield from _flushed(av, video)
            return
        if packet.stream is not video:
            if packet.dts is not None:
                yield packet
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            counts["damaged_packets"] += 1


def _flushed(av: Any, video: av.VideoStream) -> list[av.VideoFrame]:
    try:
        return list(video.decode(None))
    except av.error.FFmpegError:
        return []


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """A frame as `[H, W, 3]` RGB, uint8, turned as its metadata says."""
    picture = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90))) if frame.rotation else picture


class _Target:
    """A video that is being written: its pictures anew, its sound and subtitles as they were.

    Attributes:
      notes: in words, what it does not keep of its source.
    """

    def __init__(self, av: Any, path: Path, temporary: Path, film: av.VideoStream | None, outputs: Outputs):
        """Opens a temporary file for what will be `path`, like the file that `film` is in, if there is one."""
        self._av, self._path = av, path
        self.notes: list[str] = []
        self._aspect = film and film.sample_aspect_ratio  # Of a pixel: width by height.
        self._copied: dict[int, av.stream.Stream] = {}
        # Of the streams that are copied: when the last packet began and ended, and by how much packets are delayed.
        self._times: dict[int, tuple[int, int, int]] = {}
        self._last: int | None = None  # The time of the last picture.
        self._waiting: list[tuple[int, av.Packet]] | None = []  # For the first picture, with whose size the file is begun.
        with self._complaining():
            self._container = av.open(_address(temporary), "w")
            encoder = ENCODERS.get(path.suffix.lower(), "libx264")
            self._rate = (film and film.average_rate) or Fraction(CAMERA_RATE)
            self._video = self._container.add_stream(encoder, rate=self._rate, options=OPTIONS[encoder])
        for stream in film.container.streams if film else ():
            if stream is not film:
                self._add(stream, outputs.keep_metadata)
        if film and outputs.keep_metadata:
            self._container.metadata.update(film.container.metadata)
        if outputs.label:
            comment = self._container.metadata.get("comment")
            self._container.metadata["comment"] = f"{LABEL} {comment}" if comment else LABEL

    def _add(self, stream: av.stream.Stream, keep_metadata: bool) -> None:
        """Makes room for a stream that is copied, or notes that it cannot be."""
        if stream.type in ("audio", "subtitle"):
            # What this format cannot hold, and what FFmpeg cannot name, is refused in one of these ways.
            with contextlib.suppress(self._av.error.FFmpegError, ValueError):
                copy = self._container.add_stream_from_template(stream)
                copy.disposition = stream.disposition
                if keep_metadata:
                    copy.metadata.update(stream.metadata)
                self._copied[stream.index] = copy
                return
        self.notes.append(f"stream {stream.index} ({stream.type}) left out")

    def __enter__(self) -> _Target:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        # Where something failed already, that is what must be told.
        with contextlib.suppress(self._av.error.FFmpegError) if kind else self._complaining():
            self._container.close()

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except (self._av.error.FFmpegError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
                raise UserError(f"cannot write {self._path} ({_reason(error)}); free space, or give another --out") from error
            raise UserError(
                f"cannot write {self._path} ({_reason(error)}); convert the video to .mkv with another program first"
            ) from error

    def write(self, picture: np.ndarray, pts: int | None, time_base: Fraction, like: av.VideoFrame | None = None) -> None:
        """Encodes a picture `[H, W, 3]` at the time `pts * time_base`, in the colour space of a frame of the source."""
        if self._waiting is not None:
            self._begin(picture, time_base, like)
        drawn = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        space = {"dst_colorspace": like.colorspace, "dst_color_range": like.color_range} if like else {}
        drawn = drawn.reformat(format=self._video.pix_fmt, **space)
        # Times that are missing or go back, as in files that were joined, go on by a frame's length.
        if pts is None or (self._last is not None and pts <= self._last):
            pts = (-1 if self._last is None else self._last) + max(1, round(1 / (self._rate * time_base)))
        self._last = pts
        drawn.pts, drawn.time_base = pts, time_base
        with self._complaining():
            self._container.mux(self._video.encode(drawn))
        waiting, self._waiting = self._waiting, None
        for index, packet in waiting or ():
            self.copy(index, packet)

    def _begin(self, picture: np.ndarray, time_base: Fraction, like: av.VideoFrame | None) -> None:
        """Sets the encoder up for pictures like the first."""
        context, name = self._video.codec_context, self._video.codec.name
        # MPEG-2 knows no times but those of its frame rates, and MPEG-4 no finer ones than these.
        if name != "mpeg2video":
            context.time_base = time_base.limit_denominator(65535) if name == "mpeg4" else time_base
        self._video.height, self._video.width = picture.shape[:2]
        # Half the resolution for colours, as nearly all videos have, needs even sides in newer codecs.
        even = name.startswith("mpeg") or not any(side % 2 for side in picture.shape[:2])
        self._video.pix_fmt = "yuv420p" if even else "yuv444p"
        if not like:
            return
        # How the numbers are to be understood, or players guess.
        for setting in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(context, setting, getattr(like, setting))
        if like.color_trc in HDR:
            self.notes.append("HDR became 8 bits")
        if self._aspect:
            context.sample_aspect_ratio = 1 / self._aspect if round(like.rotation / 90) % 2 else self._aspect

    def copy(self, index: int, packet: av.Packet) -> None:
        """Writes a packet of sound or subtitles, of the stream `index` of the source, as it is."""
        if index not in self._copied:
            return
        if self._waiting is not None:
            self._waiting.append((index, packet))
            return
        began, ended, delay = self._times.get(index, (packet.dts, packet.dts, 0))
        if packet.dts + delay < began:  # In files that were joined, times begin anew.
            delay = ended - packet.dts
        before = packet.stream, packet.time_base, packet.dts, packet.pts
        packet.dts += delay
        if packet.pts is not None:
            packet.pts += delay
        self._times[index] = packet.dts, packet.dts + (packet.duration or 1), delay
        packet.stream = self._copied[index]
        with self._complaining():
            self._container.mux(packet)
        packet.stream, packet.time_base, packet.dts, packet.pts = before  # There may be another target.

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        with self._complaining():
            self._container.mux(self._video.encode(None))


def _description(job: Job, counts: dict[str, int], rate: float, shape: tuple[int, int], notes: list[str]) -> dict[str, Any]:
    height, width = shape
    return {
        "input": str(job.path),
        "output": str(job.out),
        "width": width,
        "height": height,
        "frames_per_second": round(rate, 3),
        "synthetic": counts["frames_unmasked"] > 0,
        **counts,
        "notes": notes,
    }


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())
