import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from maskgan_jax.data.masked_faces.reader import DamagedRecord
from maskgan_jax.data.pipeline import enlarge_and_crop, evaluation_batches, grow_mask, mirror, misalign, training_batches
from maskgan_jax.data.points import MIRRORED

SIDE = 64


def make_record(seed=0, side=SIDE):
    """A dot at each of 68 places on black, and a hidden rectangle over some of them."""
    rng = np.random.default_rng(seed)
    places = rng.permutation(np.stack(np.mgrid[6 : side - 6 : 6, 6 : side - 6 : 6], axis=-1).reshape(-1, 2))[:68]
    landmarks = (places + rng.uniform(-0.5, 0.5, places.shape)).astype(np.float32)
    y, x = np.mgrid[:side, :side]
    squared = (x[..., None] - landmarks[:, 0]) ** 2 + (y[..., None] - landmarks[:, 1]) ** 2
    real = np.repeat(np.exp(-squared / 2).max(-1)[..., None] * 255, 3, axis=-1).astype(np.uint8)
    mask = np.zeros((side, side, 1), np.uint8)
    mask[side // 2 : side - 9, 11 : side - 20] = 255
    masked = np.where(mask > 0, np.uint8(200), real)
    # What is not for the networks must not stand in their way.
    return {"real": real, "masked": masked, "mask": mask, "landmarks": landmarks, "id": f"face {seed}", "source": "drawn"}


def dot_centres(picture, landmarks):
    """The centre of brightness near each landmark that is well inside the picture, and those landmarks."""
    inside = ((landmarks > 5) & (landmarks < len(picture) - 6)).all(-1)
    centres = []
    for x, y in landmarks[inside]:
        left, top = int(round(x)) - 2, int(round(y)) - 2
        window = picture[top : top + 5, left : left + 5, 0].astype(float)
        window = window * (window > 25)
        rows, columns = np.mgrid[top : top + 5, left : left + 5]
        centres.append([(columns * window).sum() / window.sum(), (rows * window).sum() / window.sum()])
    return np.array(centres), landmarks[inside]


def test_mirrored_points_come_back_after_two_mirrors():
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(68))


def test_symmetric_face_is_its_own_mirror_image():
    from maskgan_jax.data.rendered.head_model import LEFT_HALF

    points = np.zeros((68, 2), np.float32)
    for i, (x, y, _) in LEFT_HALF.items():
        points[i] = x, y
        points[MIRRORED[i]] = -x, y
    points = points / 4 + (SIDE - 1) / 2
    np.testing.assert_allclose(mirror({**make_record(), "landmarks": points})["landmarks"], points, atol=1e-5)


def test_mirror_flips_everything_together():
    record = make_record()
    flipped = mirror(record)
    for name in ("real", "masked", "mask"):
        np.testing.assert_array_equal(flipped[name], record[name][:, ::-1])
    centres, landmarks = dot_centres(flipped["real"], flipped["landmarks"])
    np.testing.assert_allclose(centres, landmarks, atol=0.3)
    assert flipped["landmarks"].dtype == np.float32
    again = mirror(flipped)
    for name in again:
        np.testing.assert_allclose(again[name], record[name], atol=1e-5)


@pytest.mark.parametrize("factor", [286 / 256, 1.25, 1.01])
def test_jitter_keeps_landmarks_on_their_dots(factor):
    rng = np.random.default_rng(0)
    offsets = set()
    for _ in range(10):
        jittered = enlarge_and_crop(make_record(), factor, rng)
        assert {name: array.shape for name, array in jittered.items()} == {
            name: make_record()[name].shape for name in ("real", "masked", "mask", "landmarks")
        }
        centres, landmarks = dot_centres(jittered["real"], jittered["landmarks"])
        assert len(centres) > 30
        assert np.abs(np.mean(centres - landmarks, axis=0)).max() < 0.1
        np.testing.assert_allclose(centres, landmarks, atol=0.4)
        offsets.add(tuple(jittered["landmarks"][0]))
    assert len(offsets) > 1


@pytest.mark.parametrize("factor", [286 / 256, 1.25, 1.01])
def test_jitter_keeps_every_changed_pixel_in_the_region(factor):
    rng = np.random.default_rng(0)
    for seed in range(20):
        jittered = enlarge_and_crop(make_record(seed), factor, rng)
        changed = (jittered["real"] != jittered["masked"]).any(-1, keepdims=True)
        assert set(np.unique(jittered["mask"])) <= {0, 255} and changed.any()
        assert not (changed & (jittered["mask"] == 0)).any()


@pytest.fixture(scope="module")
def records():
    """Twelve records, each told by the value of its first landmark."""
    base = make_record()
    return [{**base, "landmarks": base["landmarks"] * 0 + number, "id": str(number)} for number in range(12)]


@pytest.fixture
def plain(config):
    """A config that leaves the records as they are."""
    config.input.flip = False
    return config


class WithDamage(list):
    """Records of which numbers 3, 4 and 11 cannot be read."""

    def __getitem__(self, index):
        if index in (3, 4, 11):
            raise DamagedRecord(f"record {index} is damaged")
        return super().__getitem__(index)


def numbers(batches, count):
    return [int(n) for _ in range(count) for n in next(batches)["landmarks"][:, 0, 0]]


def test_training_batches(config):
    config.input.jitter = 1.25
    batch = next(training_batches([make_record(seed) for seed in range(6)], config))
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        "real": ((4, SIDE, SIDE, 3), np.uint8),
        "masked": ((4, SIDE, SIDE, 3), np.uint8),
        "mask": ((4, SIDE, SIDE, 1), np.uint8),
        "landmarks": ((4, 68, 2), np.float32),
        "index": ((4,), np.int32),
    }


def test_processes_read_what_threads_read(config):
    config.input.jitter = 1.25
    records = [make_record(seed) for seed in range(6)]
    expected = training_batches(records, config)
    config.input.processes = 2
    batches = training_batches(records, config)
    for _ in range(3):
        for (name, one), other in zip(next(batches).items(), next(expected).values(), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    # A run goes on with processes where threads were, and the other way round.
    following = next(expected)
    for config.input.processes in (0, 1):
        np.testing.assert_array_equal(next(training_batches(records, config, start=3))["real"], following["real"])


def test_processes_that_are_told_to_stop_read_on_for_a_while(config):
    """So that the training, which was told, too, is not without a batch before it has saved."""
    config.input.update(processes=2, prefetch=1)
    before = multiprocessing.active_children()
    batches = training_batches([make_record(seed) for seed in range(6)], config)
    for _ in range(2):  # One of each: both are at work.
        next(batches)
    readers = [child for child in multiprocessing.active_children() if child not in before]
    assert len(readers) == 2
    for reader, sent in zip(readers, (signal.SIGTERM, signal.SIGUSR1), strict=True):
        os.kill(reader.pid, sent)
    for _ in range(20):  # More than have been read ahead.
        next(batches)
    assert all(reader.is_alive() for reader in readers)
    del batches
    for reader in readers:
        reader.join(10)
        assert reader.exitcode == 0


def test_varied_records_are_still_records(config):
    """All variation together: sizes and types stay, and outside the region both images are one."""
    config.input.update(vary_region=1.0, misalignment=0.03, grow_region=2, light=0.2, degrade=1.0, occlude=1.0)
    batch = next(training_batches([make_record(seed) for seed in range(6)], config))
    assert {name: array.shape for name, array in batch.items()} == {
        "real": (4, SIDE, SIDE, 3),
        "masked": (4, SIDE, SIDE, 3),
        "mask": (4, SIDE, SIDE, 1),
        "landmarks": (4, 68, 2),
        "index": (4,),
    }
    assert batch["mask"].any((1, 2, 3)).all() and set(np.unique(batch["mask"])) == {0, 255}
    np.testing.assert_array_equal(batch["masked"], batch["real"])


def test_each_record_has_its_number(config):
    config.input.update(flip=False)
    records = [make_record(seed) for seed in range(6)]
    batch = next(training_batches(records, config))
    for index, landmarks in zip(batch["index"], batch["landmarks"], strict=True):
        np.testing.assert_array_equal(landmarks, records[index]["landmarks"])


def test_half_of_the_pictures_are_mirrored(records, config):
    base = make_record()
    batches = training_batches([base] * 8, config)
    mirrored = 0
    for _ in range(25):
        batch = next(batches)
        for real, landmarks in zip(batch["real"], batch["landmarks"], strict=True):
            flipped = not np.array_equal(real, base["real"])
            expected = mirror(base) if flipped else base
            np.testing.assert_array_equal(real, expected["real"])
            np.testing.assert_array_equal(landmarks, expected["landmarks"])
            mirrored += flipped
    assert 30 < mirrored < 70


def test_every_epoch_has_each_record_once_in_another_order(records, plain):
    batches = training_batches(records, plain)
    epochs = [numbers(batches, 3) for _ in range(4)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert list(range(12)) not in epochs


def test_order_depends_on_the_seed_alone(records, plain):
    first = numbers(training_batches(records, plain), 6)
    assert numbers(training_batches(records, plain), 6) == first
    plain.seed = 1
    assert numbers(training_batches(records, plain), 6) != first


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_each_epoch(records, plain, processes):
    shares = [training_batches(records, plain, process_index=i, process_count=processes) for i in range(processes)]
    for _ in range(3):
        epoch = [numbers(share, 3) for share in shares]
        assert {len(share) for share in epoch} == {12 // processes}
        assert sorted(sum(epoch, [])) == list(range(12))


class Counted(list):
    """Records that remember which of them were read."""

    def __init__(self, records):
        super().__init__(records)
        self.read = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


def test_a_process_reads_its_share_alone(records, plain):
    sources = [Counted(records) for _ in range(4)]
    shares = [training_batches(source, plain, process_index=i, process_count=4) for i, source in enumerate(sources)]
    for share in shares:
        for _ in range(3):
            next(share)
    # A batch has one record of each; so much for one epoch. What was read ahead is of the next one.
    assert sorted(sum((source.read[:3] for source in sources), [])) == list(range(12))
    assert max(len(source.read) for source in sources) < 12


class Slow(list):
    """Counts how many of its records are read at the same time, at most."""

    most = reading = 0

    def __getitem__(self, index):
        self.reading += 1
        self.most = max(self.most, self.reading)
        time.sleep(0.05)
        self.reading -= 1
        return super().__getitem__(index)


@pytest.mark.parametrize("prefetch", [1, 1000])
def test_all_threads_read_however_large_the_batches(records, plain, prefetch):
    plain.input.batch_size, plain.input.threads, plain.input.prefetch = 12, 3, prefetch
    source = Slow(records)
    next(training_batches(source, plain))
    assert source.most == 3


@pytest.mark.parametrize("processes", [2, 4])
def test_batches_are_the_same_however_many_processes_share_them(config, processes):
    config.input.jitter = 1.25
    source = [make_record(seed) for seed in range(10)]
    alone = training_batches(source, config)
    for _ in range(3):  # They go on from where one process was after three batches.
        next(alone)
    shares = [training_batches(source, config, start=3, process_index=i, process_count=processes) for i in range(processes)]
    for _ in range(5):
        expected, batches = next(alone), [next(share) for share in shares]
        for name, array in expected.items():
            np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches]), array)


def test_a_run_goes_on_exactly_where_it_was(config):
    config.input.jitter = 1.25
    source = [make_record(seed) for seed in range(10)]
    batches = training_batches(source, config)
    for _ in range(3):
        next(batches)
    resumed = training_batches(source, config, start=3)
    for _ in range(5):
        expected = next(batches)
        for name, array in next(resumed).items():
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(("limit", "count"), [(0, 12), (7, 7), (3, 3), (99, 12)])
def test_evaluation_reads_each_record_once(records, processes, limit, count):
    shares = [
        list(evaluation_batches(records, 8, limit=limit, process_index=i, process_count=processes)) for i in range(processes)
    ]
    assert {len(share) for share in shares} == {-(-count // 8)}
    seen = []
    for batch in sum(shares, []):
        assert len(batch["real"]) == len(batch["weight"]) == 8 // processes
        seen += batch["landmarks"][batch["weight"] == 1][:, 0, 0].astype(int).tolist()
        assert set(batch["weight"]) <= {0, 1}
    assert sorted(seen) == list(range(count))


def test_the_next_record_is_trained_on_in_place_of_a_damaged_one(records, plain):
    sound = numbers(training_batches(records, plain), 6)
    batches = training_batches(WithDamage(records), plain)
    assert numbers(batches, 3) == [{3: 5, 4: 5, 11: 0}.get(number, number) for number in sound[:12]]
    resumed = training_batches(WithDamage(records), plain, start=3)
    assert numbers(batches, 3) == numbers(resumed, 3)


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(("limit", "expected"), [(0, [0, 1, 2, 5, 6, 7, 8, 9, 10]), (5, [0, 1, 2])])
def test_damaged_records_have_no_weight_in_an_evaluation(limit, expected, records, processes):
    damaged = WithDamage(records)
    shares = [
        list(evaluation_batches(damaged, 8, limit=limit, process_index=i, process_count=processes)) for i in range(processes)
    ]
    seen = [n for batch in sum(shares, []) for n in batch["landmarks"][batch["weight"] == 1][:, 0, 0]]
    assert sorted(seen) == expected


@pytest.mark.parametrize("seed", range(4))
def test_misalignment_moves_everything_together(seed):
    record = make_record(seed)
    moved = misalign(record, 0.1, np.random.default_rng(seed))
    centres, landmarks = dot_centres(moved["real"], moved["landmarks"])
    assert len(landmarks) > 30
    np.testing.assert_allclose(centres, landmarks, atol=0.5)
    assert np.abs(moved["landmarks"] - record["landmarks"]).max() > 0.5
    # All that shows anything of the mask is in the region, but for how OpenCV rounds.
    outside = moved["mask"][..., 0] == 0
    np.testing.assert_allclose(moved["masked"][outside], moved["real"][outside].astype(int), atol=1)
    assert set(np.unique(moved["mask"])) == {0, 255} and moved["mask"].shape == record["mask"].shape


def test_misalignment_is_as_large_as_it_may_be():
    record = make_record()
    middle = (SIDE - 1) / 2
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = misalign(record, 0.1, rng)["landmarks"] - middle
        before = record["landmarks"] - middle
        matrix, *_ = np.linalg.lstsq(np.c_[before, np.ones(68)], moved, rcond=None)
        turn, scale = np.arctan2(matrix[0, 1], matrix[0, 0]), np.hypot(*matrix[0])
        assert abs(turn) < 0.1 and abs(scale - 1) < 0.1 and np.abs(matrix[2]).max() < 0.1 * SIDE + 0.1


def test_the_region_grows_by_up_to_so_many_pixels():
    record = make_record()
    rows = set()
    for seed in range(30):
        grown = grow_mask(record, 3, np.random.default_rng(seed))
        assert (grown["mask"] >= record["mask"]).all()
        rows.add((SIDE // 2) - int(np.nonzero(grown["mask"].any(axis=(1, 2)))[0][0]))
        np.testing.assert_array_equal(grown["masked"], record["masked"])
    assert rows == {0, 1, 2, 3}
