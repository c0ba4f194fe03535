import json
import types

from maskgan_jax.data.build.card import SHEET_RECORDS, Tally, data_card
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
        added.merge(Tally(json.loads(json.dumps(part.as_list()))))
    assert sorted(added.as_list()) == sorted(whole.as_list())
    assert whole.mask_types("train") == {"cloth": 13, "kn95": 13, "n95": 14}
    assert added.examples(["train", "test"]) == whole.examples(["train", "test"])


def test_examples_are_of_all_kinds():
    chosen = tally(RECORDS).examples(["test", "train"])
    assert len(set(chosen)) == len(chosen) == SHEET_RECORDS
    records = {(split, number): record for split, number, record in RECORDS}
    assert {records[place]["source"] for place in chosen} == {"a", "b", "c"}
    assert {records[place]["mask_type"] for place in chosen} == {"n95", "cloth", "kn95"}
    assert tally(RECORDS[-1:]).examples(["test"]) == [("test", 0)]


def test_card():
    part = [types.SimpleNamespace(source="a", identity=identity) for identity in ("ann", "bob", "ann")]
    tally = Tally([("test", "a", "n95", 3, [0, 1, 2])])
    assert data_card({"test": part}, tally, [Skipped("x", "a", "no face found")], 4, ["train"]) == {
        "records": 3,
        "splits": {"test": {"records": 3, "identities": 2, "sources": {"a": 3}, "mask_types": {"n95": 3}}},
        "empty": ["train"],
        "skipped": {"no face found": 1},
        "unused": 4,
    }
