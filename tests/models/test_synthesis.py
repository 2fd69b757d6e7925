import numpy as np
import pytest

from synthmed.models.synthesis import leaky_clip


def test_mask_planes_are_nearly_flat_beyond_one_and_never_without_gradient(tf):
    """A user would get empty masks: a generator that saturates once never learns again."""
    values = tf.constant([-30.0, -1.5, -0.5, 0.0, 0.7, 2.0, 50.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        clipped = leaky_clip(values)
    np.testing.assert_allclose(clipped, [-3.9, -1.05, -0.5, 0.0, 0.7, 1.1, 5.9], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(clipped, values), [0.1, 0.1, 1, 1, 1, 0.1, 0.1], rtol=1e-5)


def test_largest_plane_stays_the_largest():
    """A user would get other labels than the generator meant."""
    planes = np.random.default_rng(0).normal(0, 3, (100, 5)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(leaky_clip(planes)).argmax(axis=-1), planes.argmax(axis=-1))
    assert float(leaky_clip(np.float32(1.0))) == pytest.approx(1.0)
