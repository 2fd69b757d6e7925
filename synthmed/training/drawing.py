"""How a training step draws slices from a generator."""

from typing import Any, NamedTuple

from keras import ops

from synthmed.models.generators import SliceGenerator


class Draw(NamedTuple):
    """The random numbers of one generated batch.

    Attributes:
        z: `(batch, z_dim)` standard normal.
        z_mixed: `(batch, z_dim)` standard normal, for style mixing.
        cut: `(batch,)` int32, the layer from which on the mixed style is used; `num_ws` where there is no mixing.
        noise: List of `(batch, height, width, 1)` standard normal.
    """

    z: Any
    z_mixed: Any
    cut: Any
    noise: list[Any]


def mixed_styles(generator: SliceGenerator, draw: Draw):
    """Return `(batch, num_ws, w_dim)` styles with style mixing (arXiv:1812.04948, section 3.1)."""
    w = generator.mapping(ops.concatenate([draw.z, draw.z_mixed], axis=0))
    generator.mapping.track_average(w)
    first, second = ops.split(w, 2, axis=0)
    before = ops.arange(generator.num_ws, dtype="int32")[None, :, None] < draw.cut[:, None, None]
    return ops.where(before, generator.broadcast(first), generator.broadcast(second))
