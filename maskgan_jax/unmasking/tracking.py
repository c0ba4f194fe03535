"""Faces from frame to frame of a video: followed, and smoothed in time so that what is drawn does not flicker."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.errors import UserError
from maskgan_jax.unmasking.detection import (
    SAME_FACE,
    Detection,
    are_same_face,
    box_area,
    box_width,
    detect_close_up,
    detect_faces,
    detect_turned,
    overlap,
)
from maskgan_jax.unmasking.face import NOT_AMONG_LARGEST, TOO_SMALL, Face
from maskgan_jax.unmasking.face_aligner import is_face, is_face_upright
from maskgan_jax.unmasking.mask_finder import needed_cover
from maskgan_jax.unmasking.unmasker import CERTAIN_SCORE, Unmasker

# Seconds between searches for new faces; in between, the landmark network follows the ones that are known.
SEARCH_SECONDS = 0.4
# If no face is upright for sure, one in so many searches looks for turned ones, too; so does each search that misses a known
# face. Both together take four times as long.
SEARCHES_PER_TURNED = 10
# A face is lost if so many searches in a row do not find it.
MISSED_SEARCHES = 2
# Side at which frames are searched.
SEARCHED_SIDE = 512
# Squares of a face in two frames that follow each other differ by less than this fraction of the side, or it is lost.
MOST_MOTION = 0.3
# If all pixels change by more than this on average from one frame to the next, in levels, it is another scene.
NEW_SCENE = 40.0
# The One Euro filter of the landmarks, in units of the first square's side: a still face is smoothed at LEAST_CUTOFF (Hz); the
# cutoff rises by CUTOFF_PER_SPEED for each side per second.
LEAST_CUTOFF = 1.0
CUTOFF_PER_SPEED = 20.0
# Weight of a new frame in the average of a still face's mask and colours; it rises to 1 where the visible part of the aligned
# face changes by MOVED levels.
LEAST_WEIGHT = 0.15
MOVED = 16.0


class OneEuroFilter:
    """Smooths values in time, the less the faster they change (Casiez, Roussel and Vogel 2012)."""

    def __init__(self, least_cutoff: float, cutoff_per_speed: float):
        """A filter whose cutoff frequency, in Hz, is `least_cutoff + cutoff_per_speed * speed`."""
        self._least, self._per_speed = least_cutoff, cutoff_per_speed
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | float = 0.0

    def __call__(self, value: np.ndarray, seconds: float) -> np.ndarray:
        """The smoothed value; `seconds` have passed since the last one. The speed is that of the whole array (its mean)."""
        if self._value is None:
            self._value = value
            return value
        self._speed = self._speed + _new_weight(1.0, seconds) * ((value - self._value) / seconds - self._speed)
        cutoff = self._least + self._per_speed * float(np.abs(self._speed).mean())
        self._value = self._value + _new_weight(cutoff, seconds) * (value - self._value)
        return self._value


def _new_weight(cutoff: float, seconds: float) -> float:
    """The weight of a new value in exponential smoothing with a cutoff frequency in Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * seconds))


@dataclasses.dataclass(eq=False)  # A track is equal to itself alone: its arrays have no single answer.
class _Track:
    found: Detection
    square: FaceSquare
    # What landmarks are smoothed in, in pixels: the side of the track's first square. That of each frame would change with its
    # noise, and all positions with it, the more the farther they are from the frame's corner.
    unit: float
    landmarks_filter: OneEuroFilter
    landmarks: np.ndarray
    face: Face | None = None
    missed: int = 0
    # Whether it is a face for sure: at a low score, only once a second search has found it.
    certain: bool = False
    # Whether it is to be redrawn.
    chosen: bool = False


def _track_of(found: Detection, tracks: Sequence[_Track]) -> _Track | None:
    """Of several tracks, the one whose last detection is of the same face as `found`."""
    nearest = max(tracks, key=lambda track: overlap(track.found.box, found.box), default=None)
    return nearest if nearest and overlap(nearest.found.box, found.box) > SAME_FACE else None


class Tracker:
    """The faces of one video: call it with the frames in turn."""

    def __init__(self, unmasker: Unmasker, frames_per_second: float):
        """Starts with no faces."""
        self._aligner, self._mask_finder, self._inpainter = unmasker.aligner, unmasker.mask_finder, unmasker.inpainter
        self._least_width, self._most_faces = unmasker.least_width, unmasker.most_faces
        self._frame_seconds = 1 / frames_per_second
        self._tracks: list[_Track] = []
        self._time: float | None = None
        self._seconds = self._frame_seconds  # Since the last frame.
        self._next_search = -math.inf
        self._searches = 0
        self._thumbnail: np.ndarray | None = None

    def __call__(self, frame: np.ndarray, time: float | None = None) -> list[Face]:
        """The faces in the next frame, redrawn where they wear masks; the largest first.

        Args:
          frame: `[H, W, 3]` RGB, uint8.
          time: of the frame, in seconds. Without it, or if it is no later than the last one, a frame's length has passed.
        """
        now = 0.0 if self._time is None else self._time + self._frame_seconds
        if time is not None and (self._time is None or time > self._time):
            now = time
        self._seconds = self._frame_seconds if self._time is None else now - self._time
        self._time = now
        # The mean of some pixels in each place tells as much as that of all, which would take 12 ms in 4K.
        thumbnail = cv2.resize(frame, (512, 288), interpolation=cv2.INTER_NEAREST)
        thumbnail = cv2.resize(thumbnail, (64, 36), interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._thumbnail is not None and np.abs(thumbnail - self._thumbnail).mean() > NEW_SCENE:
            self._tracks, self._next_search, self._searches = [], now, 0
        self._thumbnail = thumbnail
        if now >= self._next_search - self._seconds / 2:
            self._search(frame)
            are_certain = all(track.certain for track in self._tracks)
            self._next_search = now + (SEARCH_SECONDS if are_certain else 0)
        self._tracks = [track for track in self._tracks if self._follow(track, frame)]
        self._choose()
        faces = [self._redraw(track, frame) for track in self._tracks]
        return sorted(faces, key=lambda face: -box_area(face.box))

    def _search(self, frame: np.ndarray) -> None:
        """Looks for faces: new ones get a track, and tracks without a face are dropped."""
        known = list(self._tracks)
        upright = detect_faces(frame, (SEARCHED_SIDE,))
        # The largest first, so that none of its parts is taken before it.
        upright = sorted([*upright, *detect_close_up(frame, upright)], key=lambda found: -box_area(found.box))
        others = []
        for found in upright:
            if found.score >= CERTAIN_SCORE or _track_of(found, known):
                self._take(frame, found, known)
            else:
                others.append(found)
        is_due = self._searches % SEARCHES_PER_TURNED == 0 and all(found.score < CERTAIN_SCORE for found in upright)
        if known or is_due:
            others += detect_turned(frame, (SEARCHED_SIDE,))
        for found in sorted(others, key=lambda found: -found.score):
            self._take(frame, found, known)
        self._searches += 1
        for track in known:
            track.missed += 1
        self._tracks = [track for track in self._tracks if track.missed < (MISSED_SEARCHES if track.certain else 1)]

    def _take(self, frame: np.ndarray, found: Detection, known: list[_Track]) -> None:
        """Gives a detection to its track, which is removed from `known`; or, if it is a face, a new one."""
        if same := _track_of(found, known):
            known.remove(same)
            same.found, same.missed = found, 0
            same.certain = True
            return
        # A part of a face, such as an eye, is no face of its own; a track that has followed one gives way to the face.
        parts = [track for track in self._tracks if are_same_face(track.found.box, found.box)]
        if any(track not in known or box_area(track.found.box) > box_area(found.box) for track in parts):
            return
        with contextlib.suppress(UserError):  # Its points span no square.
            landmarks, square = self._aligner(frame, self._aligner.first_square(found))
            certain = found.score >= CERTAIN_SCORE and is_face(found, landmarks)
            if certain or is_face_upright(frame, landmarks):
                for track in parts:
                    known.remove(track)
                    self._tracks.remove(track)
                filter_ = OneEuroFilter(LEAST_CUTOFF, CUTOFF_PER_SPEED)
                self._tracks.append(_Track(found, square, square.side, filter_, landmarks, certain=certain))

    def _choose(self) -> None:
        """Chooses the faces to be redrawn. Once chosen they stay so, or two of about the same size would take turns."""
        chosen = sum(track.chosen for track in self._tracks)
        for track in sorted(self._tracks, key=lambda track: -box_area(track.found.box)):
            if not track.chosen and box_width(track.found.box) >= self._least_width:
                track.chosen = self._most_faces is None or chosen < self._most_faces
                chosen += track.chosen

    def _follow(self, track: _Track, frame: np.ndarray) -> bool:
        """Brings a track to the frame; whether its face is still there."""
        before = track.square
        landmarks, track.square = self._aligner(frame, before, rounds=1)
        moved = track.square.corners - before.corners
        if not np.abs(moved).max() < MOST_MOTION * before.side:
            return False
        track.found = track.found._replace(box=track.found.box + np.tile(moved.mean(axis=0), 2))
        track.landmarks = track.landmarks_filter(landmarks / track.unit, self._seconds) * track.unit
        return True

    def _redraw(self, track: _Track, frame: np.ndarray) -> Face:
        """The face of a track in the frame."""
        last, landmarks = track.face, track.landmarks
        square = self._inpainter.square(landmarks)
        image, seen = square.cut_out(frame), self._mask_finder.look(frame, landmarks)
        weight = 1.0
        if last is not None:
            visible = last.mask == 0
            change = np.abs(image[visible].astype(np.int16) - last.before[visible]).mean() if visible.any() else MOVED
            weight = float(np.clip(change / MOVED, LEAST_WEIGHT, 1))
            before = last.segmentation.probability
            seen = dataclasses.replace(seen, probability=before + weight * (seen.probability - before))
        left_out = "" if track.chosen else TOO_SMALL if box_width(track.found.box) < self._least_width else NOT_AMONG_LARGEST
        track.face = face = Face(
            box=track.found.box,
            score=track.found.score,
            landmarks=landmarks,
            square=square,
            cover=seen.cover(),
            mask=seen.mask(square),
            before=image,
            segmentation=seen,
            left_out=left_out,
            # As long as a face is followed, the same: a mask must not come and go.
            needed_cover=last.needed_cover if last is not None else needed_cover(seen.image, landmarks),
        )
        if not face.masked or face.left_out:
            return face
        face = self._inpainter.redraw(face)
        if last is not None and last.redrawn:
            both = (last.mask > 0) & (face.mask > 0)
            mixed = last.after + weight * (face.after.astype(np.float32) - last.after)
            face = dataclasses.replace(face, after=np.where(both[..., None], np.rint(mixed).astype(np.uint8), face.after))
        track.face = face
        return face
