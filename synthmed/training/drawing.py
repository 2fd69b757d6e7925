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


def mixed_styles(generator: SliceGenerator, draw: Draw, attributes=None):
    """Return `(batch, num_ws, w_dim)` styles with style mixing (arXiv:1812.04948, section 3.1), and the mean w.

    Args:
        generator: Any of the three variants.
        draw: The random numbers.
        attributes: `(batch, attribute_dim)`, where the generator is told any.
    """
    told = None if attributes is None else ops.concatenate([attributes, attributes], axis=0)
    w = generator.mapping(ops.concatenate([draw.z, draw.z_mixed], axis=0), told)
    first, second = ops.split(w, 2, axis=0)
    before = ops.arange(generator.num_ws, dtype="int32")[None, :, None] < draw.cut[:, None, None]
    styles = ops.where(before, generator.broadcast(first), generator.broadcast(second))
    return styles, ops.mean(ops.stop_gradient(w), axis=0)
