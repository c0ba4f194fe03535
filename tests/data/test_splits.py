import collections
from pathlib import Path

import pytest

from maskgan_jax.data.sources import Photo
from maskgan_jax.data.splits import split_photos
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
    """Section 4.1: 5,600 pairs of FFHQ to train on; 1,400 of FFHQ, 588 of KDEF and 343 of UTKFace to test on."""
    photos = photos_of("ffhq", 7100) + photos_of("kdef", 70, each=14) + photos_of("utkface", 400)
    splits = {"train": {"ffhq": 5600}, "test": {"ffhq": 1400, "kdef": 588, "utkface": 343}}
    parts = split_photos(photos, splits, seed=3)
    check_nobody_is_in_two(parts)
    assert collections.Counter(photo.source for photo in parts["test"]) == {"ffhq": 1400, "kdef": 588, "utkface": 343}
    assert collections.Counter(photo.source for photo in parts["train"]) == {"ffhq": 5600}
    assert len({photo.identity for photo in parts["test"] if photo.source == "kdef"}) == 42


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


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"test": {"a": 11}}, "data.splits.test wants 11 photos of a, but only 10"),
        ({"test": {"c": 1}}, "data.splits.test wants 1 photos of c, but only 0"),
        ({"test": {"a": 6}, "train": {"a": 6}}, "data.splits.train wants 6 photos of a, but only 4"),
        ({"test": {"a": 0.5}, "train": {"*": 0.6}}, "more than 1"),
        ({"test": {"a": -0.5}}, "below 0"),
        ({"test": {"a": 10.0}}, "without a decimal point"),
    ],
)
def test_splits_that_cannot_be(splits, message):
    with pytest.raises(UserError, match=message):
        split_photos(photos_of("a", 10), splits, seed=0)
