"""Tests of synthmed.data.pictures."""

import numpy as np
from scipy import ndimage

from synthmed.data.pictures import UNKNOWN, class_colours, render, render_outlines, store_sheet, tile
from synthmed.data.schema import IGNORE


def test_items_lie_row_by_row_beside_their_own_labels():
    """A picture would show labels beside other items' images."""
    images = np.stack([np.full((4, 6, 2), -1 + number / 5, np.float32) for number in range(10)])
    labels = np.zeros((10, 4, 6), np.uint8)
    labels[9] = 2
    sheet = tile(render(images, labels), columns=8)
    first, last = sheet[4 + 2, 0], sheet[4 + 2, 3 * 6 + 2]
    assert (first == round(3 / 5 * 127.5 + 127.5)).all() and (last == round(4 / 5 * 127.5 + 127.5)).all()
    assert np.ptp(sheet[4 + 2, 3 * 6 + 2 + 12]) > 0, "the label of item 9 is in colour"
    assert np.ptp(sheet[4 + 2, 12]) == 0, "the background of item 8 is grey"


def test_outlines_lie_on_the_border_of_each_class_and_nowhere_else():
    """A wrong label would hide under paint, or a right one look shifted."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 6, 5)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    images = rng.uniform(-1, 1, (2, 24, 20, 1)).astype(np.float32)
    drawn, plain = render_outlines(images, labels), render(images, None)
    cross = ndimage.generate_binary_structure(2, 1)
    for slice_drawn, slice_plain, label in zip(drawn, plain, labels, strict=True):
        expected = np.zeros(label.shape, bool)
        for index in (1, 2):
            inside = label == index
            expected |= inside & ~ndimage.binary_erosion(inside, cross, border_value=0)
        coloured = np.ptp(slice_drawn.astype(int), axis=-1) > 0
        np.testing.assert_array_equal(coloured, expected)
        np.testing.assert_array_equal(slice_drawn[~expected], slice_plain[~expected])


def test_no_two_classes_have_one_colour():
    """Two organs would look like one; what is not known would look like an organ."""
    colours = class_colours().round().astype(int)
    assert len({tuple(colour) for colour in colours.tolist()}) == len(colours) == IGNORE + 1
    assert tuple(colours[IGNORE]) == UNKNOWN


def test_the_sheet_of_a_store_shows_training_slices_alone(store):
    """A look at the prepared set would show the test patients."""
    sheet = store_sheet(store)
    rows, columns, channels = sheet.shape
    assert channels == 3 and columns >= 2 * 160 and rows >= 160
