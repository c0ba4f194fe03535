"""Folders of images: the same faces everywhere, one size, nothing from elsewhere; the table of expressions."""

import shutil

import numpy as np
import pytest

from maskgan_jax.errors import UserError
from maskgan_jax.files import read_image, write_png
from maskgan_jax.metrics.baselines import telea
from maskgan_jax.study.images import find_images, read_expressions


@pytest.fixture
def folder(study_images, tmp_path):
    """A copy of the images, to be spoiled."""
    return shutil.copytree(study_images, tmp_path / "faces")


def find(folder):
    return find_images({"ours": folder / "ours"}, folder / "real", folder / "masked", folder / "mask")


def test_all_methods_and_their_pixels(images, study_images):
    assert images.methods == ["real", "ours", "masked", "telea"]
    assert len(images.faces) == 24
    face = images.faces[5]
    masked, mask = read_image(study_images / f"masked/{face}.png"), read_image(study_images / f"mask/{face}.png", grey=True)
    np.testing.assert_array_equal(images.read(face, "masked"), masked)
    np.testing.assert_array_equal(images.read(face, "telea"), telea(masked, mask))
    digests = images.digests()
    assert len(digests) == 24 * 4 and len(set(digests.values())) == 24 * 4


def test_anchors_may_be_folders_of_their_own(study_images):
    given = {"masked": study_images / "masked", "telea": study_images / "ours"}
    assert find_images(given, study_images / "real").methods == ["real", "masked", "telea"]


def test_suffixes_do_not_matter(folder):
    (folder / "ours" / "secret-name-03.png").rename(folder / "ours" / "secret-name-03.jpeg")
    assert len(find(folder).digests()) == 96


@pytest.mark.parametrize("kind", ["ours", "masked", "mask", "real"])
def test_a_missing_face(folder, kind):
    (folder / kind / "secret-name-07.png").unlink()
    with pytest.raises(UserError, match=rf"the folder of '{kind}' lacks faces that .* has: secret-name-07; every face"):
        find(folder)


def test_an_image_of_another_size(folder):
    write_png(folder / "ours" / "secret-name-02.png", np.zeros((64, 65, 3), np.uint8))
    with pytest.raises(UserError, match="secret-name-02 of 'ours' has 65 x 64 px, others have 64 x 64; save all"):
        find(folder).digests()


def test_a_mask_of_another_size(folder):
    write_png(folder / "mask" / "secret-name-02.png", np.zeros((60, 64), np.uint8))
    with pytest.raises(UserError, match="the mask .*secret-name-02.png has another size than its image"):
        find(folder).digests()


@pytest.mark.parametrize("side", [16, 2049])
def test_images_that_are_too_small_or_too_large(side, tmp_path):
    for method in ("real", "ours"):
        write_png(tmp_path / method / "a.png", np.zeros((side, side, 3), np.uint8))
    with pytest.raises(UserError, match=f"the images have {side} x {side} px; give images of 32 to 2048"):
        find_images({"ours": tmp_path / "ours"}, tmp_path / "real").digests()


def test_a_broken_image(folder):
    (folder / "ours" / "secret-name-02.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match="secret-name-02.png is not a readable picture"):
        find(folder).digests()


def test_a_link_to_itself(folder):
    path = folder / "ours" / "secret-name-04.png"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(UserError, match="secret-name-04"):
        find(folder).digests()


def test_a_link_to_elsewhere_is_refused(folder, tmp_path):
    shutil.move(folder / "ours" / "secret-name-04.png", tmp_path / "private.png")
    (folder / "ours" / "secret-name-04.png").symlink_to(tmp_path / "private.png")
    with pytest.raises(UserError, match="secret-name-04 in .*ours is a link to a file elsewhere"):
        find(folder)


def test_a_name_that_cannot_be_shown(folder):
    for kind in ("real", "ours", "masked", "mask"):
        shutil.copy(folder / kind / "secret-name-04.png", f"{folder / kind}/bad\udcff.png".encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"the name 'bad\\udcff' in .* has characters that cannot be shown"):
        find(folder)


@pytest.mark.parametrize("name", ["ou\udcffrs", "ou\x1b[2Jrs", "ours\n"])
def test_a_name_of_a_method_that_cannot_be_shown(study_images, name):
    with pytest.raises(UserError) as raised:
        find_images({name: study_images / "ours"}, study_images / "real")
    assert str(raised.value) == f"the name {name!r} of a method has characters that cannot be shown; give it another name"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)"])
def test_names_that_a_spreadsheet_would_compute(study_images, tmp_path, name):
    message = f"the name {name!r} begins with {name[0]!r}: spreadsheets would compute it; give it another name"
    with pytest.raises(UserError) as of_a_method:
        find_images({name: study_images / "ours"}, study_images / "real")
    for folder in ("real", "ours"):
        write_png(tmp_path / folder / f"{name}.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UserError) as of_a_face:
        find_images({"ours": tmp_path / "ours"}, tmp_path / "real")
    assert str(of_a_method.value) == str(of_a_face.value) == message


@pytest.mark.parametrize(
    ("methods", "masked", "mask", "message"),
    [
        ({"real": "ours"}, None, None, "the name 'real' is for the real faces"),
        ({"masked": "masked"}, "masked", None, "'masked' is given twice"),
        ({"ours": "ours"}, None, "mask", "give --masked, too"),
        ({"telea": "ours"}, "masked", "mask", "'telea' has a folder already"),
        ({}, None, None, "nothing to compare"),
        ({"ours": "nowhere"}, None, None, "nowhere is not a folder"),
    ],
)
def test_folders_that_do_not_go_together(study_images, methods, masked, mask, message):
    given = {name: study_images / folder for name, folder in methods.items()}
    with pytest.raises(UserError, match=message):
        find_images(given, study_images / "real", masked and study_images / masked, mask and study_images / mask)


def test_expressions_match_names_without_suffix(tmp_path):
    (tmp_path / "e.csv").write_text("\ufeffnumber,file,expression\n1,a/one.JPG,Happy\n2,two.png,sad \n3,other.png,disgusted\n")
    assert read_expressions(tmp_path / "e.csv", ["a/one", "two"]) == {"a/one": "happy", "two": "sad"}


def test_rows_without_a_file_do_not_matter(tmp_path):
    """Such as spreadsheets write after the last one."""
    (tmp_path / "e.csv").write_text("file,expression\none.png,happy\n,\n ,sad\n,happy\n")
    assert read_expressions(tmp_path / "e.csv", ["one"]) == {"one": "happy"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs a first line that names the columns"),
        ("file;expression\none.png;happy\n", "needs a first line that names the columns"),
        ("file,expression\none.png\n", "has no expression for one; each face needs one of neutral, happy"),
        ("file,expression\ntwo.png,happy\n", "has no expression for one"),
        ("file,expression\none.png,disgusted\n", "calls one 'disgusted'; each face"),
        ("file,expression\none.png,happy\none.jpg,sad\n", "line 3: one.jpg has two expressions"),
        ('file,expression\none.png,"happy\n', "is not a table of comma-separated values"),
        (b"file,expression\none.png,\xff\xfe\n", "is not a table of comma-separated values"),
        ("file,expression\none\0.png,happy\n", "."),
    ],
)
def test_a_broken_table_of_expressions(tmp_path, text, message):
    (tmp_path / "e.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        read_expressions(tmp_path / "e.csv", ["one"])


def test_a_missing_table_of_expressions(tmp_path):
    with pytest.raises(UserError, match="cannot read .*nothing.csv"):
        read_expressions(tmp_path / "nothing.csv", ["one"])
