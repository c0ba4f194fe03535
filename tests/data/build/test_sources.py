import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskgan_jax.config import load_config
from maskgan_jax.data.build.sources import Photo, Skipped, list_all_photos, list_photos
from maskgan_jax.errors import UserError


@pytest.fixture
def config():
    return load_config("default")


def make_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def described(source: str, config) -> list[tuple[str, ...]]:
    return [
        (one.id, one.identity, one.expression) if isinstance(one, Photo) else (one.id, one.reason)
        for one in list_photos(source, config)
    ]


@pytest.mark.parametrize("kind", ["ffhq", "utkface", "folder"])
def test_every_file_is_a_person(kind, config, tmp_path):
    make_files(tmp_path, "b/00001.png", "12_0_2_2017.jpg.jpg", "notes.txt")
    assert described(f"{kind}={tmp_path}", config) == [
        (f"{kind}/12_0_2_2017.jpg.jpg", f"{kind}/12_0_2_2017.jpg.jpg", ""),
        (f"{kind}/b/00001.png", f"{kind}/b/00001.png", ""),
        (f"{kind}/notes.txt", "of a kind that is not read"),
    ]


def test_files_that_are_not_used_are_told(config, tmp_path):
    make_files(tmp_path, "a.png", "b.HEIC", "c.NEF", "d.jxl", "e.mp4", ".hidden", "Thumbs.db")
    told = dict(one for one in described(f"folder={tmp_path}", config) if len(one) == 2)
    assert [name.rpartition("/")[2] for name in told] == ["Thumbs.db", "c.NEF", "d.jxl", "e.mp4"]
    assert told["folder/c.NEF"].startswith("camera raw") and told["folder/d.jxl"].startswith("this kind of image")
    videos = [f"clip{suffix}" for suffix in (".mp4", ".MTS", ".ts", ".3gp", ".wmv", ".flv", ".ogv")]
    make_files(tmp_path / "videos", "a.png", *videos)
    told = dict(one for one in described(f"folder={tmp_path / 'videos'}", config) if len(one) == 2)
    assert told == {f"folder/{name}": "a video; to use it, save frames of it as photos" for name in videos}
    make_files(tmp_path / "linked", "e.png")
    make_files(tmp_path / "in", "a.png", ".trash/b.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "linked")
    reason = "a link to a folder; give that folder itself"
    assert [one[:2] for one in described(f"ffhq={tmp_path / 'in'}", config)] == [
        ("ffhq/a.png", "ffhq/a.png"),
        ("ffhq/link", reason),
    ]
    # In two folders, they may have one name.
    make_files(tmp_path / "other", "z.png", "Thumbs.db")
    make_files(tmp_path / "another", "y.png", "Thumbs.db")
    both = list(list_all_photos([f"ffhq={tmp_path / 'other'}", f"ffhq={tmp_path / 'another'}"], config))
    assert [one.id for one in both] == ["ffhq/z.png", "ffhq/Thumbs.db", "ffhq/y.png", "ffhq/Thumbs.db"]


def described_pairs(folder, config):
    found = list(list_photos(f"pairs={folder}", config))
    pairs = [
        (
            one.id,
            one.identity,
            *(Path(path).relative_to(folder).as_posix() for path in (one.path, one.masked, one.region) if path),
            one.mask_type,
        )
        for one in found
        if isinstance(one, Photo)
    ]
    return pairs, [(one.id, one.reason) for one in found if isinstance(one, Skipped)]


def test_pairs_as_maskthe_face_writes_them(config, tmp_path):
    make_files(
        tmp_path, "a.jpg", "a_surgical.jpg", "a_cloth_green.png", "in/b_c.jpg", "in_masked/b_c_KN95.jpg", "d.jpg", "e_n95.jpg"
    )
    pairs, left_out = described_pairs(tmp_path, config)
    assert pairs == [
        ("pairs/a_cloth_green.png", "pairs/a.jpg", "a.jpg", "a_cloth_green.png", "cloth"),
        ("pairs/a_surgical.jpg", "pairs/a.jpg", "a.jpg", "a_surgical.jpg", "surgical"),
        ("pairs/in_masked/b_c_KN95.jpg", "pairs/in/b_c.jpg", "in/b_c.jpg", "in_masked/b_c_KN95.jpg", "kn95"),
    ]
    reason = "there is no other of its pair, such as x.jpg and x_surgical.jpg"
    assert left_out == [("pairs/d.jpg", reason), ("pairs/e_n95.jpg", reason)]


def test_pairs_in_folders_of_the_same_names(config, tmp_path):
    make_files(
        tmp_path, "real/a.jpg", "masked/a.png", "mask/a.png", "real/in/b.jpg", "masked/in/b.jpg", "real/c.jpg", "masked/d.jpg"
    )
    make_files(tmp_path, "masked/d.png", "mask/e.png", "extra/a.jpg")
    pairs, left_out = described_pairs(tmp_path, config)
    assert pairs == [
        ("pairs/masked/a.png", "pairs/real/a.jpg", "real/a.jpg", "masked/a.png", "mask/a.png", "pair"),
        ("pairs/masked/in/b.jpg", "pairs/real/in/b.jpg", "real/in/b.jpg", "masked/in/b.jpg", "pair"),
    ]
    assert sorted(left_out) == [
        ("pairs/extra/a.jpg", "in none of the folders real, masked and mask"),
        ("pairs/mask/e.png", "there is none of this name in masked/"),
        ("pairs/masked/d.jpg", "there is none of this name in real/"),
        ("pairs/masked/d.png", "has the name of d.jpg"),
        ("pairs/real/c.jpg", "there is none of this name in masked/"),
    ]


def test_kdef(config, tmp_path):
    make_files(tmp_path, "AF01/AF01HAS.JPG", "BF01/BF01AFS.JPG", "AM10/AM10NEHL.JPG", "AM10/AM10XXS.JPG")
    described_photos = described(f"kdef={tmp_path}", config)
    assert described_photos[0] == ("kdef/AF01/AF01HAS.JPG", "kdef_F01", "happy")
    assert described_photos[1] == ("kdef/AM10/AM10NEHL.JPG", "angle HL is not in data.kdef_angles")
    assert "not named" in described_photos[2][1]
    assert described_photos[3] == ("kdef/BF01/BF01AFS.JPG", "kdef_F01", "afraid")
    config.data.kdef_angles = ("HL", "FR")
    assert [one.id for one in list_photos(f"kdef={tmp_path}", config) if isinstance(one, Photo)] == ["kdef/AM10/AM10NEHL.JPG"]
    config.data.kdef_angles = ("S", "XL", 1, ("S",))
    with pytest.raises(UserError, match=r"has XL, 1, \('S',\); the angles are FL, HL, S, HR, FR"):
        list(list_photos(f"kdef={tmp_path}", config))


def test_celeba_by_names(config, tmp_path):
    make_files(tmp_path, "12_000007.jpg", "somebody.jpg")
    assert described(f"celeba={tmp_path}", config) == [
        ("celeba/12_000007.jpg", "celeba_12", ""),
        ("celeba/somebody.jpg", "celeba/somebody.jpg", ""),
    ]


@pytest.mark.parametrize("name", ["000001.jpg", "0.jpg", "29999.jpg"])
def test_celeba_without_its_table(name, config, tmp_path):
    make_files(tmp_path, name)
    with pytest.raises(UserError, match=f"put CelebA's identity_CelebA.txt into {tmp_path}"):
        described(f"celeba={tmp_path}", config)


@pytest.mark.parametrize("place", ["Img/img_align_celeba", "Img", ".", "Anno", "Img/Anno"])
@pytest.mark.parametrize("relative", [False, True])
def test_celeba_by_table(place, relative, config, tmp_path, monkeypatch):
    folder = make_files(tmp_path / "Img/img_align_celeba", "000001.jpg", "000002.png", "000003.jpg")
    table = make_files(tmp_path, f"{place}/identity_CelebA.txt") / place / "identity_CelebA.txt"
    table.write_text("000001.jpg 2880\n000002.jpg 2880\n", encoding="utf-8-sig" if relative else "utf-8")
    monkeypatch.chdir(folder)
    assert described(f"celeba={'.' if relative else folder}", config) == [
        ("celeba/000001.jpg", "celeba_2880", ""),
        ("celeba/000002.png", "celeba_2880", ""),
        ("celeba/000003.jpg", "not in identity_CelebA.txt"),
    ]


def test_expressions(config, tmp_path):
    make_files(tmp_path, "01_angry_1103.jpg", "group.jpg")
    assert described(f"expressions={tmp_path}", config) == [
        ("expressions/01_angry_1103.jpg", "performer_01", "angry"),
        ("expressions/group.jpg", "not named <performer>_<expression>_<n>"),
    ]


def test_folder_with_a_table(config, tmp_path):
    make_files(tmp_path, "a/1.jpg", "a/2.jpg", "3.jpg", "unlisted.jpg")
    (tmp_path / "faces.csv").write_text(
        "file,source,identity,expression,age\na/1.jpg,a,ann,happy,3\n./a/2.jpg,a,,,\n3.jpg,,,,\na/4.jpg,a,ann,,\na/1.jpg,a,bob,,\n../5.jpg,a,,,\n"
    )
    assert described(f"folder={tmp_path}", config) == [
        ("a/1.jpg", "ann", "happy"),
        ("a/2.jpg", "a/2.jpg", ""),
        ("folder/3.jpg", "folder/3.jpg", ""),
        ("a/4.jpg", "the file is missing"),
        ("a/a/1.jpg", "an earlier row of faces.csv has it, too"),
        ("a/../5.jpg", f"not a file below {tmp_path}"),
        ("folder/unlisted.jpg", "not in faces.csv"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "file, identity\na.jpg, anna\nb.jpg, bo\n",
        'File ,\tIDENTITY\n a.jpg,"anna"\nb.jpg , "bo" ,more\n',
    ],
)
def test_spaces_and_capital_letters_in_a_table(text, config, tmp_path):
    """Otherwise, photos of one person would be taken for those of several, and get into several splits."""
    make_files(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "faces.csv").write_text(text)
    assert described(f"folder={tmp_path}", config) == [("folder/a.jpg", "anna", ""), ("folder/b.jpg", "bo", "")]


def test_a_listed_photo_may_have_any_suffix(config, tmp_path):
    make_files(tmp_path, "in/a.jpg_large", "b.jpg", "c.jpg_large")
    (tmp_path / "faces.csv").write_text("file\n./in/a.jpg_large\nb.jpg\n")
    assert described(f"folder={tmp_path}", config) == [
        ("folder/in/a.jpg_large", "folder/in/a.jpg_large", ""),
        ("folder/b.jpg", "folder/b.jpg", ""),
        ("folder/c.jpg_large", "of a kind that is not read"),
    ]


@pytest.mark.parametrize("table", [False, True])
def test_the_contact_sheet_of_a_data_set_is_no_photo(table, config, tmp_path):
    """As when a data set in the folder of the photos is built again."""
    beside = [f"data/{name}" for name in ("card.json", "config.json", "skipped.csv", "contact_sheet.png")]
    make_files(tmp_path, "a.png", "other/contact_sheet.png", *beside, "data/b.png")
    if table:
        (tmp_path / "faces.csv").write_text("file\na.png\n")
    ids = [one.id for one in list_photos(f"folder={tmp_path}", config)]
    assert ids == ["folder/a.png", "folder/data/b.png", "folder/other/contact_sheet.png"]


@pytest.mark.parametrize("text", ["", "name,source\nx.jpg,a\n", 'file,who\nx.jpg,"a\ny.jpg,b\nz.jpg,c\n', b"file\n\xff\xfe\n"])
def test_faulty_table(text, config, tmp_path):
    (tmp_path / "faces.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match="faces.csv"):
        list(list_photos(f"folder={tmp_path}", config))


def test_rendered(config):
    photos = list(list_photos("rendered=3", config))
    assert [photo.id for photo in photos] == ["rendered/000000", "rendered/000001", "rendered/000002"]
    assert len(list(list_photos("rendered", config))) == 1000
    picture = photos[1].read()
    assert picture.shape == (320, 320, 3)
    assert picture.dtype == np.uint8


def test_a_photo_is_read_when_asked(config, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 5, 3), (255, 128, 0), np.uint8))
    make_files(tmp_path, "b.jpg")
    photo, broken = list_photos(f"ffhq={tmp_path}", config)
    np.testing.assert_array_equal(photo.read(), np.full((4, 5, 3), (0, 128, 255), np.uint8))
    with pytest.raises(UserError, match="not a readable picture"):
        broken.read()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("lfw=x", "no kind 'lfw'; the kinds are ffhq, "),
        ("ffhq", "give a folder, as in ffhq=FOLDER"),
        ("ffhq=nowhere", "nowhere is not a folder"),
        ("ffhq=ftp://host/faces", "ftp://host/faces cannot be used; give a folder, or a URL that begins with gs:// or s3://"),
        ("rendered=-3", "give the number of faces"),
        ("rendered=0", "give the number of faces"),
    ],
)
def test_faulty_sources(source, message, config):
    with pytest.raises(UserError, match=message):
        list(list_photos(source, config))


def test_a_folder_that_cannot_be_read(config, tmp_path, monkeypatch):
    def walk(folder):
        raise PermissionError(13, "Permission denied", f"{folder}/private")

    monkeypatch.setattr("maskgan_jax.data.build.sources.walk", walk)
    with pytest.raises(UserError, match=rf"^cannot read {tmp_path}/private \(Permission denied\); check its permissions$"):
        list(list_photos(f"ffhq={tmp_path}", config))


def test_all_photos_have_ids_of_their_own(config, tmp_path):
    make_files(tmp_path, "x/1.jpg", "y/1.jpg", "z/odd.jpg")
    photo, skipped = list_all_photos([f"ffhq={tmp_path / 'x'}", f"kdef={tmp_path / 'z'}"], config)
    assert (photo.id, type(photo)) == ("ffhq/1.jpg", Photo)
    assert skipped == Skipped("kdef/odd.jpg", "kdef", "not named as KDEF's photos are (AF01HAS.JPG)")
    with pytest.raises(UserError, match="two photos are called ffhq/1.jpg"):
        list(list_all_photos([f"ffhq={tmp_path / 'x'}", f"ffhq={tmp_path / 'y'}"], config))


def test_a_subfolder_with_the_name_of_the_source(config, tmp_path):
    """It is not repeated in the ids, unless two photos would have the same."""
    make_files(tmp_path, "a.jpg", "ffhq/a.jpg", "ffhq/b.jpg", "ffhq/ffhq/a.jpg")
    photos = list(list_all_photos([f"ffhq={tmp_path}"], config))
    ids = {Path(photo.path).relative_to(tmp_path).as_posix(): photo.id for photo in photos}
    assert ids == {
        "a.jpg": "ffhq/a.jpg",
        "ffhq/a.jpg": "ffhq/ffhq/a.jpg",
        "ffhq/b.jpg": "ffhq/b.jpg",
        "ffhq/ffhq/a.jpg": "ffhq/ffhq/ffhq/a.jpg",
    }
    assert [photo.identity for photo in photos] == [photo.id for photo in photos]
    with pytest.raises(UserError, match="two photos are called ffhq/a.jpg"):
        list(list_all_photos([f"ffhq={tmp_path}"] * 2, config))


def test_a_photo_of_gigabytes_is_not_read(tmp_path):
    (tmp_path / "large.png").touch()
    os.truncate(tmp_path / "large.png", 3 * 10**9)
    with pytest.raises(UserError, match=r"not a readable picture \(more than 2100 megabytes"):
        Photo("large.png", "folder", "", "", str(tmp_path / "large.png")).read()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_files_without_an_end(make, tmp_path):
    """As an archive can hold them: a pipe that nobody writes to, a link to a device."""
    make(tmp_path / "a.png")
    with pytest.raises(UserError, match="it is a pipe or a device"):
        Photo("a.png", "folder", "", "", str(tmp_path / "a.png")).read()


@pytest.mark.parametrize("target", ["faces.csv", "nowhere.csv"])
def test_a_table_that_is_a_link_to_nothing(target, tmp_path, config):
    (tmp_path / "a.png").touch()
    (tmp_path / "faces.csv").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=r"faces\.csv"):
        list(list_all_photos([f"folder={tmp_path}"], config))
