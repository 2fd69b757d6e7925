"""The sizes that a network passes through, from a small base grid to the slice."""

from dataclasses import dataclass

from synthmed.errors import UserError

SMALLEST_BASE = 4


@dataclass(frozen=True)
class Pyramid:
    """Resolutions of a generator or discriminator, smallest first, and the channels at each.

    Attributes:
        sizes: (height, width) a level; each level doubles the one before.
        channels: Feature channels a level.
    """

    sizes: tuple[tuple[int, int], ...]
    channels: tuple[int, ...]

    @property
    def doublings(self) -> int:
        """How often the base grid is doubled."""
        return len(self.sizes) - 1


def make_pyramid(size: tuple[int, int], *, channel_base: int, channel_max: int) -> Pyramid:
    """Plan the levels for slices of `size` (height, width), which need not be square.

    The base grid is the smallest one of at least 4 x 4 that whole doublings lead from; 64 x 48 starts at 8 x 6.
    Channels follow StyleGAN2: `channel_base` over the longer side, at most `channel_max`, at least 16.

    Raises:
        UserError: If the size cannot be halved three times.
    """
    height, width = size
    doublings = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= SMALLEST_BASE:
        height, width, doublings = height // 2, width // 2, doublings + 1
    if doublings < 3:
        raise UserError(
            f"slices of {size[0]} x {size[1]} cannot be halved three times down to {SMALLEST_BASE} x {SMALLEST_BASE} "
            "or more: prepare the data with a --size whose sides are multiples of 8 and at least 32"
        )
    sizes = tuple((height << level, width << level) for level in range(doublings + 1))
    channels = tuple(max(16, min(channel_max, channel_base // max(level))) for level in sizes)
    return Pyramid(sizes, channels)
