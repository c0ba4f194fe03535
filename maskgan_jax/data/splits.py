"""Which face goes where: train, validation or test, by person."""

from __future__ import annotations

import collections
import hashlib
import itertools
from collections.abc import Mapping, Sequence

from maskgan_jax.data.sources import Photo
from maskgan_jax.errors import UserError


def _hash(seed: int, text: str) -> tuple[int, float]:
    """Two independent numbers for `text`: one to sort by, one evenly spread over [0, 1)."""
    digest = hashlib.blake2b(f"{seed} {text}".encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:]) / 2**64


def split_photos(photos: Sequence[Photo], splits: Mapping[str, Mapping[str, float]], seed: int) -> dict[str, list[Photo]]:
    """Parts the photos such that no identity is in two splits.

    Counts are filled first, from each source identity by identity in the order of a hash; of the last one, only as many photos
    are taken as are asked for. Then every other identity goes by another hash: shares are intervals of it. Test comes before
    validation, and both before train.

    Args:
      photos: of all sources.
      splits: {split: {source: share or count}}: a float is a share of the identities, an int a number of photos, '*' stands for
        every source that the split does not name.
      seed: another seed gives other splits.

    Returns:
      The photos of each split that has any, in hash order.

    Raises:
      UserError: shares outside 0..1 or above 1 in all, or a count that cannot be met.
    """
    order = sorted(splits, key=lambda split: (split == "train", split == "validation", split))
    sources = sorted({photo.source for photo in photos} | {name for rules in splits.values() for name in rules} - {"*"})
    rules = {source: {split: splits[split].get(source, splits[split].get("*", 0)) for split in order} for source in sources}
    _check(rules)

    people: dict[str, dict[str, list[Photo]]] = {source: collections.defaultdict(list) for source in sources}
    for photo in sorted(photos, key=lambda photo: (_hash(seed, photo.identity), photo.identity, _hash(seed, photo.id))):
        people[photo.source][photo.identity].append(photo)
    home: dict[str, str] = {}
    parts: dict[str, list[Photo]] = {split: [] for split in order}

    for split, source in itertools.product(order, sources):
        wanted = rules[source][split]
        if isinstance(wanted, float):
            continue
        taken: list[Photo] = []
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


def _split_by_share(rules: Mapping[str, float], position: float) -> str | None:
    """The split whose interval holds `position`, when the shares are laid end to end from 0."""
    end = 0.0
    for split, share in rules.items():
        if isinstance(share, float):
            end += share
            if position < end:
                return split
    return None


def _check(rules: Mapping[str, Mapping[str, float]]) -> None:
    for source, wanted in rules.items():
        shares = [share for share in wanted.values() if isinstance(share, float)]
        if min(wanted.values(), default=0) < 0 or sum(shares) > 1 + 1e-9:
            raise UserError(
                f"data.splits: the shares of {source} add up to more than 1, or one is below 0; "
                "a number of photos is given without a decimal point"
            )
