"""How strongly to augment: the controller of adaptive discriminator augmentation (arXiv:2006.06676, section 3.1)."""

from keras import ops

TARGET = 0.6
"""Mean sign of the logits of real samples to hold; more means that the discriminator knows them too well."""

MAXIMUM = 0.8
"""The paper's practical limit: more, and augmentation may leak into generated images."""


def sign_mean(logits):
    """Return r_t, the mean sign of the discriminator's logits of (augmented) real samples: -1 to 1, a scalar."""
    return ops.mean(ops.sign(logits))


def adjust(probability, mean, *, target: float = TARGET, images, kimg: float, maximum: float = MAXIMUM):
    """Return the next probability of augmentation, a scalar in [0, `maximum`] of the number format of `probability`.

    It moves by one step towards the target's side, by as much as takes it from 0 to 1 in `kimg` thousand images.

    Args:
        probability: The present one, a scalar tensor (the value of a `keras.Variable`) or a float.
        mean: r_t, averaged over the batches since the last call; one batch alone swings too far.
        target: Mean sign to hold.
        images: Real images shown since the last call.
        kimg: Thousand images from 0 to 1; 500 in the paper, for runs of 25,000. Short runs need less.
        maximum: Where to stop.
    """
    probability = ops.convert_to_tensor(probability)
    step = ops.cast(images, probability.dtype) / (kimg * 1000.0)
    direction = ops.cast(ops.sign(ops.convert_to_tensor(mean) - target), probability.dtype)
    return ops.clip(probability + direction * step, 0.0, maximum)
