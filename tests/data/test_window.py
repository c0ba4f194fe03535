import numpy as np
import pytest

from maskgan_jax.data.window import Window


def test_a_window_indexes_its_part_of_an_image():
    window = Window(3, 5, width=7, height=2)
    part = np.arange(600).reshape(20, 30)[window.slices]
    assert part.shape == window.shape == (2, 7)
    assert part[0, 0] == 5 * 30 + 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((4.0, 6.0), (9.0, 8.0), Window(4, 6, 5, 2)),
        ((-3, 6), (9, 25), Window(0, 6, 9, 14)),
        ((-9, -9), (99, 99), Window(0, 0, 30, 20)),
        ((31, 6), (40, 9), Window(30, 6, 0, 3)),
        ((4, -9), (9, -2), Window(4, 0, 5, 0)),
    ],
)
def test_what_lies_in_the_image(low, high, expected):
    window = Window.clipped(low, high, (20, 30))
    assert window == expected and all(type(number) is int for number in window)


def test_at_least_one_pixel_at_the_edge():
    assert Window.clipped((31, 6), (40, 9), (20, 30), least=1) == Window(29, 6, 1, 3)
    assert Window.clipped((-40, -9), (-31, -2), (20, 30), least=1) == Window(0, 0, 1, 1)
    assert Window.clipped((4, 6), (9, 8), (20, 30), least=1) == Window(4, 6, 5, 2)


def test_all_that_is_marked_with_a_margin():
    mask = np.zeros((20, 30), np.uint8)
    mask[6, 4] = mask[7, 8] = 255
    assert Window.holding(mask) == Window(4, 6, 5, 2)
    assert Window.holding(mask, 5) == Window(0, 1, 14, 12)
    assert Window.holding(0 * mask).shape == (0, 0)
