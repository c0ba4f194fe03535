import collections
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from maskgan_jax.configs import paper
from maskgan_jax.data.build.sources import Photo
from maskgan_jax.data.build.splits import check_splits, fill_empty, split_photos
from maskgan_jax.errors import UserError


def photos_of(source: str, people: int, each: int = 1) -> list[Photo]:
    return [
        Photo(f"{source}/{person}_{number}.jpg", source, f"{source}_{person}", "", Path("x.jpg"))
        for person in range(people)
        for number in range(each)
    ]


def check_nobody_is_in_two(parts: dict[str, list[Photo]]) -> None:
    homes = collections.defaultdict(set)
    for split, part in parts.items():
        for photo in part:
            homes[photo.identity].add(split)
    assert all(len(splits) == 1 for splits in homes.values())


def test_shares_are_met_and_stable():
    splits = {"train": {"*": 0.8}, "validation": {"*": 0.05}, "test": {"*": 0.15}}
    few, many = photos_of("a", 2000), photos_of("a", 4000)
    parts = split_photos(few, splits, seed=0)
    check_nobody_is_in_two(parts)
    assert len(parts["train"]) == pytest.approx(1600, abs=60)
    assert len(parts["validation"]) == pytest.approx(100, abs=35)
    assert sum(map(len, parts.values())) == 2000
    later = split_photos(many, splits, seed=0)
    for split, part in parts.items():
        assert set(part) <= set(later[split])
    assert split_photos(few[::-1], splits, seed=0) == parts
    assert split_photos(few, splits, seed=1) != parts


def test_the_counts_of_the_paper():
    """Section 5.1: 5,600 pairs to train on; 1,400 of FFHQ, 588 of KDEF and 343 of UTKFace to test on."""
    photos = photos_of("ffhq", 6000) + photos_of("kdef", 70, each=14) + photos_of("utkface", 1500)
    parts = split_photos(photos, paper.get_config().data.splits, seed=3)
    check_nobody_is_in_two(parts)
    counts = {split: collections.Counter(photo.source for photo in part) for split, part in parts.items()}
    assert counts["test"] == {"ffhq": 1400, "kdef": 588, "utkface": 343}
    assert counts["train"] == {"ffhq": 4183, "kdef": 392, "utkface": 1025} and len(parts["train"]) == 5600
    assert len({photo.identity for photo in parts["test"] if photo.source == "kdef"}) == 42


@pytest.mark.parametrize("seed", range(4))
def test_the_counts_of_the_paper_when_some_photos_are_unusable(seed):
    """All of KDEF that the test set leaves is trained on, but for further photos of the last person that it takes some of."""
    photos = photos_of("ffhq", 6000) + photos_of("kdef", 70, each=14)[5:] + photos_of("utkface", 1500)
    parts = split_photos(photos, paper.get_config().data.splits, seed)
    check_nobody_is_in_two(parts)
    kdef = {split: [photo for photo in part if photo.source == "kdef"] for split, part in parts.items()}
    assert len(kdef["test"]) == 588 and not kdef["validation"]
    tested = {photo.identity for photo in kdef["test"]}
    rest = [photo for photo in photos if photo.source == "kdef" and photo.identity not in tested]
    assert sorted(photo.id for photo in kdef["train"]) == sorted(photo.id for photo in rest)
    assert 975 - 588 - 13 <= len(rest) <= 975 - 588


def test_counts_and_shares_of_one_source():
    parts = split_photos(
        photos_of("a", 100, each=3), {"train": {"*": 0.9}, "validation": {"a": 0.1}, "test": {"a": 31}}, seed=0
    )
    check_nobody_is_in_two(parts)
    assert len(parts["test"]) == 31
    # The eleventh person gave one photo of three; the other two are used nowhere.
    assert len(parts["train"]) + len(parts["validation"]) == 300 - 33
    assert parts["validation"]


def test_a_person_in_two_sources_is_in_one_split():
    both = [Photo(f"{source}/{n}", source, f"person_{n}", "", Path("x")) for source in "ab" for n in range(50)]
    parts = split_photos(both, {"train": {"a": 0.5, "b": 1.0}, "test": {"a": 10}}, seed=0)
    check_nobody_is_in_two(parts)
    assert len(parts["test"]) == 10
    assert sum(photo.source == "b" for photo in parts["train"]) == 40


def test_sources_that_no_split_names_are_left_over():
    assert split_photos(photos_of("a", 5) + photos_of("b", 5), {"train": {"a": 1.0}}, 0).keys() == {"train"}
    assert split_photos(photos_of("b", 5), {"train": {"a": 1.0}}, 0) == {}


@pytest.mark.parametrize("seed", range(20))
def test_few_people_are_in_all_splits(seed):
    """README's commands on a folder of twenty photos."""
    splits = {"train": {"*": 0.8}, "validation": {"*": 0.05}, "test": {"*": 0.15}}
    parts = split_photos(photos_of("a", 20), splits, seed)
    before = {split: list(part) for split, part in parts.items()}
    moved = fill_empty(parts, splits, seed)
    check_nobody_is_in_two(parts)
    assert parts.keys() == splits.keys() and sum(map(len, parts.values())) == 20
    assert len(parts["train"]) >= 10 and len(moved) == 3 - len(before)
    assert moved or parts == before


@pytest.mark.parametrize(("share", "people"), [(0.05, 4), (0.25, 10)])
def test_a_split_that_would_be_empty_gets_a_tenth_of_the_people(share, people):
    """Of the largest split; or its share, if that is more."""
    parts = {"train": photos_of("a", 40, each=2)}
    told = fill_empty(parts, {"train": {"*": 1 - share}, "validation": {"*": share}}, seed=0)
    assert told == [f"validation would be empty, so {2 * people} photos of {people} people go there from train"]
    assert [len({photo.identity for photo in parts[split]}) for split in ("train", "validation")] == [40 - people, people]
    check_nobody_is_in_two(parts)


@pytest.mark.parametrize("people", [2, 3, 4])
@pytest.mark.parametrize("drawn", ["test", "validation"])
def test_train_is_not_empty_if_anybody_can_move(drawn, people):
    """As when all fall to a split with a small share."""
    parts = {drawn: photos_of("a", people, each=2)}
    fill_empty(parts, {"train": {"*": 0.8}, "validation": {"*": 0.05}, "test": {"*": 0.15}}, seed=0)
    assert len({photo.identity for photo in parts["train"]}) >= 1 and len(parts) == min(people, 3)
    check_nobody_is_in_two(parts)


def test_what_is_meant_to_be_empty_stays_so():
    two, one = photos_of("a", 2), photos_of("a", 1, each=5)
    for splits, photos in (
        ({"train": {"*": 1.0}, "test": {"*": 0.0}}, two),
        ({"train": {"*": 2}, "test": {"*": 0.1}}, two),
        ({"train": {"a": 1.0}, "test": {"b": 0.5}}, two),
        ({"train": {"*": 0.99}, "test": {"*": 0.01}}, one),
    ):
        parts = split_photos(photos, splits, 0)
        before = {split: list(part) for split, part in parts.items()}
        assert fill_empty(parts, splits, 0) == [] and parts == before


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"test": {"a": 11}}, "data.splits.test wants 11 photos of a, but only 10"),
        ({"test": {"a": 6}, "train": {"a": 6}}, "data.splits.train wants 6 photos of a, but only 4"),
    ],
)
def test_counts_that_cannot_be_met(splits, message):
    with pytest.raises(UserError, match=message):
        split_photos(photos_of("a", 10), splits, seed=0)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"test": {"a": 0.5}, "train": {"*": 0.6}}, "the shares of a add up to more than 1"),
        ({"test": {"a": -0.5}}, "data.splits.test.a is -0.5; .* no decimal point"),
        ({"test": {"a": 10.0}}, "data.splits.test.a is 10.0; .* no decimal point"),
        ({"test": {"a": -1}}, "data.splits.test.a is -1"),
        ({"test": {"a": float("nan")}}, "data.splits.test.a is nan"),
        ({"test": {"a": "half"}}, "data.splits.test.a is a str; give a share"),
        ({"test": {"a": True}}, "data.splits.test.a is a bool; give a share"),
        ({"test": {"a": {"b": 1.0}}}, "data.splits.test.a is a .*ict; give a share"),
        ({"test": 0.5}, "data.splits.test is 0.5; give shares or counts by source"),
        ({"tset": {"a": 0.5}}, "data.splits.tset: there is no such split"),
        ({"test": {"c": 0.5}}, "data.splits.test.c: no photo is of this source; there are a, b and '[*]'"),
    ],
)
@pytest.mark.parametrize("kind", [dict, lambda splits: ConfigDict(splits, type_safe=False)])
def test_wrong_splits(splits, message, kind):
    with pytest.raises(UserError, match=message):
        check_splits(kind(splits), ["b", "a", "a"])


def test_right_splits():
    check_splits({"train": {"*": 0.8, "a": 5}, "validation": {"a": 0}, "test": {"b": 0.2}}, ["a", "b"])
