"""The data card: what is in a data set, counted while it is being written."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from maskgan_jax.data.build.sources import Skipped

SHEET_RECORDS = 12


def record_digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record's fields in the order of their names, in hexadecimal; it does not depend on how they are stored."""
    digest = hashlib.sha256()
    for name, value in sorted(record.items()):
        data = value.encode() if isinstance(value, str) else np.ascontiguousarray(value).data.cast("B")
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


class Tally:
    """Counts records by split, source and mask type, and keeps the numbers of the first ones of each kind and all digests.

    Attributes:
      left_out: {(split, number): why} for the records that could not be made.
    """

    def __init__(
        self,
        kinds: Iterable[tuple[str, str, str, int, list[int]]] = (),
        digests: Iterable[tuple[str, int, str]] = (),
        left_out: Iterable[tuple[str, int, Mapping[str, Any]]] = (),
    ):
        """An empty tally, or one that `as_json` gave."""
        self._kinds = {tuple(kind): (count, numbers) for *kind, count, numbers in kinds}
        self._digests = {(split, number): bytes.fromhex(digest) for split, number, digest in digests}
        self.left_out = {(split, number): Skipped(**skipped) for split, number, skipped in left_out}

    def as_json(self) -> dict[str, list[Any]]:
        """The tally as JSON can hold it; `Tally(**...)` makes it a tally again.

        `kinds` has split, source, mask type, number of records and the numbers of the first ones; `digests` has split, number
        and `record_digest` of each record, `left_out` split, number and fields of each `Skipped`.
        """
        return {
            "kinds": [(*kind, count, numbers) for kind, (count, numbers) in self._kinds.items()],
            "digests": [(*place, digest.hex()) for place, digest in self._digests.items()],
            "left_out": [(*place, dataclasses.asdict(skipped)) for place, skipped in self.left_out.items()],
        }

    def add(self, split: str, number: int, made: Mapping[str, Any] | Skipped) -> None:
        """Counts number `number` of a split: a record, or what was left out in its place."""
        if isinstance(made, Skipped):
            self.left_out[split, number] = made
            return
        kind = split, made["source"], made["mask_type"], 1, [number]
        self.merge(Tally([kind], [(split, number, record_digest(made))]))

    def merge(self, other: Tally) -> None:
        """Counts what `other` has counted."""
        for kind, (count, numbers) in other._kinds.items():
            before, firsts = self._kinds.get(kind, (0, []))
            self._kinds[kind] = (before + count, sorted(firsts + numbers)[:SHEET_RECORDS])
        self._digests |= other._digests
        self.left_out |= other.left_out

    def digest(self) -> str:
        """SHA-256 over the split and `record_digest` of every record, by split and number, in hexadecimal."""
        digest = hashlib.sha256()
        for (split, _), of_record in sorted(self._digests.items()):
            digest.update(split.encode() + of_record)
        return digest.hexdigest()

    def mask_types(self, split: str) -> dict[str, int]:
        """How many records of a split have which type of mask."""
        counts = collections.Counter()
        for (of, _, mask_type), (count, _) in self._kinds.items():
            if of == split:
                counts[mask_type] += count
        return dict(sorted(counts.items()))

    def examples(self, splits: Iterable[str]) -> list[tuple[str, int]]:
        """Split and number of `SHEET_RECORDS` records to show, of as many sources and mask types as possible."""
        groups = collections.defaultdict(list)
        for split in splits:
            for (of, source, mask_type), (_, numbers) in self._kinds.items():
                if of == split:
                    groups[source, mask_type] += [(split, number) for number in numbers]
        sources, types = (sorted(set(column)) for column in zip(*groups, strict=True))
        # Along the diagonals of the table of sources and types, so that both change from one record to the next.
        order = sorted(groups, key=lambda key: ((types.index(key[1]) - sources.index(key[0])) % len(types), key))
        turns = itertools.zip_longest(*(groups[key] for key in order))
        return [place for turn in turns for place in turn if place][:SHEET_RECORDS]


def data_card(
    splits: Mapping[str, Sequence[Any]], tally: Tally, skipped: Sequence[Skipped], unused: int, empty: Sequence[str]
) -> dict[str, Any]:
    """The data card.

    Args:
      splits: what is in each split, with `identity` and `source`.
      tally: of the records made from it.
      skipped: the photos left out.
      unused: number of usable photos in no split.
      empty: splits that should have photos but got none.
    """
    card: dict[str, Any] = {"records": sum(map(len, splits.values())), "splits": {}}
    for split, part in splits.items():
        card["splits"][split] = {
            "records": len(part),
            "identities": len({photo.identity for photo in part}),
            "sources": _counted(photo.source for photo in part),
            "mask_types": tally.mask_types(split),
        }
    card |= {"empty": list(empty), "skipped": _counted(photo.reason for photo in skipped), "unused": unused}
    return {**card, "unexpected": sum(photo.unexpected for photo in skipped), "digest": tally.digest()}


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(collections.Counter(values).items()))
