"""The splits: train, validation and test, by person."""

from __future__ import annotations

import collections
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from ml_collections import ConfigDict

from maskgan_jax.errors import UserError

# In the order in which they are filled.
SPLITS = ("test", "validation", "train")
# The fraction of the people that go to a split which would be empty, at least.
LEAST_SHARE = 0.1

PhotoT = TypeVar("PhotoT")


def check_splits(splits: Mapping[str, Mapping[str, float]], sources: Iterable[str]) -> None:
    """Checks the arguments of `split_photos`.

    Args:
      splits: as for `split_photos`.
      sources: those of the photos.

    Raises:
      UserError: an unknown split or source, a value that is not a number, or shares outside 0..1 or with a sum above 1.
    """
    sources = sorted(set(sources))
    for split, rules in splits.items():
        key = f"data.splits.{split}"
        if split not in SPLITS:
            raise UserError(f"{key}: there is no such split; the splits are {', '.join(SPLITS)}")
        if not isinstance(rules, Mapping | ConfigDict):
            raise UserError(f"{key} is {rules!r:.40}; give shares or counts by source, such as {{'*': 0.8}}")
        for source, wanted in rules.items():
            if source not in ("*", *sources):
                raise UserError(f"{key}.{source}: no photo is of this source; there are {', '.join(sources)} and '*'")
            if isinstance(wanted, bool) or not isinstance(wanted, int | float):
                kind = type(wanted).__name__
                raise UserError(f"{key}.{source} is a {kind}; give a share such as 0.8 or a number of photos such as 800")
            if not 0 <= wanted <= (1 if isinstance(wanted, float) else wanted):
                raise UserError(f"{key}.{source} is {wanted}; a share is 0.0 to 1.0, a number of photos has no decimal point")
    for source, rules in _by_source(splits, sources).items():
        if sum(share for share in rules.values() if isinstance(share, float)) > 1 + 1e-9:
            raise UserError(f"data.splits: the shares of {source} add up to more than 1; lower one of them")


def _by_source(splits: Mapping[str, Mapping[str, float]], sources: Iterable[str]) -> dict[str, dict[str, float]]:
    """{source: {split: share or count}}, the splits in the order in which they are filled."""
    filled = [split for split in SPLITS if split in splits]
    return {source: {split: splits[split].get(source, splits[split].get("*", 0)) for split in filled} for source in sources}


def _hash(seed: int, text: str) -> tuple[int, float]:
    """Two independent numbers for `text`: one to sort by, one evenly spread over [0, 1)."""
    digest = hashlib.blake2b(f"{seed} {text}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:]) / 2**64


def split_photos(photos: Sequence[PhotoT], splits: Mapping[str, Mapping[str, float]], seed: int) -> dict[str, list[PhotoT]]:
    """Assigns photos to splits so that no identity is in two of them.

    Counts are filled first, from each source identity by identity in the order of a hash; of the last identity, only as many
    photos are taken as needed. Every other identity is assigned by another hash, of which shares are intervals. Test comes
    before validation, and both before train.

    Args:
      photos: of all sources, each with its `id`, `source` and `identity`.
      splits: {split: {source: share or count}}, as `check_splits` accepts them: a float is a share of the identities, an int a
        number of photos, '*' stands for every source that the split does not name.
      seed: of the hashes.

    Returns:
      The photos of each split that has any, in hash order.

    Raises:
      UserError: a count that cannot be met.
    """
    sources = sorted({photo.source for photo in photos} | {name for rules in splits.values() for name in rules} - {"*"})
    rules = _by_source(splits, sources)

    people: dict[str, dict[str, list[PhotoT]]] = {source: collections.defaultdict(list) for source in sources}
    for photo in sorted(photos, key=lambda photo: (_hash(seed, photo.identity), photo.identity, _hash(seed, photo.id))):
        people[photo.source][photo.identity].append(photo)
    home: dict[str, str] = {}
    parts: dict[str, list[PhotoT]] = {split: [] for split in SPLITS if split in splits}

    for split, source in itertools.product(parts, sources):
        wanted = rules[source][split]
        if isinstance(wanted, float):
            continue
        taken: list[PhotoT] = []
        for identity, theirs in people[source].items():
            if len(taken) < wanted and home.setdefault(identity, split) == split:
                taken += theirs[: wanted - len(taken)]
        if len(taken) < wanted:
            raise UserError(
                f"data.splits.{split} wants {wanted} photos of {source}, but only {len(taken)} usable ones are left; "
                "lower the count or add photos"
            )
        parts[split] += taken

    for source in sources:
        for identity, theirs in people[source].items():
            split = home.get(identity) or _split_by_share(rules[source], _hash(seed, identity)[1])
            if split and isinstance(rules[source][split], float) and rules[source][split] > 0:
                home[identity] = split
                parts[split] += theirs
    return {split: sorted(part, key=lambda photo: _hash(seed, photo.id)) for split, part in parts.items() if part}


def fill_empty(parts: dict[str, list[PhotoT]], splits: Mapping[str, Mapping[str, float]], seed: int) -> list[str]:
    """Moves people into splits that have a share of '*' but got nobody, as happens with few of them.

    Args:
      parts: from `split_photos`; changed.
      splits: as for `split_photos`.
      seed: of the hash by which people are chosen.

    Returns:
      In words, what was moved: nothing if a split is given by a count or by its sources, nor the last person of a split.
    """
    moved = []
    if not all(set(rules) <= {"*"} and isinstance(rules.get("*", 0.0), float) for rules in splits.values()):
        return moved
    everybody = {photo.identity for part in parts.values() for photo in part}
    # Of two people, who cannot be in all three, one is to be in train.
    for split in SPLITS if len(everybody) > 2 else ("train", "test", "validation"):
        if split in parts or not splits.get(split, {}).get("*"):
            continue
        largest = max(parts, key=lambda one: len({photo.identity for photo in parts[one]}), default=None)
        people = sorted({photo.identity for photo in parts.get(largest, ())}, key=lambda identity: _hash(seed, identity))
        count = max(1, round(max(splits[split]["*"], LEAST_SHARE) * len(people)))
        chosen = set(people[: min(count, len(people) - 1) if split == "train" else count])
        if chosen and len(chosen) < len(people):
            parts[split] = [photo for photo in parts[largest] if photo.identity in chosen]
            parts[largest] = [photo for photo in parts[largest] if photo.identity not in chosen]
            moved.append(
                f"{split} would be empty, so {len(parts[split])} photos of {len(chosen)} people go there from {largest}"
            )
    return moved


def _split_by_share(rules: Mapping[str, float], position: float) -> str | None:
    """The split whose interval contains `position`; the intervals follow each other from 0."""
    end = 0.0
    for split, share in rules.items():
        if isinstance(share, float):
            end += share
            if position < end:
                return split
    return None
