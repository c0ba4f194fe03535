import numpy as np

from maskgan_jax.data.build.face_lists import FaceLists
from maskgan_jax.data.build.make_record import FoundFace
from maskgan_jax.data.build.sources import Photo, Skipped

PHOTOS = [
    Photo("ffhq/ä b.png", "ffhq", "ffhq/ä b.png", "", "gs://b/ä b.png"),
    Photo("rendered/000001", "rendered", "", "", (1, 7)),
]


def test_lists(tmp_path):
    lists = FaceLists(tmp_path / "lists")
    lists.write_photos(3, PHOTOS)
    assert lists.read_photos(3) == PHOTOS
    landmarks = np.random.default_rng(0).normal(size=(2, 68, 2)).astype(np.float32)
    skipped = Skipped("ffhq/c.png", "ffhq", "no\nface")
    lists.write_found(3, [FoundFace(PHOTOS[0], landmarks[0], 87), skipped, FoundFace(PHOTOS[1], landmarks[1])])
    (first, face), (_, other), (second, _) = lists.read_found(3)
    assert (face.photo, other) == (PHOTOS[0], skipped)
    assert face.photo.identity is face.photo.id
    assert (face.jpeg_quality, lists.read_face((3, second)).jpeg_quality) == (87, None)
    for offset, photo, points in ((first, PHOTOS[0], landmarks[0]), (second, PHOTOS[1], landmarks[1])):
        face = lists.read_face((3, offset))
        assert face.photo == photo
        assert face.landmarks.dtype == np.float32 and face.landmarks.flags.writeable
        np.testing.assert_array_equal(face.landmarks, points)


def test_targets(tmp_path):
    FaceLists(tmp_path).write_targets(0, {17: ("train", 4)})
    assert FaceLists(tmp_path).read_targets(0) == {17: ["train", 4]}
