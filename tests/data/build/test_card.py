import hashlib
import json
import types

import numpy as np

from maskgan_jax.data.build.card import SHEET_RECORDS, Tally, data_card, record_digest
from maskgan_jax.data.build.sources import Skipped

RECORDS = [
    ("train", number, {"source": "ab"[number % 2], "mask_type": ("n95", "cloth", "kn95")[number % 3]}) for number in range(40)
] + [("test", 0, {"source": "c", "mask_type": "n95"})]


def tally(records) -> Tally:
    result = Tally()
    for record in records:
        result.add(*record)
    return result


def test_parts_in_any_order_add_up_to_the_whole():
    whole = tally(RECORDS)
    parts = [tally(RECORDS[start::3]) for start in (2, 0, 1)]
    added = Tally()
    for part in parts:
        added.merge(Tally(**json.loads(json.dumps(part.as_json()))))
    for name in ("kinds", "digests"):
        assert sorted(added.as_json()[name]) == sorted(whole.as_json()[name])
    assert added.digest() == whole.digest()
    assert whole.mask_types("train") == {"cloth": 13, "kn95": 13, "n95": 14}
    assert added.examples(["train", "test"]) == whole.examples(["train", "test"])


def test_what_could_not_be_made_is_kept_apart():
    skipped = Skipped("a/1", "a", "unexpected error", unexpected=True)
    added = Tally()
    added.add("train", 3, skipped)
    whole = tally(RECORDS)
    digest = whole.digest()
    whole.merge(Tally(**json.loads(json.dumps(added.as_json()))))
    assert whole.left_out == {("train", 3): skipped}
    assert whole.digest() == digest
    assert data_card({}, whole, [skipped], 0, [])["unexpected"] == 1


def test_examples_are_of_all_kinds():
    chosen = tally(RECORDS).examples(["test", "train"])
    assert len(set(chosen)) == len(chosen) == SHEET_RECORDS
    records = {(split, number): record for split, number, record in RECORDS}
    assert {records[place]["source"] for place in chosen} == {"a", "b", "c"}
    assert {records[place]["mask_type"] for place in chosen} == {"n95", "cloth", "kn95"}
    assert tally(RECORDS[-1:]).examples(["test"]) == [("test", 0)]


def test_digest_of_a_record():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    expected = hashlib.sha256(b"id 2\n" + "ü".encode() + b"real 12\n" + bytes(range(12))).hexdigest()
    assert record_digest({"real": image, "id": "ü"}) == expected
    assert record_digest({"id": "ü", "real": np.asfortranarray(image)}) == expected


def test_digest():
    """In the order of the splits' names and of the numbers in each, whatever was added first."""
    digests = [hashlib.sha256(bytes([i])).digest() for i in range(3)]
    places = [("train", 11), ("test", 0), ("train", 2)]
    added = Tally(digests=[(*place, digest.hex()) for place, digest in zip(places, digests, strict=True)])
    expected = hashlib.sha256(b"test" + digests[1] + b"train" + digests[2] + b"train" + digests[0]).hexdigest()
    assert added.digest() == expected


def test_card():
    part = [types.SimpleNamespace(source="a", identity=identity) for identity in ("ann", "bob", "ann")]
    tally = Tally([("test", "a", "n95", 3, [0, 1, 2])])
    assert data_card({"test": part}, tally, [Skipped("x", "a", "no face found")], 4, ["train"]) == {
        "records": 3,
        "splits": {"test": {"records": 3, "identities": 2, "sources": {"a": 3}, "mask_types": {"n95": 3}}},
        "empty": ["train"],
        "skipped": {"no face found": 1},
        "unused": 4,
        "unexpected": 0,
        "digest": hashlib.sha256().hexdigest(),
    }
