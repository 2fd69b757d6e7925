"""What tests of networks share."""

import keras
import pytest


@pytest.fixture
def tf():
    """TensorFlow, by which tests take gradients; under another backend they are skipped."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes gradients with TensorFlow")
    import tensorflow

    return tensorflow
