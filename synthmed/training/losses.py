"""Losses and regularisers as pure functions in `keras.ops`; gradients come in as arguments."""

import math

from keras import ops


def generator_loss(fake_logits):
    """Non-saturating logistic loss of the generator (Goodfellow et al. 2014): mean of softplus(-D(G(z)))."""
    return ops.mean(ops.softplus(-fake_logits))


def discriminator_loss(real_logits, fake_logits):
    """Logistic loss of the discriminator: mean of softplus(-D(x)) plus mean of softplus(D(G(z)))."""
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def relativistic_generator_loss(real_logits, fake_logits):
    """Relativistic pairing loss of the generator (arXiv:2501.05441, equation 2): mean of softplus(D(x) - D(G(z))).

    Each generated slice is compared with a real one, so that no mode of the data can be dropped for free.
    """
    return ops.mean(ops.softplus(real_logits - fake_logits))


def relativistic_discriminator_loss(real_logits, fake_logits):
    """Relativistic pairing loss of the discriminator: mean of softplus(D(G(z)) - D(x))."""
    return ops.mean(ops.softplus(fake_logits - real_logits))


def mismatch_loss(logits, differs):
    """Return the mean of softplus(D) over real images that were shown with another slice's mask.

    Args:
        logits: `(batch,)`.
        differs: `(batch,)`, 1 where the masks differ at all; a slice with an equal mask is not a mismatch.
    """
    return ops.sum(ops.softplus(logits) * differs) / ops.maximum(ops.sum(differs), 1.0)


def r1_penalty(gradients, gamma: float):
    """Return gamma / 2 times the mean squared gradient norm at real data (Mescheder et al. 2018, arXiv:1801.04406).

    Args:
        gradients: `(batch, height, width, planes)`, of the sum of the logits with respect to the real planes.
        gamma: Weight of the penalty.
    """
    return 0.5 * gamma * ops.mean(ops.sum(ops.square(gradients), axis=(1, 2, 3)))


def path_lengths(gradients):
    """Return `(batch,)` path lengths (arXiv:1912.04958, section 3.2).

    Args:
        gradients: `(batch, num_ws, w_dim)`, of the output weighted by `path_weights` with respect to the styles.
    """
    return ops.sqrt(ops.mean(ops.sum(ops.square(gradients), axis=2), axis=1) + 1e-12)


def path_weights(noise):
    """Scale standard normal `(batch, height, width, planes)` so that path lengths do not depend on the image size."""
    return noise / math.sqrt(noise.shape[1] * noise.shape[2])


def path_penalty(lengths, mean):
    """Return the mean squared distance of path lengths to their running mean."""
    return ops.mean(ops.square(lengths - mean))


def lazy_adam(learning_rate: float, every: int) -> dict[str, float]:
    """Adam's settings where a regulariser adds a step every `every` steps (arXiv:1912.04958, appendix B).

    Learning rate and betas are rescaled so that `every` + 1 steps do what `every` steps did without it.
    """
    ratio = every / (every + 1)
    return {"learning_rate": learning_rate * ratio, "beta_1": 0.0**ratio, "beta_2": 0.99**ratio, "epsilon": 1e-8}


def ema_decay(*, batch: int, shown: int, ema_kimg: float, rampup: float) -> float:
    """Return the decay of the averaged generator: its half-life is `ema_kimg`, less while few images were shown.

    Args:
        batch: Images a step.
        shown: Images shown so far.
        ema_kimg: Half-life in thousand images.
        rampup: The half-life is at most this share of the images shown.
    """
    half_life = min(ema_kimg * 1000.0, shown * rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))
