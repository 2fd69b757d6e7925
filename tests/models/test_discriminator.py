import keras
import numpy as np

from synthmed.models.discriminator import SliceDiscriminator


def make(**more):
    keras.utils.set_random_seed(0)
    return SliceDiscriminator(size=(32, 40), channels=4, channel_base=256, channel_max=16, **more)


def slices(batch=4):
    return np.random.default_rng(0).standard_normal((batch, 32, 40, 4)).astype(np.float32)


def test_one_float32_logit_a_slice():
    """A user would lose the training signal of low-precision runs."""
    logits = np.asarray(make(precision="mixed_bfloat16")(slices()))
    assert logits.shape == (4,)
    assert logits.dtype == np.float32


def test_keras_file_gives_the_same_discriminator_back(tmp_path):
    """A user would lose what a discriminator learned."""
    discriminator = make()
    discriminator.save(tmp_path / "discriminator.keras")
    restored = keras.models.load_model(tmp_path / "discriminator.keras")
    np.testing.assert_array_equal(discriminator(slices()), restored(slices()))


def test_sees_missing_variety():
    """A user would get the same sample again and again if a batch of copies looked like a batch of different slices."""
    discriminator = make()
    different = np.asarray(discriminator(slices()))
    copies = np.asarray(discriminator(np.repeat(slices()[:1], 4, axis=0)))
    assert abs(different[0] - copies[0]) > 1e-4
