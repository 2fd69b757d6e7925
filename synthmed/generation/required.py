"""Drawing cases that show certain classes, so that rare lesions can be oversampled."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from synthmed.data.attributes import AttributeTable
from synthmed.errors import UserError
from synthmed.generation.drawing import Drawn
from synthmed.generation.sampler import Sampler, Samples, Told

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo

MOST_TRIES = 513
"""How often a slice is drawn before it is given up: a class that one of a hundred slices shows is then found for 994 of
a thousand cases."""


@dataclass
class Requirement:
    """Classes that every case must show, and how often what was drawn did.

    Attributes:
        classes: Their indices, ascending.
        names: Their names.
        tries: How many cases were drawn.
        shown: How many of these showed all the classes.
    """

    classes: tuple[int, ...]
    names: tuple[str, ...]
    tries: int = field(default=0)
    shown: int = field(default=0)

    @classmethod
    def parse(cls, wanted: tuple[str, ...], info: "BundleInfo") -> "Requirement | None":
        """Read `--require-class`, by name or index; None where nothing is required.

        Raises:
            UserError: If the generator has no such foreground class.
        """
        if not wanted:
            return None
        indices = tuple(sorted({_class_index(name, info) for name in wanted}))
        return cls(indices, tuple(info.classes[index] for index in indices))

    @property
    def phrase(self) -> str:
        """The names, for a sentence."""
        return " and ".join(self.names)

    def rows(self, info: "BundleInfo") -> AttributeTable | None:
        """Return what the generator is to be told; None where it is told nothing.

        Raises:
            UserError: If no training slice showed the classes together.
        """
        if not info.told or info.attributes is None:
            return None
        rows = info.attributes.showing(self.classes)
        if rows is None:
            raise UserError(f"no training slice of {info.name} shows {self.phrase}: require something else")
        return rows

    def met(self, label: np.ndarray) -> bool:
        """Return whether a label map shows all the classes, and count the answer."""
        found = all((label == index).any() for index in self.classes)
        self.tries += 1
        self.shown += found
        return found

    def given_up(self, info: "BundleInfo") -> UserError:
        """Return the error for a case that never showed the classes."""
        mend = "train it longer" if "shown" in info.told else "train with --set shown=true"
        return UserError(f"{info.name} showed {self.phrase} in {self.shown} of {self.tries} tries: {mend}")

    def record(self) -> dict[str, Any]:
        """Return what a set's description says of it."""
        return {"RequiredClasses": list(self.names), "Tries": self.tries, "TriesThatShowedThem": self.shown}


@dataclass
class RequiredSlices:
    """Draws a slice a case and draws it again, by numbers that follow from its seed, until it shows what is required.

    Where the generator is told attributes, only such as training slices with these classes had are drawn. A case keeps
    its seed as its name; `draw_seed` in its sidecar is the seed that drew it in the end.

    Attributes:
        sampler: Where slices come from.
        psi: Truncation.
        required: What to show.
        batch: Slices drawn at once.
    """

    sampler: Sampler
    psi: float
    required: Requirement
    batch: int

    def __post_init__(self):
        self._rows = self.required.rows(self.sampler.info)

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block; see `Drawing.draw`.

        Raises:
            UserError: If a case does not show what is required after `MOST_TRIES` tries.
        """
        samples, told = self._sample(seeds)
        cases = []
        for place in range(wanted.start, wanted.stop):
            drawn = self._drawn(samples, told, place, int(seeds[place]), tries=1)
            cases.append(drawn or self._again(int(seeds[place])))
        return cases

    def _again(self, seed: int) -> Drawn:
        for start in range(1, MOST_TRIES, self.batch):
            # Whole blocks of this case's own tries: which others are in the set changes nothing in it.
            seeds = retry_seeds(seed, start, start + self.batch)
            samples, told = self._sample(seeds)
            for place in range(self.batch):
                drawn = self._drawn(samples, told, place, int(seeds[place]), tries=start + place + 1)
                if drawn is not None:
                    return drawn
        raise self.required.given_up(self.sampler.info)

    def _sample(self, seeds: np.ndarray) -> tuple[Samples, Told | None]:
        told = None
        if self._rows is not None:
            told = told_rows(seeds, self._rows, classes=len(self.sampler.info.classes))
        return self.sampler.sample(seeds, self.psi, None, told), told

    def _drawn(self, samples: Samples, told: Told | None, place: int, seed: int, *, tries: int) -> Drawn | None:
        if not self.required.met(samples.labels[place]):
            return None
        record: dict[str, Any] = {
            "mask_source": "generated",
            "required_classes": list(self.required.names),
            "draw_seed": seed,
            "tries": tries,
        }
        if told is not None:
            record["told"] = told_record(told, place, self.sampler.info)
        return Drawn(
            image=None if samples.images is None else samples.images[place],
            label=samples.labels[place],
            template=int(samples.templates[place]),
            record=record,
        )


def retry_seeds(seed: int, start: int, stop: int) -> np.ndarray:
    """Return the int64 seeds of the tries `start` to `stop - 1` of an item; try 0 would be the item's own seed.

    They lie at 2**62 and above, where no item of any set has its seed.
    """
    from synthmed.layers.counter_random import bits
    from synthmed.models.generators import RETRY_STREAM

    words = np.asarray(bits(np.array([seed], np.int64), stream=RETRY_STREAM, count=2 * stop)).astype(np.int64)
    pairs = words.reshape(-1, 2)[start:stop]
    return (1 << 62) | ((pairs[:, 0] & (2**30 - 1)) << 32) | pairs[:, 1]


def told_rows(seeds: np.ndarray, table: AttributeTable, *, classes: int) -> Told:
    """Return a row of a table for each seed, as `Sampler.sample` takes it."""
    from synthmed.models.generators import item_attributes

    drawn = item_attributes(seeds.astype(np.int64), table, classes=classes)
    return {name: np.asarray(value) for name, value in drawn.items()}


def told_record(told: Told, place: int, info: "BundleInfo") -> dict[str, Any]:
    """Return what a sidecar says of what the generator was told."""
    record: dict[str, Any] = {}
    if "position" in info.told:
        record["position"] = float(told["position"][place])
    if "shown" in info.told:
        record["shown"] = [info.classes[index + 1] for index in np.flatnonzero(told["shown"][place])]
    return record


def _class_index(name: str, info: "BundleInfo") -> int:
    names = list(info.classes)
    if name in names[1:]:
        return names.index(name)
    if name.isdecimal() and 1 <= int(name) < len(names):
        return int(name)
    raise UserError(f"--require-class {name}: {info.name} draws {', '.join(names[1:])} (or 1 to {len(names) - 1})")
