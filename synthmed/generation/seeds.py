"""Numbers that name items: one seed an item, its case name, and which items a machine draws."""

import re
from dataclasses import dataclass

import numpy as np

from synthmed.errors import UserError

ITEMS_PER_SEED = 10**9
"""How many items one base seed names; a power of ten, so that a case name shows the seed and the item's number."""

MAX_SEED = 2**32 - 1
"""Largest base seed: every item seed then fits in a signed 64-bit integer, the widest that a server takes."""


def item_seeds(seed: int, start: int, stop: int) -> np.ndarray:
    """Return the int64 seeds of items `start` to `stop - 1` of base seed `seed`; no two (seed, item) pairs share one.

    Raises:
        UserError: If the seed or the number of items is out of range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"--seed must be between 0 and {MAX_SEED}, got {seed}")
    if not 0 <= start <= stop <= ITEMS_PER_SEED:
        raise UserError(f"one seed names {ITEMS_PER_SEED} items: draw the rest with another --seed")
    return seed * ITEMS_PER_SEED + np.arange(start, stop, dtype=np.int64)


def case_name(item_seed: int) -> str:
    """Return the case name of an item; names of one base seed sort as their items do."""
    return f"SYN_{item_seed:010d}"


@dataclass(frozen=True)
class Shard:
    """One of `total` equal, contiguous parts of a set; `part` counts from 1."""

    part: int = 1
    total: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `i/n` with 1 <= i <= n.

        Raises:
            UserError: If the text is anything else.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard must be i/n with i from 1 to n, such as 1/4, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def bounds(self, count: int) -> tuple[int, int]:
        """Return the first item of this part and the one after its last, of `count` items.

        Raises:
            UserError: If nothing is left for this part.
        """
        start, stop = count * (self.part - 1) // self.total, count * self.part // self.total
        if start == stop:
            raise UserError(f"shard {self.part}/{self.total} of {count} items is empty: use at most {count} shards")
        return start, stop
