import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from maskgan_jax.data.masks.camera import Camera, Compression, blurred, camera_of, compressed, grain


def lightness(picture):
    return picture.astype(np.float64) @ (0.299, 0.587, 0.114)


@pytest.mark.parametrize("blur", [0.6, 0.8, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_blur_of_known_edges(paint, head, blur):
    assert camera_of(paint(blur=blur), head).blur == pytest.approx(blur, rel=0.2, abs=0.2)


def test_sharp_pictures_are_less_blurred_than_a_pixel(paint, head):
    assert camera_of(paint(), head).blur < 0.65
    assert camera_of(paint(size=128), head * 0.5 - 0.25).blur < 0.65


@pytest.mark.parametrize(("size", "noise"), [(128, 2.0), (128, 6.0), (256, 1.0), (256, 4.0), (256, 12.0)])
def test_noise_of_known_strength(paint, head, size, noise):
    picture, landmarks = paint(size, blur=1.0), (head + 0.5) * size / 256 - 0.5
    levels = []
    for seed in range(12):
        dirt = np.random.default_rng(seed).normal(0, noise, (size, size, 1))
        noisy = np.clip(np.rint(picture + dirt), 0, 255).astype(np.uint8)
        levels.append(camera_of(noisy, landmarks).noise)
    # The smoothest of five patches counts, so rather less than more.
    assert 0.75 * noise < np.mean(levels) < 1.1 * noise


def test_a_clean_picture_has_no_noise(paint, head):
    assert camera_of(paint(blur=1.0), head).noise < 0.1


@pytest.mark.parametrize("blur", [0.5, 1.0, 2.5])
def test_blurring_against_scipy(blur):
    layer = np.zeros((60, 50, 4), np.float32)
    layer[20:40, 20:30] = np.random.default_rng(0).random((20, 10, 4))
    np.testing.assert_allclose(blurred(layer, blur), gaussian_filter(layer, (blur, blur, 0)), atol=0.01)


def test_no_blur_changes_nothing():
    layer = np.random.default_rng(0).random((8, 9, 4), np.float32)
    np.testing.assert_array_equal(blurred(layer, 0.0), layer)


def test_grain_is_as_strong_as_the_noise():
    noise = grain(np.random.default_rng(0), (300, 400), Camera(1.0, 5.0), 1.0)
    assert noise.shape == (300, 400, 3) and noise.dtype == np.float32
    assert lightness(noise).std() == pytest.approx(5, rel=0.1)
    # Independent from pixel to pixel, and mostly of lightness.
    assert abs(np.corrcoef(noise[:, 1:, 0].ravel(), noise[:, :-1, 0].ravel())[0, 1]) < 0.02
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1] > 0.8
    assert not np.array_equal(noise, grain(np.random.default_rng(1), (300, 400), Camera(1.0, 5.0), 1.0))


def test_no_noise_no_grain():
    assert not grain(np.random.default_rng(0), (30, 40), Camera(1.0, 0.0), 1.0).any()


def through_jpeg(picture, quality):
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture
def texture() -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(0).normal(0, 200, (96, 120, 3)), (2, 2, 0))
    return np.clip(np.rint(128 + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("compression", [None, Compression(30, 2.0), Compression(30, 5.0)])
def test_what_cannot_be_seen_is_not_done(texture, compression):
    np.testing.assert_array_equal(compressed(texture, compression), texture)


def test_compression_at_the_size_of_the_photo(texture):
    np.testing.assert_array_equal(compressed(texture, Compression(30, 1.0)), through_jpeg(texture, 30))


def test_compression_of_a_larger_photo(texture):
    """As if the picture had been enlarged, compressed and shrunk again: about as large an error."""
    large = cv2.resize(texture, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)
    expected = cv2.resize(through_jpeg(large, 40), texture.shape[1::-1], interpolation=cv2.INTER_AREA)
    unharmed = cv2.resize(large, texture.shape[1::-1], interpolation=cv2.INTER_AREA)
    true_error = np.sqrt(((expected.astype(float) - unharmed) ** 2).mean())
    error = np.sqrt(((compressed(texture, Compression(40, 1.5)).astype(float) - texture) ** 2).mean())
    assert error == pytest.approx(true_error, rel=0.5)
    assert error < np.sqrt(((through_jpeg(texture, 40).astype(float) - texture) ** 2).mean())


@pytest.mark.parametrize("scale", [0.5, 0.7])
def test_compression_of_a_smaller_photo(texture, scale):
    """The picture keeps its sharpness; only the error is the small photo's, and it is as smooth."""
    result = compressed(texture, Compression(30, scale))
    error = result.astype(float) - texture
    size = (round(120 * scale), round(96 * scale))
    small = cv2.resize(texture, size, interpolation=cv2.INTER_AREA)
    expected = through_jpeg(small, 30).astype(float) - small
    assert result.shape == texture.shape and result.dtype == np.uint8
    assert error.std() == pytest.approx(expected.std(), rel=0.3)
    shrunk = cv2.resize(error, size, interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), expected.ravel())[0, 1] > 0.9


def test_tiny_windows_are_compressed_too():
    for shape in ((1, 1, 3), (3, 9, 3)):
        picture = np.full(shape, 90, np.uint8)
        for scale in (0.1, 1.0, 1.5):
            assert np.abs(compressed(picture, Compression(50, scale)).astype(int) - 90).max() < 5


def test_a_grey_photo_gets_grey_grain():
    noise = grain(np.random.default_rng(0), (30, 40), Camera(1.0, 5.0), 0.0)
    np.testing.assert_array_equal(noise, np.repeat(noise[..., :1], 3, axis=-1))
