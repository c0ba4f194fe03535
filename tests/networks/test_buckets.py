import pytest
import tensorstore as ts
from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from maskgan_jax.errors import UserError
from maskgan_jax.networks.buckets import key_value_store, teach_orbax_s3


def test_stores_of_paths(monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    assert key_value_store("/a/b") == {"driver": "file", "path": "/a/b/"}
    assert key_value_store("gs://bucket/a/b") == {"driver": "gcs", "bucket": "bucket", "path": "a/b"}
    assert key_value_store("s3://bucket/a/b") == {"driver": "s3", "bucket": "bucket", "path": "a/b"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here:1")
    assert key_value_store("s3://bucket/a")["endpoint"] == "http://here:1"


def test_what_tensorstore_writes_is_read_by_others(bucket):
    ts.KvStore.open(key_value_store(bucket / "a")).result().write("", b"text").result()
    assert (bucket / "a").read_text() == "text"


@pytest.fixture
def untaught(monkeypatch):
    """What `teach_orbax_s3` changes is undone after the test."""
    for module, name in (
        (tensorstore_utils, "_use_gcs_driver"),
        (tensorstore_utils, "_normalize_path"),
        (gcs_utils, "get_kvstore_for_gcs"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    teach_orbax_s3.cache_clear()
    yield
    teach_orbax_s3.cache_clear()


@pytest.mark.parametrize("url", ["s3://bucket/a/b", "gs://bucket/a/b", "/a/b"])
def test_orbax_learns_where_s3_is(url, untaught, monkeypatch):
    """And stores elsewhere as before."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here:1")
    before = None if url.startswith("s3") else tensorstore_utils.build_kvstore_tspec(url, "x")
    teach_orbax_s3()
    after = tensorstore_utils.build_kvstore_tspec(url, "x")
    assert before in (None, after)
    if before is None:
        assert after["base"] == key_value_store(url) and after["base"]["driver"] == "s3" and after["path"] == "x"
        assert tensorstore_utils.build_kvstore_tspec(url, "x", use_ocdbt=False)["path"] == "a/b/x"


def test_an_orbax_that_cannot_learn_it(untaught, monkeypatch):
    monkeypatch.delattr(tensorstore_utils, "_normalize_path")
    with pytest.raises(UserError, match="this version of orbax-checkpoint cannot keep checkpoints at s3:// URLs; install"):
        teach_orbax_s3()
