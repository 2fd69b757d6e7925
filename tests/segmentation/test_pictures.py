"""The picture of a batch: every slice is there, framed by where it comes from."""

import numpy as np

from synthmed.segmentation.train import FRAME, MOST, REAL, SYNTHETIC, batch_sheet


def test_frames_tell_real_from_synthetic_slices():
    """A user who looks at batch.png would take synthetic slices for real ones."""
    images = np.full((4, 160, 160, 1), -1, np.float32)
    labels = np.zeros((4, 160, 160), np.uint8)
    sheet = batch_sheet(images, labels, np.array([False, False, True, True]))
    side = 160 + 2 * FRAME
    assert sheet.shape[0] == side
    corners = [tuple(sheet[0, number * (side + 2)]) for number in range(4)]
    assert corners == [REAL, REAL, SYNTHETIC, SYNTHETIC]
    assert tuple(sheet[FRAME, FRAME]) == (0, 0, 0)


def test_large_batches_are_shown_in_part():
    """A user's picture of a batch of hundreds would not open."""
    count = 10 * MOST
    few = batch_sheet(np.zeros((MOST, 8, 8, 1), np.float32), np.zeros((MOST, 8, 8), np.uint8), np.zeros(MOST, bool))
    many = batch_sheet(np.zeros((count, 8, 8, 1), np.float32), np.zeros((count, 8, 8), np.uint8), np.ones(count, bool))
    assert few.shape == many.shape
