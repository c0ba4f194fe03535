import errno
import io
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from maskgan_jax.data.rendered.faces import render_face
from maskgan_jax.data.window import Window
from maskgan_jax.files import find_images, read_image, write_png
from maskgan_jax.unmasking import photos

from .conftest import Green, Painter, is_green, masked_face


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


class LowerHalf(Green):
    """Stands in for a segmentation network: the lower half is a mask."""

    def __call__(self, pictures):
        found = np.zeros(pictures.shape[:3], np.float32)
        found[:, found.shape[1] // 2 :] = 1
        return found


def test_one_photo(run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    code, out, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    assert (code, err.strip()) == (0, "")
    assert out == f"{tmp_path / 'a.png'}: 1 mask removed\nresults are in {tmp_path / 'out'}\n"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "a.png.json"]
    assert not is_green(read_image(tmp_path / "out" / "a.png"))[100:200, 100:200].any()


def test_what_is_reported_of_each_face(run, couple, unmasker, tmp_path):
    write_png(tmp_path / "a.png", couple)
    code, out, _ = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    assert code == 0 and "a.png: 1 mask removed, 1 face without a mask" in out
    told = json.loads((tmp_path / "out" / "a.png.json").read_text())
    assert (told["width"], told["height"], told["region"], told["synthetic"]) == (700, 400, "found", True)
    assert [face["done"] for face in told["faces"]] == ["mask removed", "left alone"]
    faces = unmasker.find(couple)
    for one, face in zip(told["faces"], faces, strict=True):
        np.testing.assert_allclose(one["box"], face.box, atol=0.05)
        np.testing.assert_allclose(one["landmarks"], face.landmarks, atol=0.05)
        assert one["score"] == pytest.approx(face.score, abs=1e-3) and one["cover"] == pytest.approx(face.cover, abs=1e-3)


HALVES = slice(0, 275), slice(325, 700)


@pytest.fixture
def two_masked(tmp_path):
    """A photo of two masked people, the larger one on the right."""
    photo = np.full((400, 700, 3), 128, np.uint8)
    photo[:250, :250] = masked_face(1, 250)
    photo[:, 300:] = masked_face(0, 400)
    write_png(tmp_path / "a.png", photo)
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("flag", "line", "redrawn"),
    [
        ("--faces=all", "2 masks removed", [True, True]),
        ("--faces=largest", "1 mask removed, 1 face smaller than those asked for", [True, False]),
        ("--faces=2", "2 masks removed", [True, True]),
        ("--min_face=150", "1 mask removed, 1 face too small", [True, False]),
        ("--min_face=500", "left as it is, 2 faces too small", [False, False]),
    ],
)
def test_which_faces_are_redrawn(flag, line, redrawn, two_masked, run):
    out = two_masked.parent / "out"
    code, printed, _ = run(two_masked, flag, f"--out={out}")
    assert code == 0 and f"a.png: {line}\n" in printed
    told = json.loads((out / "a.png.json").read_text())["faces"]
    assert [face["done"] == "mask removed" for face in told] == redrawn
    assert [face["left_out"] is None for face in told] == redrawn
    assert all(face["masked"] for face in told)
    green = [is_green(read_image(path))[:, half].sum() for path in (out / "a.png", two_masked) for half in HALVES]
    assert [green[1] < 0.05 * green[3], green[0] < 0.05 * green[2]] == redrawn


@pytest.mark.parametrize(("height", "hides_little"), [(70, False), (10, True)])
def test_a_mask_on_one_of_two_masked_people(height, hides_little, two_masked, run, tmp_path):
    region = np.zeros((400, 700), np.uint8)
    region[250 : 250 + height, 450:550] = 255
    write_png(tmp_path / "region.png", region)
    code, printed, _ = run(two_masked, f"--mask={tmp_path / 'region.png'}", f"--out={tmp_path / 'out'}")
    assert code == 0 and "a.png: 1 mask removed, 1 face with a mask outside the given one" in printed
    one, other = json.loads((tmp_path / "out" / "a.png.json").read_text())["faces"]
    assert (one["done"], one["masked"], one["left_out"]) == ("mask removed", True, None)
    assert (other["done"], other["masked"], other["left_out"]) == ("left alone", True, None)
    assert (one["cover"] < 0.3) == hides_little and other["cover"] > 0.3


@pytest.mark.parametrize(
    ("flag", "reason"), [("--faces=largest", "smaller than those asked for"), ("--min_face=150", "too small")]
)
def test_a_mask_on_a_face_that_is_left_out(flag, reason, two_masked, run, tmp_path):
    region = np.zeros((400, 700), np.uint8)
    region[150:200, 90:160] = 255
    write_png(tmp_path / "region.png", region)
    code, _, err = run(two_masked, flag, f"--mask={tmp_path / 'region.png'}", f"--out={tmp_path / 'out'}")
    assert code == 1 and f"a.png: the face under the given mask is {reason}; change --faces or --min_face" in err
    write_png(tmp_path / "region.png", np.roll(region, (220, -90), axis=(0, 1)))  # In a corner, on no face.
    code, _, err = run(two_masked, flag, f"--mask={tmp_path / 'region.png'}", f"--out={tmp_path / 'out'}")
    assert code == 1 and "a.png: the given mask is on none of the faces that were found" in err


def test_a_photo_without_masks_is_copied(run, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(render_face(1, seed=0, size=250).image).save(path)
    code, out, _ = run(path, f"--out={tmp_path / 'out'}")
    assert code == 0 and "a.jpg: left as it is, 1 face without a mask" in out
    assert (tmp_path / "out" / "a.jpg").read_bytes() == path.read_bytes()
    assert not json.loads((tmp_path / "out" / "a.jpg.json").read_text())["synthetic"]


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("channels", [3, 4])
def test_avif_with_more_than_8_bits_keeps_them(bits, channels, run, portrait, tmp_path):
    """And its metadata: OpenCV writes such files, Pillow the others."""
    most = 2**bits - 1
    deep = np.dstack([portrait[..., ::-1], np.full(portrait.shape[:2], 200, np.uint8)])[..., :channels]
    deep = (deep.astype(int) * most // 255).astype(np.uint16)
    across = np.arange(300)[None, :]
    deep[:20, :300, :3] = (across * most // 3000)[..., None]  # Finer steps than 8 bits have.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Camera", 3
    metadata = {cv2.IMAGE_METADATA_ICCP: profile, cv2.IMAGE_METADATA_EXIF: exif.tobytes().removeprefix(b"Exif\0\0")}
    contents = [np.frombuffer(content, np.uint8) for content in metadata.values()]
    settings = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100]
    _, data = cv2.imencodeWithMetadata(".avif", deep[::-1, ::-1], list(metadata), contents, settings)
    (tmp_path / "a.avif").write_bytes(data.tobytes())
    code, out, err = run(tmp_path / "a.avif", f"--out={tmp_path / 'out'}")
    assert code == 0 and "a.avif: 1 mask removed\n" in out, err
    result = photos.read_photo(tmp_path / "out" / "a.avif")
    assert result.notes == () and result.info["bits"] == bits and result.info["icc_profile"] == profile
    assert result.pixels.dtype == np.uint16 and result.pixels.shape[2] == channels
    before = photos.read_photo(tmp_path / "a.avif")
    inside = slice(2, 14), slice(4, 290), slice(3)
    np.testing.assert_allclose(result.pixels[inside] / 65535, before.pixels[inside] / 65535, atol=0.01)
    assert len(np.unique(result.pixels[10, :300, 1])) > 50  # 8 bits have 26 of these levels.
    if channels == 4:
        alpha = result.pixels[..., 3] / 65535
        assert np.abs(alpha[:20] - 200 / 255).max() < 0.01 and (alpha > 0.99).any()  # Opaque where something was drawn.
    with Image.open(tmp_path / "out" / "a.avif") as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Camera" and ExifTags.Base.Orientation not in exif
        assert b"WithTrainedAlgorithmicMedia" in image.info["xmp"]
        rgb = np.asarray(image.convert("RGB"))
    green = [(np.abs(image.astype(int) - (20, 220, 40)).max(axis=-1) < 60).sum() for image in (portrait, rgb)]
    assert green[1] < 0.05 * green[0]


def test_grey_avif_becomes_8_bits(run, portrait, tmp_path):
    grey = np.dot(portrait, (0.3, 0.6, 0.1))
    cv2.imwrite(str(tmp_path / "a.avif"), (grey * 4).astype(np.uint16), [cv2.IMWRITE_AVIF_DEPTH, 10])
    code, out, err = run(tmp_path / "a.avif", f"--out={tmp_path / 'out'}", "--metadata=drop")
    notes = json.loads((tmp_path / "out" / "a.avif.json").read_text())["notes"]
    assert code == 0 and notes == ["10 bits a channel became 8"], err
    result = photos.read_photo(tmp_path / "out" / "a.avif")
    assert result.pixels.shape[2] == 1 and np.abs(result.pixels[..., 0] - grey).mean() < 3


def test_folders_and_all_there_is_to_be_written(run, portrait, couple, tmp_path):
    write_png(tmp_path / "in" / "a.png", portrait)
    (tmp_path / "in" / "inner").mkdir()
    Image.fromarray(couple).save(tmp_path / "in" / "inner" / "b.jpg", quality=95)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    out = tmp_path / "out"
    code, told, _ = run(tmp_path / "in", f"--out={out}", "--side_by_side", "--crops", "--regions")
    assert code == 0 and f"the faces, before and after, are in {out / 'contact_sheet.png'}" in told
    names = {path.relative_to(out).as_posix() for path in find_images(out)}
    assert names == {
        "a.png",
        "inner/b.jpg",
        "contact_sheet.png",
        "side_by_side/a.png.png",
        "side_by_side/inner/b.jpg.png",
        "regions/a.png.png",
        "regions/inner/b.jpg.png",
        "crops/a.png.0_before.png",
        "crops/a.png.0_after.png",
        "crops/inner/b.jpg.0_before.png",
        "crops/inner/b.jpg.0_after.png",
    }
    result = read_image(out / "a.png")
    np.testing.assert_array_equal(read_image(out / "side_by_side" / "a.png.png"), np.concatenate([portrait, result], axis=1))
    region = read_image(out / "regions" / "a.png.png", grey=True)
    assert (region[(result != portrait).any(axis=-1)] == 255).all()
    before, after = (read_image(out / "crops" / f"a.png.0_{when}.png") for when in ("before", "after"))
    assert is_green(before).sum() > 300 > is_green(after).sum()


def test_given_masks(run, couple, tmp_path):
    write_png(tmp_path / "in" / "a.png", couple)
    mask = np.zeros(couple.shape[:2], np.uint8)
    mask[130:200, 80:170] = 255
    write_png(tmp_path / "masks" / "a.png", mask)
    for number, given in enumerate((tmp_path / "masks", tmp_path / "masks" / "a.png")):
        code, _, _ = run(tmp_path / "in" / "a.png", f"--out={tmp_path / str(number)}", f"--mask={given}")
        assert code == 0
        result = read_image(tmp_path / str(number) / "a.png")
        np.testing.assert_array_equal(result[mask == 0], couple[mask == 0])
        assert (result[mask > 0] != couple[mask > 0]).any(axis=-1).mean() > 0.9
        assert json.loads((tmp_path / str(number) / "a.png.json").read_text())["region"] == "given"


class Copier(Painter):
    """Stands in for a generator whose faces look as the photo does."""

    def __call__(self, pictures, masks):
        return pictures


def test_the_mask_is_what_was_redrawn_even_if_nothing_changed(run, portrait, unmasker, tmp_path, monkeypatch):
    monkeypatch.setattr(unmasker.inpainter, "generator", Copier())
    picture = np.concatenate([portrait, portrait], axis=1)
    write_png(tmp_path / "a.png", picture)
    assert run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--regions")[0] == 0
    _, faces = unmasker.unmask(picture)
    assert [face.after is None for face in faces] == [False, False]
    whole = Window(0, 0, *picture.shape[1::-1])
    regions = [face.square.put_mask_back(face.mask, whole) for face in faces]
    region = read_image(tmp_path / "out" / "regions" / "a.png.png", grey=True)
    assert set(np.unique(region)) == {0, 255}
    assert region[is_green(picture)].mean() > 0.99 * 255
    np.testing.assert_array_equal(region, np.maximum(*regions))


@pytest.mark.parametrize(
    ("height", "notes"), [(10, ["3 % of the given mask left as it is (outside the squares of the redrawn faces)"]), (2, [])]
)
def test_of_a_given_mask_that_which_is_on_faces_was_redrawn(height, notes, run, couple, unmasker, tmp_path, monkeypatch):
    """What stays is told, from 1 % on."""
    monkeypatch.setattr(unmasker.inpainter, "generator", Copier())
    write_png(tmp_path / "in" / "a.png", couple)
    mask = np.zeros(couple.shape[:2], np.uint8)
    mask[130:200, 80:170] = 255
    on_face = mask.copy()
    mask[-height:, :20] = 255  # In a corner below it.
    write_png(tmp_path / "masks" / "a.png", mask)
    flags = f"--out={tmp_path / 'out'}", f"--mask={tmp_path / 'masks'}", "--regions"
    code, told, _ = run(tmp_path / "in" / "a.png", *flags)
    assert code == 0 and "".join(f", {note}" for note in notes) + "\n" in told and ("given mask" in told) == bool(notes)
    assert json.loads((tmp_path / "out" / "a.png.json").read_text())["notes"] == notes
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "regions" / "a.png.png", grey=True), on_face)


@pytest.fixture
def folder_of_three(portrait, tmp_path, monkeypatch):
    """Photos a, b and c, and what puts a function in the place of unmask_photo for b."""
    for name in "abc":
        write_png(tmp_path / "in" / f"{name}.png", portrait)
    real = photos.unmask_photo

    def replace(function):
        def unmask_photo(job, *arguments):
            return function() if job.path.name == "b.png" else real(job, *arguments)

        monkeypatch.setattr(photos, "unmask_photo", unmask_photo)

    return replace


@pytest.mark.parametrize("error", [ValueError("not\nthat value"), RuntimeError("INTERNAL"), KeyError("x")])
def test_whatever_one_photo_raises_the_others_are_unmasked(error, folder_of_three, run, tmp_path):
    def fail():
        raise error

    folder_of_three(fail)
    code, told, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 1 and "1 of 3 inputs could not be used" in told
    (line,) = err.strip().splitlines()
    what = f"{type(error).__name__}: {' '.join(str(error).split())}".strip()
    assert line == f"maskgan unmask: skipped: {tmp_path / 'in' / 'b.png'}: {what}"
    assert [(tmp_path / "out" / f"{name}.png").exists() for name in "abc"] == [True, False, True]


@pytest.mark.parametrize("kind", [None, ValueError])
def test_ctrl_c_ends_the_batch_whatever_a_library_makes_of_it(kind, folder_of_three, run, tmp_path):
    def interrupt():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            if kind:
                raise kind("while checking equality") from error
            raise

    folder_of_three(interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Tests in the background ignore it.
    try:
        code, _, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and err.strip() == "maskgan unmask: interrupted"
    assert not (tmp_path / "out" / "c.png").exists()


def test_metadata_and_label(run, portrait, tmp_path):
    Image.fromarray(portrait).save(tmp_path / "a.jpg", comment="ours", quality=95)
    for flags, labelled in ((["--no_label"], False), (["--metadata=drop"], True)):
        out = tmp_path / flags[0]
        assert run(tmp_path / "a.jpg", f"--out={out}", *flags)[0] == 0
        assert (b"maskgan_jax" in (out / "a.jpg").read_bytes()) == labelled


def test_metadata_of_a_photo_that_is_left_as_it_is(run, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "somebody"
    exif[ExifTags.Base.Orientation] = 6
    face = render_face(3, seed=0, size=320).image
    Image.fromarray(np.rot90(face).copy()).save(tmp_path / "a.png", exif=exif)
    for metadata, artist in (("keep", "somebody"), ("drop", None)):
        out = tmp_path / metadata
        assert run(tmp_path / "a.png", f"--out={out}", f"--metadata={metadata}")[1].startswith(
            f"{tmp_path / 'a.png'}: left as it is"
        )
        np.testing.assert_array_equal(read_image(out / "a.png"), face)
        with Image.open(out / "a.png") as image:
            assert image.getexif().get(ExifTags.Base.Artist) == artist
    assert (tmp_path / "keep" / "a.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert b"maskgan_jax" not in (tmp_path / "drop" / "a.png").read_bytes()


def test_results_are_replaced_only_when_asked(run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    arguments = (tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    write_png(tmp_path / "out" / "a.png", portrait)
    before = (tmp_path / "out" / "a.png").read_bytes()
    code, _, err = run(*arguments)
    assert code == 1 and "out/a.png is there already; give another folder as --out, or --overwrite" in err
    assert (tmp_path / "out" / "a.png").read_bytes() == before
    assert run(*arguments, "--overwrite")[0] == 0
    assert (tmp_path / "out" / "a.png").read_bytes() != before


def test_what_is_replaced_leaves_nothing_behind(run, portrait, tmp_path):
    """Such as the crop of a face that is not found any more; what another photo has stays."""
    write_png(tmp_path / "a.png", portrait)
    crops = tmp_path / "out" / "crops"
    for name in ("a.png.7_before.png", "b.png.7_before.png"):
        write_png(crops / name, portrait)
    assert run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--crops", "--overwrite")[0] == 0
    assert sorted(path.name for path in crops.iterdir()) == ["a.png.0_after.png", "a.png.0_before.png", "b.png.7_before.png"]


def test_going_on_after_a_stop(run, portrait, tmp_path):
    for name in "abc":
        write_png(tmp_path / "in" / f"{name}.png", portrait)
    arguments = (tmp_path / "in", f"--out={tmp_path / 'out'}", "--resume")
    assert run(tmp_path / "in" / "b.png", f"--out={tmp_path / 'out'}")[0] == 0
    before = (tmp_path / "out" / "b.png").stat().st_mtime_ns
    code, told, _ = run(*arguments)
    assert code == 0 and "a.png: 1 mask removed" in told and "b.png: " not in told
    assert (tmp_path / "out" / "b.png").stat().st_mtime_ns == before
    code, told, _ = run(*arguments)
    assert code == 0 and told == f"all results are in {tmp_path / 'out'} already\n"
    (tmp_path / "in" / "d.png").write_bytes(b"")
    code, told, err = run(*arguments)
    assert code == 1 and "because no input that was tried could be used" in err
    assert told == f"3 of 4 results are in {tmp_path / 'out'} already\n"
    (tmp_path / "out" / "c.png.json").unlink()
    write_png(tmp_path / "in" / "d.png", portrait)
    before = (tmp_path / "out" / "c.png").read_bytes()
    code, told, err = run(*arguments)  # Without its description it may be anything. The others go on.
    assert code == 1 and "out/c.png is there already; delete it, or give another folder as --out" in err
    assert "d.png: 1 mask removed" in told and (tmp_path / "out" / "c.png").read_bytes() == before


@pytest.mark.parametrize(("flag", "ending"), [("--regions", ".json"), ("--crops", ".99_before.png")])
def test_a_name_that_is_too_long_for_a_result(flag, ending, run, portrait, tmp_path):
    """Nothing is written of it. One that is as long as may be is unmasked."""
    longest = 255 - len(f".png{ending}")
    for name in ("a" * (longest + 1), "b" * longest):
        write_png(tmp_path / "in" / f"{name}.png", portrait)
    code, told, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}", flag)
    assert code == 1 and "bbb.png: 1 mask removed" in told
    assert "aaa.png: the names of its results would have more than 255 bytes; rename it" in err
    assert not list((tmp_path / "out").rglob("aaa*"))


def test_a_result_that_was_deleted_is_made_again(run, portrait, tmp_path):
    for name in "ab":
        write_png(tmp_path / "in" / f"{name}.png", portrait)
    arguments = (tmp_path / "in", f"--out={tmp_path / 'out'}", "--resume")
    assert run(*arguments)[0] == 0
    before = (tmp_path / "out" / "a.png").read_bytes()
    (tmp_path / "out" / "a.png").write_bytes(b"")
    code, _, err = run(*arguments)  # It may be anybody's.
    assert code == 1 and "out/a.png (and 1 more) is there already" in err
    (tmp_path / "out" / "a.png").unlink()
    code, told, _ = run(*arguments)
    assert code == 0 and "a.png: 1 mask removed" in told and "b.png: " not in told
    assert (tmp_path / "out" / "a.png").read_bytes() == before


def test_regions_can_be_given_as_masks(run, portrait, tmp_path):
    write_png(tmp_path / "a.png", portrait)
    assert run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--regions")[0] == 0
    flags = f"--out={tmp_path / 'again'}", f"--mask={tmp_path / 'out' / 'regions'}", "--regions"
    code, told, _ = run(tmp_path / "a.png", *flags)
    assert code == 0 and "1 mask removed" in told
    one, other = (read_image(tmp_path / folder / "regions" / "a.png.png", grey=True) for folder in ("out", "again"))
    np.testing.assert_array_equal(one, other)


def test_sigterm_leaves_nothing_half_written(run, portrait, tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", portrait)
    write, written = Path.write_bytes, []

    def stopped(path, data):
        written.append(path)
        if len(written) == 4:  # The last.
            assert all(path.exists() for path in written)
            signal.raise_signal(signal.SIGTERM)
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", stopped)
    # Tests in the background ignore the one, and a training in the same process left a handler of the other.
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--crops")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert code == 130 and err.strip() == "maskgan unmask: interrupted" and len(written) == 4
    assert not (tmp_path / "out").exists()


def test_what_another_run_wrote_meanwhile_is_not_replaced(run, portrait, tmp_path, monkeypatch):
    read_photo = photos.read_photo

    def as_another_run_ends(path):
        write_png(tmp_path / "out" / "a.png", portrait[:9, :9])
        return read_photo(path)

    monkeypatch.setattr(photos, "read_photo", as_another_run_ends)
    write_png(tmp_path / "a.png", portrait)
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}")
    assert code == 1 and "out/a.png is there already; give another folder" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert len(read_image(tmp_path / "out" / "a.png")) == 9


def test_a_sheet_is_replaced_only_when_asked(run, portrait, tmp_path):
    write_png(tmp_path / "in" / "a.png", portrait)
    write_png(tmp_path / "out" / "contact_sheet.png", portrait[:8])
    code, _, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 1 and "out/contact_sheet.png is there already" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["contact_sheet.png"]


def test_a_image_with_the_name_of_the_sheet_is_no_sheet(run, portrait, tmp_path):
    write_png(tmp_path / "in" / "contact_sheet.png", portrait)
    assert run(tmp_path / "in", f"--out={tmp_path / 'out'}")[0] == 0
    assert read_image(tmp_path / "out" / "contact_sheet.png").shape == portrait.shape


def test_the_result_of_a_gif_under_another_name(run, portrait, tmp_path):
    Image.fromarray(portrait).save(tmp_path / "a.jpg", format="GIF")
    write_png(tmp_path / "out" / "a.jpg.png", portrait[:8])
    code, _, err = run(tmp_path / "a.jpg", f"--out={tmp_path / 'out'}")
    assert code == 1 and "out/a.jpg.png is there already" in err
    assert read_image(tmp_path / "out" / "a.jpg.png").shape[0] == 8


def test_a_photo_of_an_iphone(run, portrait, tmp_path):
    """HEIC, with metadata, in a folder; written as JPEG."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "Apple"
    (tmp_path / "in").mkdir()
    Image.fromarray(portrait).save(tmp_path / "in" / "IMG_1.HEIC", "HEIF", quality=90, exif=exif)
    bare = Image.fromarray(render_face(3, seed=0, size=320).image)
    bare.save(tmp_path / "in" / "IMG_2.heic", "HEIF")
    code, told, _ = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 0 and "IMG_1.HEIC: 1 mask removed, HEIC became JPEG" in told
    with Image.open(tmp_path / "out" / "IMG_1.HEIC.jpg") as image:
        assert image.format == "JPEG" and image.getexif()[ExifTags.Base.Make] == "Apple"
        assert ExifTags.Base.Orientation not in image.getexif()
        result = np.asarray(image)
    assert np.abs(result[:60].astype(int) - portrait[:60]).mean() < 6
    assert (tmp_path / "out" / "IMG_2.heic").read_bytes() == (tmp_path / "in" / "IMG_2.heic").read_bytes()
    code, _, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 1 and "IMG_1.HEIC.jpg (and 3 more) is there already" in err


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_given_mask_is_as_the_photo_is_seen(orientation, run, couple, tmp_path):
    """With each EXIF orientation; so is what is written as `--regions`."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(couple)
    face = np.zeros(couple.shape[:2], np.uint8)
    face[130:200, 80:170] = 255
    upright = Image.Exif()
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    upright[ExifTags.Base.Orientation] = undo[orientation]
    # The photo that is seen as `couple` is, stored as the orientation wants it.
    with Image.open(io.BytesIO(encoded(stored, exif=upright))) as image:
        turned = ImageOps.exif_transpose(image)
    (tmp_path / "a.png").write_bytes(encoded(turned, exif=exif))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), couple)
    write_png(tmp_path / "mask.png", face)
    code, _, err = run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", f"--mask={tmp_path / 'mask.png'}", "--regions")
    assert code == 0, err
    result = read_image(tmp_path / "out" / "a.png")
    np.testing.assert_array_equal(result[face == 0], couple[face == 0])
    assert (result[face > 0] != couple[face > 0]).any(axis=-1).mean() > 0.9
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "regions" / "a.png.png", grey=True), face)


def test_crops_have_the_numbers_of_the_faces(run, couple, tmp_path):
    write_png(tmp_path / "a.png", couple[:, ::-1])
    assert run(tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--crops")[0] == 0
    faces = json.loads((tmp_path / "out" / "a.png.json").read_text())["faces"]
    (number,) = [i for i, face in enumerate(faces) if face["masked"]]
    crops = sorted(path.name for path in (tmp_path / "out" / "crops").iterdir())
    assert crops == [f"a.png.{number}_after.png", f"a.png.{number}_before.png"]


def test_results_are_not_replaced_by_extras_of_others(run, portrait, couple, tmp_path):
    """As in any folder of earlier results."""
    write_png(tmp_path / "in" / "x.png", portrait)
    write_png(tmp_path / "in" / "side_by_side" / "x.png.png", couple)
    code, told, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}", "--side_by_side")
    assert (code, told) == (1, "") and "would both be written to" in err and not (tmp_path / "out").exists()


def test_links_to_themselves_are_reported(run, portrait, tmp_path):
    write_png(tmp_path / "in" / "a.png", portrait)
    (tmp_path / "in" / "loop.jpg").symlink_to("loop.jpg")
    code, told, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 1 and "a.png: 1 mask removed" in told and "loop.jpg" in err and len(err.strip().splitlines()) == 1
    code, told, err = run(tmp_path / "in" / "loop.jpg", f"--out={tmp_path / 'out'}")
    assert code == 1 and told == "" and "cannot read" in err.splitlines()[0] and "loop.jpg" in err.splitlines()[0]


WRITTEN = [
    "a.png.json",
    "side_by_side/a.png.png",
    "regions/a.png.png",
    "crops/a.png.0_before.png",
    "crops/a.png.0_after.png",
    "a.png",
]


@pytest.mark.parametrize("name", WRITTEN)
def test_what_cannot_be_written_as_a_whole_is_not_written(name, run, portrait, tmp_path, monkeypatch):
    """The file is named, and nothing is lost that was there."""
    write_png(tmp_path / "a.png", portrait)
    flags = tmp_path / "a.png", f"--out={tmp_path / 'out'}", "--side_by_side", "--regions", "--crops"
    write, left = Path.write_bytes, []

    def full(path, data):
        assert path.name.startswith(".") and path.parent.name == (tmp_path / "out" / left[0]).parent.name
        if left.pop(0) == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    def run_on_a_full_disk(*more):
        left[:] = WRITTEN
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            code, _, err = run(*flags, *more)
        assert code == 1 and f"skipped: cannot write {tmp_path / 'out' / name} (No space left on device)" in err

    run_on_a_full_disk()
    assert not (tmp_path / "out").exists()
    assert run(*flags)[0] == 0
    written = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len(written) == len(WRITTEN)
    run_on_a_full_disk("--overwrite")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == written


def test_a_folder_inside_cannot_be_made(run, portrait, tmp_path):
    write_png(tmp_path / "in" / "inner" / "a.png", portrait)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inner").write_text("mine")
    code, _, err = run(tmp_path / "in", f"--out={tmp_path / 'out'}")
    assert code == 1 and "skipped: cannot write" in err
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["inner"]


def test_all_that_is_written_of_a_grey_photo_is_grey(run, portrait, unmasker, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    Image.fromarray(portrait).convert("L").save(tmp_path / "in" / "a.png")
    # On a grey photo, no mask is green.
    monkeypatch.setattr(unmasker.mask_finder, "network", LowerHalf())
    assert run(tmp_path / "in", f"--out={tmp_path / 'out'}", "--side_by_side", "--crops")[0] == 0
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.mode == "L"
    grey = read_image(tmp_path / "out" / "a.png")
    both = read_image(tmp_path / "out" / "side_by_side" / "a.png.png")
    np.testing.assert_array_equal(both[:, 320:], grey)
    after = read_image(tmp_path / "out" / "crops" / "a.png.0_after.png")
    assert (after == after[..., :1]).all()
