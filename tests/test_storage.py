import contextlib
import filecmp
from pathlib import Path

import cv2
import fsspec
import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from maskgan_jax.config import load_config
from maskgan_jax.data.build.build import build_data_set
from maskgan_jax.data.build.face_lists import FaceLists
from maskgan_jax.data.build.sources import Photo, Skipped, list_photos
from maskgan_jax.data.masked_faces.masked_faces_dataset_builder import Builder
from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.errors import UserError
from maskgan_jax.files import encode_png
from maskgan_jax.storage import is_remote, is_step, move, path_of, reaching, save_text, steps_in, walk


class Bucket(MemoryFileSystem):
    """Stands in for Google's cloud: files by their whole names, and no folders but those that have files."""

    protocol = ("gs", "gcs")
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        name = str(path).rpartition("://")[2].strip("/")
        return f"/{name}" if name else ""

    def mkdir(self, path, create_parents=True, **_):
        pass

    def makedirs(self, path, exist_ok=False):
        pass

    def cp_file(self, path1, path2, **_):
        if self.isfile(path1):
            super().cp_file(path1, path2)


@pytest.fixture
def cloud():
    """A folder in a cloud."""
    for name in Bucket.protocol:
        fsspec.register_implementation(name, Bucket, clobber=True)
    backend.fsspec_backend._get_filesystem.cache_clear()
    yield epath.Path("gs://bucket/folder")
    Bucket.store.clear()
    for name in Bucket.protocol:
        fsspec.register_implementation(name, "gcsfs.GCSFileSystem", clobber=True)
        _registry.pop(name)  # Where the class still is.
    backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def config():
    config = load_config("default")
    config.data.size = 64
    config.data.splits = {"train": {"*": 0.5}, "test": {"*": 0.5}}
    return config


def put_faces(folder: epath.Path) -> epath.Path:
    """Six photos of five people, and a broken one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(6):
        (folder / f"{number}.png").write_bytes(encode_png(render_face(2 * number, seed=0).image))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    people = ("ann", "bob", "bob", "cid", "dan", "eve")
    rows = (f"{number}.png,{person}\n" for number, person in enumerate(people))
    (folder / "faces.csv").write_text("file,identity\nbroken.jpg,gus\n" + "".join(rows))
    return folder


def local_copy(folder: epath.Path, to: Path) -> list[str]:
    """Copies a folder; returns the names of its files."""
    names = []
    for below, files in walk(folder):
        for file in files:
            names.append(str((below / file).relative_to(folder)))
            (to / names[-1]).parent.mkdir(parents=True, exist_ok=True)
            (to / names[-1]).write_bytes((below / file).read_bytes())
    return sorted(names)


@pytest.mark.parametrize("runner", ["", "DirectRunner"])
def test_build_in_a_cloud(runner, cloud, config, tmp_path):
    """Photos and data set in a cloud: the same bytes as here, and nothing else is left there."""
    if runner:
        pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'maskgan_jax[beam]'")
    here = put_faces(epath.Path(tmp_path / "faces"))
    there = put_faces(cloud / "faces")
    card = build_data_set([f"folder={here}"], config, tmp_path / "here", workers=1)
    assert card["records"] == 6 and sum(card["skipped"].values()) == 1
    for overwrite in (False, True):
        in_cloud = build_data_set([f"folder={there}"], config, cloud / "data", workers=1, overwrite=overwrite, runner=runner)
        assert in_cloud == card
    names = local_copy(cloud / "data", tmp_path / "there")
    assert names == sorted(
        str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*") if path.is_file()
    )
    assert filecmp.cmpfiles(tmp_path / "here", tmp_path / "there", names, shallow=False) == (names, [], [])
    with pytest.raises(UserError, match="gs://bucket/folder/data holds a data set already"):
        build_data_set([f"folder={there}"], config, cloud / "data", workers=1, runner=runner)


def test_a_build_that_fails_in_a_cloud_leaves_what_was_there(cloud, config, monkeypatch):
    build_data_set(["rendered=4"], config, cloud, workers=1)
    before = {name: file.getvalue() for name, file in Bucket.store.items()}
    monkeypatch.setattr("maskgan_jax.data.build.build.contact_sheet", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_data_set(["rendered=6"], config, cloud, workers=1, overwrite=True)
    assert {name: file.getvalue() for name, file in Bucket.store.items()} == before


def test_a_build_that_dies_while_it_moves_into_a_cloud_does_not_look_finished(cloud, config, monkeypatch):
    copy = Bucket.cp_file

    def die(self, path1, path2, **options):
        copy(self, path1, path2, **options)
        if "/folder/masked_faces/" in path2 and "train" in path2:
            raise ConnectionError("the network is gone")

    monkeypatch.setattr(Bucket, "cp_file", die)
    with pytest.raises(UserError, match="the network is gone"):
        build_data_set(["rendered=4"], config, cloud, workers=1)
    assert any("masked_faces-train" in name for name in Bucket.store)
    assert not any(name.endswith("dataset_info.json") for name in Bucket.store)


def test_photos_in_a_cloud(cloud, config):
    put_faces(cloud / "a" / "b")
    photos = list(list_photos(f"ffhq={cloud}", config))
    assert [photo.id for photo in photos[:2]] == ["ffhq/a/b/0.png", "ffhq/a/b/1.png"]
    assert photos[0].path == "gs://bucket/folder/a/b/0.png"
    assert photos[0].read().shape == (320, 320, 3)
    with pytest.raises(UserError, match=r"^cannot read \(No such file or directory\)$"):
        Photo("x", "ffhq", "x", "", f"{cloud}/x.jpg").read()
    with pytest.raises(UserError, match="gs://bucket/folder/none is not a folder"):
        list(list_photos(f"ffhq={cloud}/none", config))
    (cloud / "img" / "000001.jpg").write_bytes(b"")
    (cloud / "identity_CelebA.txt").write_text("000001.jpg 2880\n")
    (photo,) = list_photos(f"celeba={cloud}/img", config)
    assert photo.identity == "celeba_2880"
    (skipped,) = list_photos(f"kdef={cloud}/img", config)
    assert isinstance(skipped, Skipped)


class ClientError(Exception):
    """Stands in for those of the clouds' clients that are no OSErrors."""


@pytest.mark.parametrize(
    ("reading", "in_cloud", "error"),
    [  # Every two values of different kinds together.
        *[(1, False, ConnectionResetError), (1, True, PermissionError), (1, False, ClientError)],
        *[(2, True, ConnectionResetError), (2, False, PermissionError), (2, True, ClientError)],
    ],
)
def test_a_photo_in_a_cloud_that_cannot_be_read(reading, in_cloud, error, cloud, config, tmp_path, monkeypatch):
    """It is named, not the data set, and not left out: neither when faces are found nor when masks are drawn."""
    photos = put_faces(cloud / "faces")
    data_dir = cloud / "data" if in_cloud else tmp_path / "data"
    fail_to_read(monkeypatch, "faces/3.png", reading, error)
    with pytest.raises(UserError, match=rf"^cannot reach gs://bucket/folder/faces/3.png \({error.__name__}: no luck\); "):
        build_data_set([f"folder={photos}"], config, data_dir, workers=1)
    assert not (data_dir / "masked_faces").exists()


def test_a_photo_in_a_cloud_that_cannot_be_read_by_beam(cloud, config, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'maskgan_jax[beam]'")
    photos = put_faces(cloud / "faces")
    fail_to_read(monkeypatch, "faces/3.png", 1, ClientError)
    with pytest.raises(UserError, match=r"^cannot reach gs://bucket/folder/faces/3.png \(ClientError: no luck\); "):
        build_data_set([f"folder={photos}"], config, tmp_path, runner="DirectRunner")


def fail_to_read(monkeypatch, name: str, reading: int, error: type[Exception]) -> None:
    """Has a file's reading number `reading`, and every later one, fail."""
    opened, readings = Bucket._open, []

    def failing(self, path, mode="rb", **options):
        if path.endswith(name):
            readings.append(path)
            if len(readings) >= reading:
                raise error("no luck")
        return opened(self, path, mode, **options)

    monkeypatch.setattr(Bucket, "_open", failing)


def test_an_error_of_our_own_is_not_blamed_on_the_cloud(cloud, config, monkeypatch):
    def fail(*_, **__):
        raise cv2.error("a mistake")

    monkeypatch.setattr("maskgan_jax.data.build.make_record.align", fail)
    with pytest.raises(UserError, match="^4 of 4 photos led to unexpected errors; .* unexpected error, error: .*a mistake"):
        build_data_set(["rendered=4"], config, cloud, workers=1)
    assert not Bucket.store


def test_without_beam_the_lists_are_not_in_the_cloud(cloud, config, monkeypatch):
    fail_to_read(monkeypatch, ".jsonl", 1, ClientError)
    assert build_data_set(["rendered=4"], config, cloud, workers=1)["records"] == 4


def test_a_source_without_a_folder(cloud, config):
    pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install 'maskgan_jax[beam]'")
    with pytest.raises(UserError, match="source ffhq: give a folder, as in ffhq=FOLDER"):
        build_data_set(["ffhq"], config, cloud, runner="DataflowRunner")


def test_files_are_written_again_when_a_worker_does_its_work_again(cloud, tmp_path):
    for folder in (cloud, epath.Path(tmp_path / "here")):
        lists = FaceLists(folder / "lists")
        writer = Builder(size=64, splits={}, data_dir=tmp_path / "builder")._example_writer()
        for _ in range(2):
            lists.write_targets(0, {5: ("train", 1)})
            writer.write(str(folder / "records"), iter([("0", b"")]))
        assert lists.read_targets(0) == {5: ["train", 1]}
        assert local_copy(folder, tmp_path / "copy") == ["lists/targets-000000.jsonl", "records"]
    assert (tmp_path / "copy" / "records").read_bytes() == (tmp_path / "here" / "records").read_bytes()


def test_a_cloud_that_cannot_be_reached():
    with pytest.raises(UserError, match=r"cannot reach gs://b/f \(ImportError: no gcsfs\); pip install 'm") as caught:
        with reaching("gs://b/f"):
            raise ImportError("no\ngcsfs")
    assert "\n" not in str(caught.value)
    with pytest.raises(ImportError):
        with reaching("/b/f"):
            raise ImportError
    assert is_remote("s3://b") and not is_remote(Path("/gs/b"))


def test_a_build_in_a_bucket(bucket, config, tmp_path):
    """By the protocols of Google and Amazon: the same files as here, also when a data set is replaced."""
    build_data_set(["rendered=4"], config, tmp_path / "here", workers=1)
    for overwrite in (False, True):
        build_data_set(["rendered=4"], config, bucket / "data", workers=1, overwrite=overwrite)
    names = local_copy(bucket / "data", tmp_path / "there")
    assert names == sorted(str(p.relative_to(tmp_path / "here")) for p in (tmp_path / "here").rglob("*") if p.is_file())
    assert filecmp.cmpfiles(tmp_path / "here", tmp_path / "there", names, shallow=False) == (names, [], [])


def test_paths():
    assert path_of("a/b") == Path("a/b")
    with pytest.raises(
        UserError, match="az://bucket/a cannot be used; give a folder, or a URL that begins with gs:// or s3://"
    ):
        path_of("az://bucket/a")
    with pytest.raises(UserError, match=r"gs://bucket/a\[1\] cannot be used; give a URL without \*, \? and \["):
        path_of("gs://bucket/a[1]")


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^s3://bucket/a needs the package s3fs; install it with pip install 'm.*\[s3\]'$"):
        path_of("s3://bucket/a")


def test_in_a_bucket_a_checkpoint_is_whole_when_it_is_committed(bucket):
    assert steps_in(bucket) == []
    for name in ("3/state/a", "3/commit_success.txt", "12/commit_success.txt", "5/state/commit_success.txt", "x/y"):
        (bucket / name).write_text("a")
    assert steps_in(bucket) == [3, 12]


def test_steps_are_folders_whose_names_are_numbers(tmp_path):
    for name in ("3", "12", "0100", "²", "٣", "-1", "4.tmp", "9" * 5000):
        with contextlib.suppress(OSError):  # The last is too long for a name.
            (tmp_path / name).mkdir()
    (tmp_path / "7").touch()
    assert steps_in(tmp_path) == [3, 12]
    assert [is_step(name) for name in ("0", "12", "", "012", "²", "1 ", "1\n", "9" * 5000)] == [True, True] + 6 * [False]


def test_a_folder_in_a_bucket_is_moved(bucket):
    for name in ("a/x", "a/b/y"):
        (bucket / name).write_text(name)
    move(bucket / "a", bucket / "to" / "there")
    assert (bucket / "to" / "there" / "b" / "y").read_text() == "a/b/y" and (bucket / "to" / "there" / "x").exists()
    assert not (bucket / "a").exists()


def test_a_bucket_that_is_not_there(bucket):
    missing = epath.Path(str(bucket).replace("//bucket", "//nothing"))
    with pytest.raises(UserError, match=f"^cannot reach {missing}/a .*; check the URL, the network and your credentials$"):
        save_text(missing / "a", "text")
