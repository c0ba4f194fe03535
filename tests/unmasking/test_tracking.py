import itertools

import cv2
import numpy as np
import pytest

from maskgan_jax.data.align import FaceSquare
from maskgan_jax.unmasking import tracking
from maskgan_jax.unmasking.compositing import composite
from maskgan_jax.unmasking.detection import SAME_FACE, Detection, box_width, detect_faces, overlap
from maskgan_jax.unmasking.face_aligner import FaceAligner
from maskgan_jax.unmasking.mask_finder import Segmentation
from maskgan_jax.unmasking.tracking import OneEuroFilter, Tracker
from maskgan_jax.unmasking.unmasker import Unmasker

from .conftest import SIDE, Green, MeanFace, Painter, masked_face


def one_euro(values, rate, least, per_speed):
    """The filter as its authors write it, for one signal."""

    def alpha(cutoff):
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau * rate)

    smoothed, speed = [values[0]], 0.0
    for value in values[1:]:
        speed += alpha(1.0) * ((value - smoothed[-1]) * rate - speed)
        weight = alpha(least + per_speed * abs(speed))
        smoothed.append(weight * value + (1 - weight) * smoothed[-1])
    return smoothed


def test_one_euro_filter():
    values = np.cumsum(np.random.default_rng(0).normal(size=50))
    smooth = OneEuroFilter(0.7, 0.3)
    np.testing.assert_allclose([smooth(np.array([v]), 1 / 30)[0] for v in values], one_euro(values, 30, 0.7, 0.3))


def test_a_still_signal_is_smoothed_and_a_fast_one_followed():
    rng = np.random.default_rng(0)
    smooth = OneEuroFilter(1.0, 20.0)
    still = [smooth(np.array([rng.normal(0, 0.002)]), 1 / 30)[0] for _ in range(90)]
    assert np.std(still[30:]) < 0.001
    moving = [smooth(np.array([1.0 * t / 30]), 1 / 30)[0] for t in range(30)]
    assert 29 / 30 - moving[-1] < 0.05


def frames(portrait, count, step=(3, 1)):
    """The portrait on its way through a wall."""
    for i in range(count):
        frame = np.full((480, 640, 3), 90, np.uint8)
        x, y = 40 + step[0] * i, 30 + step[1] * i
        frame[y : y + 320, x : x + 320] = portrait
        yield frame


class Follower(MeanFace):
    """Moves the mean face to where the mask is."""

    def __call__(self, pictures):
        y, x = np.nonzero(Green()(pictures)[0])
        middle = self.points[2:15].mean(axis=0)
        return (self.points + [x.mean(), y.mean()] - middle)[None].astype(np.float32)


def test_a_moving_face_is_followed(unmasker, portrait):
    tracker = Tracker(Unmasker(Painter(), Follower(), Green()), 30)
    centres = []
    for frame in frames(portrait, 30):
        (face,) = tracker(frame)
        assert face.after is not None
        centres.append(face.square.corners.mean(axis=0))
        result = composite(frame, [face])
        assert (result == (20, 220, 40)).all(axis=-1).sum() < 0.05 * (frame == (20, 220, 40)).all(axis=-1).sum()
    np.testing.assert_allclose(centres[-1] - centres[0], [29 * 3, 29], atol=12)


def test_faces_come_and_go_and_scenes_change(unmasker, portrait):
    tracker = Tracker(unmasker, 10)  # Searches every fourth frame.
    (first, *_) = frames(portrait, 1)
    empty = np.full_like(first, 90)
    counts = [len(tracker(frame)) for frame in [first] * 5 + [empty] * 9 + [255 - empty] + [first] * 5]
    assert counts[:5] == [1] * 5
    assert counts[13] == counts[14] == 0
    assert counts[-1] == 1


class Nervous(Painter):
    """Draws another colour each time, whatever it is given."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, pictures, masks):
        return np.where(masks > 127, self.rng.integers(80, 180, 3).astype(np.uint8), pictures)


def test_what_is_drawn_does_not_flicker(portrait):
    """Of a still scene with noise, as a camera gives it, and a generator whose colours jump."""
    rng = np.random.default_rng(0)
    (still,) = frames(portrait, 1)
    noisy = [np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(20)]
    region = cv2.erode((still == (20, 220, 40)).all(axis=-1).astype(np.uint8), np.ones((15, 15))) > 0

    def flicker(results):
        return np.mean(
            [np.abs(a[region].astype(int) - b[region]).mean() for a, b in zip(results[10:], results[11:], strict=False)]
        )

    alone = Unmasker(Nervous(), MeanFace(), Green())
    tracker = Tracker(Unmasker(Nervous(), MeanFace(), Green()), 30)
    assert flicker([composite(frame, tracker(frame)) for frame in noisy]) < 0.35 * flicker([alone(frame) for frame in noisy])


def test_a_face_that_moves_is_drawn_as_it_is_now(portrait, unmasker):
    """Where the visible part changes, nothing of the frame before is mixed in."""
    tracker = Tracker(unmasker, 30)
    (still,) = frames(portrait, 1)
    tracker(still)
    (face,) = tracker(np.clip(still.astype(int) + 30, 0, 255).astype(np.uint8))
    assert face.after.shape == (SIDE, SIDE, 3)
    drawn = face.after[face.mask > 0]
    assert (np.abs(drawn.astype(int) - (200, 100, 150)).max(axis=-1) < 3).mean() > 0.9


@pytest.mark.parametrize("rate", [1, 240])
def test_any_rate(unmasker, portrait, rate):
    tracker = Tracker(unmasker, rate)
    assert all(len(tracker(frame)) == 1 for frame in frames(portrait, 5))


@pytest.mark.parametrize("rate", [1, 1000])
def test_time_is_what_the_frames_say(rate, unmasker, portrait, monkeypatch):
    """In a file that says it has one frame a second, or a thousand, faces are searched for as often as in any other."""
    searches = []
    monkeypatch.setattr(tracking, "detect_faces", lambda frame, sides: searches.append(1) or [])
    tracker = Tracker(unmasker, rate)
    frame = np.zeros((64, 64, 3), np.uint8)
    for number in range(61):
        tracker(frame, number / 30)
    assert len(searches) == 6  # At 0, 0.4, ... 2 seconds.


def test_two_people_of_whom_one_overtakes_the_other_in_size(unmasker, portrait):
    tracker = Tracker(unmasker, 10)  # Searches every fourth frame.
    for number in range(17):
        frame = np.full((360, 720, 3), 90, np.uint8)
        for left, side in ((20, 300 - 4 * number), (380, 236 + 4 * number)):
            frame[20 : 20 + side, left : left + side] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
        faces = tracker(frame)
        assert len(faces) == 2
        assert faces[0].box[0] < faces[1].box[0] or number > 6


class Trembling(FaceAligner):
    """Knows where the landmarks of the only face are, but for some noise."""

    def __init__(self, points):
        super().__init__(MeanFace())
        self.points, self.rng, self.seen = points, np.random.default_rng(0), []

    def __call__(self, photo, square, rounds=1):
        self.seen.append(self.points + self.rng.normal(0, 0.5, self.points.shape))
        return self.seen[-1], FaceSquare.around(self.seen[-1], SIDE)


def test_a_still_face_far_from_the_corner_of_a_large_frame_keeps_still(portrait, unmasker):
    frame = np.full((1080, 1920, 3), 90, np.uint8)
    frame[700:1020, 1550:1870] = portrait
    trembling = Trembling(unmasker.find(frame)[0].landmarks)
    trembling_unmasker = Unmasker(Painter(), MeanFace(), Green())
    trembling_unmasker.aligner = trembling
    tracker = Tracker(trembling_unmasker, 30)
    smooth, raw = [], []
    for _ in range(20):
        (face,) = tracker(frame)
        smooth.append(face.landmarks)
        raw.append(trembling.seen[-1])  # Of this frame.

    def motion(points):
        """Of each point, and of the face as a whole, from frame to frame, in pixels."""
        steps = np.diff(points, axis=0)
        return np.array([np.linalg.norm(steps, axis=-1).mean(), np.linalg.norm(steps.mean(axis=1), axis=-1).mean()])

    assert (motion(smooth) < 0.5 * motion(raw)).all()


def test_each_of_two_faces_that_overlap_is_followed_as_itself(unmasker, portrait, monkeypatch):
    """Whichever of them a search finds first."""
    (frame,) = frames(portrait, 1)
    (first,) = detect_faces(frame)

    def beside(share):
        shift = share * box_width(first.box)
        return first._replace(box=first.box + [shift, 0, shift, 0], points=first.points + [shift, 0])

    second = beside(0.5)  # A third of the union of its box and the first one's is in both.
    monkeypatch.setattr(tracking, "is_face_upright", lambda *_: True)
    tracker = Tracker(unmasker, 10)
    for found in ([first, beside(0.6)], [second, first]):
        monkeypatch.setattr(tracking, "detect_faces", lambda *_, found=found: found)
        tracker._search(frame)
    assert [track.found for track in tracker._tracks] == [first, second]


def test_a_part_of_a_face_is_not_followed_as_a_face(unmasker, portrait, monkeypatch):
    """Whether it is found together with the face or later."""
    (frame,) = frames(portrait, 1)
    (face,) = detect_faces(frame)
    eye = face.points[0]
    part = Detection(np.r_[eye, eye] + 0.3 * (face.box - np.r_[eye, eye]), 0.99, eye + 0.3 * (face.points - eye))
    assert overlap(face.box, part.box) < SAME_FACE
    for name in ("detect_close_up", "detect_turned"):
        monkeypatch.setattr(tracking, name, lambda *_: [])
    for searches in ([[face, part]], [[face], [face, part]], [[face], [part]], [[part], [face, part], [face]]):
        tracker = Tracker(unmasker, 10)
        for found in searches:
            monkeypatch.setattr(tracking, "detect_faces", lambda *_, found=found: found)
            tracker._search(frame)
        assert [track.found for track in tracker._tracks] == [face]
    monkeypatch.setattr(tracking, "detect_faces", lambda *_: [part])
    assert len(Tracker(unmasker, 10)(frame)) == 1  # By itself it is taken for a face.


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_face_is_followed(quarters, unmasker, portrait):
    tracker = Tracker(unmasker, 2)  # Searches every frame.
    for frame in frames(portrait, 6):
        (face,) = tracker(np.ascontiguousarray(np.rot90(frame, quarters)))
        assert face.redrawn
        down = (face.square.corners[1] - face.square.corners[0]) / face.square.side
        np.testing.assert_allclose(down, [(1, 0), (0, -1), (-1, 0)][quarters - 1], atol=0.15)


def test_a_face_that_fills_the_frame_is_found_beside_a_stranger(unmasker, close_up, beside_a_stranger):
    close, nose = close_up
    tracker = Tracker(unmasker, 2)  # Searches every frame.
    for _ in range(3):
        found, _ = tracker(beside_a_stranger)
        assert np.hypot(*(found.landmarks[30] - nose - (150, 0))) < 0.15 * close.shape[1]


def test_a_face_that_turns_stays_the_same(unmasker, portrait, monkeypatch):
    """Each search finds it, whichever of the two finds it; and beside it, whether or not another one is certain."""
    (face,) = detect_faces(portrait)
    other = face._replace(box=face.box + 1000, points=face.points + 1000, score=0.9)
    tracker = Tracker(unmasker, 2)
    monkeypatch.setattr(tracking, "detect_close_up", lambda *_: [])
    monkeypatch.setattr(tracking, "is_face_upright", lambda *_: True)
    for upright, turned in (([face], []), ([], [face]), ([other], [face]), ([other], [face]), ([face, other], [])):
        monkeypatch.setattr(tracking, "detect_faces", lambda *_, found=upright: found)
        monkeypatch.setattr(tracking, "detect_turned", lambda *_, found=turned: found)
        tracker._search(portrait)
        first, *_ = tracker._tracks
        assert first.found is face and first.missed == 0
    assert len(tracker._tracks) == 2


def test_turned_faces_are_searched_for_where_none_is_upright(unmasker, portrait, monkeypatch):
    """Now and then, but in each search while one is followed."""
    face = [detect_faces(portrait)[0]._replace(score=0.9)]
    searches = []
    monkeypatch.setattr(tracking, "SEARCHES_PER_TURNED", 5)
    monkeypatch.setattr(tracking, "detect_faces", lambda *_: searches.append([]) or [])
    monkeypatch.setattr(tracking, "detect_close_up", lambda *_: [])
    monkeypatch.setattr(tracking, "detect_turned", lambda *_: searches[-1].append(1) or face * (len(searches) > 10))
    tracker = Tracker(unmasker, 2)  # Searches every frame.
    for _ in range(13):
        tracker(portrait)
    assert [len(turned) for turned in searches] == [1, 0, 0, 0, 0] * 2 + [1, 1, 1]
    monkeypatch.setattr(tracking, "detect_faces", lambda *_: searches.append([]) or face)
    Tracker(unmasker, 2)(portrait)
    assert searches[-1] == []


def uncertain(monkeypatch, scores):
    """Makes the detector give each search the next of these scores to all faces; None: it finds nothing."""
    scores = iter(scores)

    def detect(*arguments):
        score = next(scores)
        return [] if score is None else [face._replace(score=score) for face in detect_faces(*arguments)]

    monkeypatch.setattr("maskgan_jax.unmasking.tracking.detect_faces", detect)
    for name in ("detect_close_up", "detect_turned"):
        monkeypatch.setattr(f"maskgan_jax.unmasking.tracking.{name}", lambda *_: [])


def test_an_uncertain_face_must_be_there_in_the_next_frame(unmasker, portrait, monkeypatch):
    (frame,) = frames(portrait, 1)
    uncertain(monkeypatch, [0.6, 0.6, 0.6])
    tracker = Tracker(unmasker, 10)
    assert [len(tracker(frame)) for _ in range(3)] == [1] * 3
    uncertain(monkeypatch, [0.6, None, None])
    tracker = Tracker(unmasker, 10)
    assert [len(tracker(frame)) for _ in range(6)] == [1, 0, 0, 0, 0, 0]
    uncertain(monkeypatch, [0.9, None, None])  # A certain one is lost after two searches.
    tracker = Tracker(unmasker, 10)
    assert [len(tracker(frame)) for _ in range(9)] == [1] * 8 + [0]


def test_what_the_networks_see_differently_is_no_face(portrait, monkeypatch, unmasker):
    (frame,) = frames(portrait, 1)
    assert len(Tracker(unmasker, 10)(frame)) == 1

    class Beside(MeanFace):
        def __call__(self, pictures):
            return super().__call__(pictures) + 20

    assert Tracker(Unmasker(Painter(), Beside(), Green()), 10)(frame) == []


@pytest.mark.parametrize(("first", "then"), [(0.3, 0.5), (0.5, 0.3)])
def test_what_counts_as_a_mask_stays_while_a_face_is_followed(monkeypatch, first, then):
    """A mask that hides two fifths of the lower face, on a face that looks squeezed in every second frame."""
    needed = itertools.cycle([first, then])
    monkeypatch.setattr(tracking, "needed_cover", lambda *_: next(needed))
    unmasker = Unmasker(Painter(), MeanFace(), Green())
    monkeypatch.setattr(Segmentation, "cover", lambda _: 0.4)
    tracker = Tracker(unmasker, 10)
    assert [face.redrawn for _ in range(6) for face in tracker(masked_face(3, 320))] == [first == 0.3] * 6


def test_of_two_faces_that_take_turns_in_size_one_is_redrawn():
    """The larger one at the start, though the other is larger every second frame."""
    masked = [cv2.resize(masked_face(number, 320), (side, side)) for number, side in ((3, 204), (3, 200), (3, 212))]
    tracker = Tracker(Unmasker(Painter(), MeanFace(), Green(), most_faces=1), 10)
    for i in range(8):
        frame = np.full((240, 640, 3), 90, np.uint8)
        frame[10:214, 20:224] = masked[0]
        other = masked[1 + i % 2]
        frame[10 : 10 + len(other), 380 : 380 + len(other)] = other
        faces = tracker(frame)
        assert sorted((face.box[0] > 300, face.redrawn) for face in faces) == [(False, True), (True, False)]
    tracker = Tracker(Unmasker(Painter(), MeanFace(), Green(), least_width=500), 10)
    assert [(face.redrawn, face.left_out) for face in tracker(frame)] == [(False, "too small")] * 2
