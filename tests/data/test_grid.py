import numpy as np
import pytest

from maskgan_jax.data.grid import GAP, HEADING, labelled_grid


@pytest.fixture
def rows():
    """Five rows of three 32 px pictures, each of one grey of its own."""
    return [[np.full((32, 32, 3), 10 * row + column, np.uint8) for column in range(3)] for row in range(5)]


@pytest.mark.parametrize("columns", [1, 2, 3, 8])
def test_each_picture_is_in_its_place(rows, columns):
    sheet = labelled_grid(rows, ["a", "b", "c"], columns)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (HEADING + -(-5 // columns) * 32, columns * (96 + GAP) - GAP, 3)
    for number, row in enumerate(rows):
        for column, picture in enumerate(row):
            top, left = HEADING + number // columns * 32, number % columns * (96 + GAP) + column * 32
            np.testing.assert_array_equal(sheet[top : top + 32, left : left + 32], picture)


def test_headings_stand_over_every_column_of_rows(rows):
    sheet = labelled_grid(rows, ["a", "b", "c"], columns=2)
    for left in (0, 96 + GAP):
        for column in range(3):
            assert sheet[:HEADING, left + 32 * column : left + 32 * (column + 1)].min() < 128
    assert (labelled_grid(rows, ["", "", ""])[:HEADING] == 255).all()


def test_columns_are_apart(rows):
    assert (labelled_grid(rows, ["a", "b", "c"], columns=2)[HEADING:, 96 : 96 + GAP] == 255).all()


def test_captions(rows):
    """Each stands above its row, and moves only the rows below it."""
    sheet = labelled_grid(rows, ["a", "b", "c"], 2, [*"vwxy", ""])
    assert sheet.shape == (HEADING + 3 * (HEADING + 32), 2 * (96 + GAP) - GAP, 3)
    for number, row in enumerate(rows):
        top, left = HEADING + number // 2 * (HEADING + 32), number % 2 * (96 + GAP)
        assert (sheet[top : top + HEADING, left : left + 96].min() < 128) == (number < 4)
        np.testing.assert_array_equal(sheet[top + HEADING : top + HEADING + 32, left : left + 96], np.concatenate(row, axis=1))
