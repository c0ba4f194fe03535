import contextlib
import filecmp
import threading
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest

from maskgan_jax.data.masked_faces import local_copy
from maskgan_jax.data.masked_faces.local_copy import readable_folder
from maskgan_jax.data.masked_faces.reader import config_of, digest_of, load_split, zoom_of
from maskgan_jax.errors import UserError
from maskgan_jax.runtime.lock import locked

TRAIN = "masked_faces-train.array_record-00000-of-00001"


@pytest.fixture(autouse=True)
def forgetful():
    """As in a new process."""
    local_copy._copied.cache_clear()


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """The files that are copied from now on; KeyboardInterrupt comes instead of the one whose number is put into `stop_at`."""
    names, replacing = [], local_copy.replacing

    @contextlib.contextmanager
    def noted(path):
        if len(names) == stop_at[0]:
            raise KeyboardInterrupt
        with replacing(path) as temporary:
            yield temporary
        names.append(str(path.relative_to(tmp_path / "cache" / "data")).partition("/")[2])

    stop_at = [-1]
    monkeypatch.setattr(local_copy, "replacing", noted)
    return names, stop_at


def test_a_folder_is_not_copied(data_dir):
    assert readable_folder(str(data_dir)) == data_dir


def test_a_copy_is_made_once(data_dir, data_in_bucket, copied, tmp_path, capfd):
    copied, _ = copied
    folder = readable_folder(data_in_bucket)
    assert folder.is_relative_to(tmp_path / "cache" / "data")
    # Not the contact sheet and the like.
    assert (
        sorted(copied) == ["config.json", *sorted(n for n in copied if n.startswith("masked_faces/2.0.0/"))]
        and len(copied) == 7
    )
    assert filecmp.cmpfiles(data_dir, folder, copied, shallow=False) == (copied, [], [])
    assert f"copy {data_in_bucket}" in capfd.readouterr().err  # The progress.
    copied.clear()
    local_copy._copied.cache_clear()
    assert readable_folder(f"{data_in_bucket}/") == folder and not copied


def test_a_copy_that_another_process_makes_is_waited_for(data_in_bucket, copied):
    copied, _ = copied
    folder = readable_folder(data_in_bucket)
    elsewhere = folder.rename(folder.with_suffix(".elsewhere"))
    local_copy._copied.cache_clear()
    copied.clear()
    with locked(folder.with_suffix(".lock")):
        thread = threading.Thread(target=readable_folder, args=[data_in_bucket])
        thread.start()
        thread.join(1)
        assert thread.is_alive()
        elsewhere.rename(folder)
    thread.join()
    assert not copied


def test_a_data_set_that_has_changed_is_copied_again(data_in_bucket):
    before = readable_folder(data_in_bucket)
    text = (data_in_bucket / "config.json").read_text()
    (data_in_bucket / "config.json").write_text(text[:-1] + " ")  # Of the same size.
    local_copy._copied.cache_clear()
    after = readable_folder(data_in_bucket)
    assert after != before
    assert (before / "config.json").read_text() == text != (after / "config.json").read_text()


def test_an_interrupted_copy_goes_on(data_in_bucket, copied, monkeypatch):
    monkeypatch.setattr(local_copy, "THREADS", 1)
    names, stop_at = copied
    stop_at[0] = 3
    with pytest.raises(KeyboardInterrupt):
        readable_folder(data_in_bucket)
    stop_at[0] = -1
    folder = readable_folder(data_in_bucket)
    assert len(names) == len(set(names)) == 7
    assert [path.name for path in folder.parent.iterdir() if path.suffix != ".lock"] == [folder.name]


@pytest.mark.parametrize(("damage", "message"), [(lambda chunk: chunk[1:], "bytes instead of"), (bytes.swapcase, "damaged")])
def test_a_file_that_arrives_damaged_is_refused(data_in_bucket, monkeypatch, damage, message):
    store = type(local_copy.fsspec.filesystem(str(data_in_bucket).partition(":")[0]))
    opened = store.open

    def damaged(self, path, mode="rb", **options):
        file = opened(self, path, mode, **options)
        read = file.read
        file.read = lambda *size: damage(read(*size))
        return file

    with monkeypatch.context() as patched:
        patched.setattr(store, "open", damaged)
        with pytest.raises(UserError, match=f"{data_in_bucket}/.* arrived .*{message}.*; start again"):
            readable_folder(data_in_bucket)
    assert readable_folder(data_in_bucket).is_dir()


def test_without_space_google_s_records_are_read_where_they_are(data_dir, data_in_bucket, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    if str(data_in_bucket).startswith("s3"):
        told = f"a copy of {data_in_bucket} needs [01] MB in .*, where 0 MB are free; free some"
        with pytest.raises(UserError, match=told):
            readable_folder(data_in_bucket)
        return
    there, here = load_split(data_in_bucket, "train"), load_split(data_dir, "train")
    assert f"no space for a copy of {data_in_bucket}: its records are read one by one" in capfd.readouterr().err
    assert len(there) == len(here) > 10
    for number in range(len(here)):
        read, expected = there[number], here[number]
        assert read.keys() == expected.keys()
        assert all(np.array_equal(read[name], expected[name]) for name in read)
    for read in (digest_of, config_of, zoom_of):
        assert read(data_in_bucket) == read(data_dir)
    # As data sets of older versions have it.
    (data_in_bucket / "masked_faces" / "2.0.0" / "metadata.json").unlink()
    assert len(digest_of(data_in_bucket)) == 64 and digest_of(data_in_bucket) != digest_of(data_dir)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]

    (data_in_bucket / "masked_faces" / "2.0.0" / TRAIN).unlink()
    with pytest.raises(UserError, match=f"{TRAIN}: .* 404"):
        load_split(data_in_bucket, "train")


def test_digests_that_buckets_know():
    """Of an empty file: Google's MD5 and CRC32C, Amazon's ETag, which is an MD5 unless the file came in parts."""
    pytest.importorskip("google_crc32c", reason="comes with gcsfs: pip install 'maskgan_jax[gcs]'")
    md5 = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    for info, expected in (
        ({"md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}, md5),
        ({"crc32c": "AAAAAA=="}, bytes(4)),
        ({"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}, md5),
    ):
        algorithm, value = local_copy._digest(info)
        assert value == expected == algorithm().digest()
    assert local_copy._digest({"ETag": '"d41d8cd98f00b204e9800998ecf8427e-8"'})[1] == b""


def test_folders_that_a_console_made(data_in_bucket):
    """They are empty objects whose names end with a slash."""
    store, root = fsspec.url_to_fs(str(data_in_bucket))
    for name in ("masked_faces/", "masked_faces/2.0.0/"):
        if "s3" in store.protocol:  # s3fs would take the slash away.
            bucket, _, key = f"{root}/{name}".partition("/")
            store.call_s3("put_object", Bucket=bucket, Key=key, Body=b"")
        else:
            store.pipe_file(f"{root}/{name}", b"")
    assert (readable_folder(data_in_bucket) / "masked_faces" / "2.0.0" / "features.json").is_file()


def test_no_file_is_copied_out_of_the_folder(monkeypatch, tmp_path):
    """Names of objects in a bucket can be anything."""
    names = ("masked_faces/2.0.0/features.json", "masked_faces/../../../outside")
    store = SimpleNamespace(find=lambda root, detail: {f"bucket/data/{name}": {"size": 1} for name in names})
    monkeypatch.setenv("MASKGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fsspec, "url_to_fs", lambda url: (store, "bucket/data"))
    with pytest.raises(UserError, match="would be copied to another folder, 'masked_faces/../../../outside'; delete it there"):
        readable_folder("gs://bucket/data")
    assert not list(tmp_path.rglob("*"))
