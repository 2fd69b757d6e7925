import numpy as np
import pytest

from synthmed.layers import MinibatchStddev


@pytest.mark.parametrize(("batch", "group"), [(8, 4), (6, 4), (5, 4), (1, 4)])
def test_statistic_equals_numpy_over_interleaved_groups(batch, group):
    """A user would lose the discriminator's sight of missing variety, also where the batch is no multiple of 4."""
    inputs = np.random.default_rng(0).standard_normal((batch, 3, 2, 5)).astype(np.float32)
    outputs = np.asarray(MinibatchStddev(group_size=group)(inputs))
    size = {8: 4, 6: 3, 5: 1, 1: 1}[batch]
    groups = batch // size
    for sample in range(batch):
        members = inputs[sample % groups :: groups]
        expected = np.sqrt(members.var(axis=0) + 1e-8).mean()
        np.testing.assert_allclose(outputs[sample, ..., -1], expected, rtol=1e-4)
    np.testing.assert_array_equal(outputs[..., :-1], inputs)
