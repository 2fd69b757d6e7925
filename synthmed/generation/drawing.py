"""Drawing the cases of a set block by block: their seeds, slices, slices that show certain classes, and volumes."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synthmed.data.attributes import AttributeTable
from synthmed.errors import UserError, present
from synthmed.generation.generator import Conditioning, Generator, Samples

if TYPE_CHECKING:
    from synthmed.generation.info import GeneratorInfo


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


@dataclass(frozen=True)
class Drawn:
    """One case as it was drawn.

    Attributes:
        image: float32 `[H, W, C]`, of a volume `[n, H, W, C]`; None for a generator of masks alone.
        label: uint8 `[H, W]`, of a volume `[n, H, W]`.
        template: Which of the generator's templates returns it to source units.
        record: What its sidecar says of how it was drawn.
    """

    image: np.ndarray | None
    label: np.ndarray
    template: int
    record: dict[str, Any]


class Drawing(Protocol):
    """Draws cases; each depends on its seed alone."""

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block.

        Args:
            first: Number of the block's first case in the set.
            seeds: int64 `[b]`, of all cases of the block.
            wanted: Which of them.
        """
        ...


@dataclass(frozen=True)
class Conditions:
    """Label maps for a block of slices.

    Attributes:
        maps: uint8 `[b, H, W]`.
        sources: What each sidecar says of its map's source.
        conditioning: Of the generator; None lets the seeds say.
    """

    maps: np.ndarray
    sources: list[str]
    conditioning: Conditioning | None = None


class MaskSource(Protocol):
    """Gives label maps to a conditional generator."""

    def take(self, first: int, seeds: np.ndarray) -> Conditions:
        """Return the maps of the cases from number `first` on, which have these seeds."""
        ...


@dataclass
class SliceDrawing:
    """Draws a slice a case.

    Attributes:
        generator: Where slices come from.
        psi: Truncation.
        masks: Where label maps come from; None lets the generator draw them.
    """

    generator: Generator
    psi: float
    masks: MaskSource | None = None

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block; see `Drawing.draw`."""
        given = None if self.masks is None else self.masks.take(first, seeds)
        if given is None:
            samples = self.generator.sample_seeds(seeds, self.psi)
        else:
            samples = self.generator.sample_seeds(seeds, self.psi, given.maps, given.conditioning)
        return [
            Drawn(
                image=None if samples.images is None else samples.images[place],
                label=samples.labels[place],
                template=int(samples.templates[place]),
                record={"mask_source": "generated" if given is None else given.sources[place]},
            )
            for place in range(wanted.start, wanted.stop)
        ]


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
    def parse(cls, wanted: tuple[str, ...], info: "GeneratorInfo") -> "Requirement | None":
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

    def rows(self, info: "GeneratorInfo") -> AttributeTable | None:
        """Return the conditioning to draw from; None for a generator without any.

        Raises:
            UserError: If no training slice showed the classes together.
        """
        if not info.conditioning or info.attributes is None:
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

    def given_up(self, info: "GeneratorInfo") -> UserError:
        """Return the error for a case that never showed the classes."""
        mend = "train it longer" if "shown" in info.conditioning else "train with --set shown=true"
        return UserError(f"{info.name} showed {self.phrase} in {self.shown} of {self.tries} tries: {mend}")

    def record(self) -> dict[str, Any]:
        """Return what a set's description says of it."""
        return {"RequiredClasses": list(self.names), "Tries": self.tries, "TriesThatShowedThem": self.shown}


@dataclass
class RequiredSlices:
    """Draws a slice a case and draws it again, by numbers that follow from its seed, until it shows what is required.

    Where the generator has conditioning, only that of training slices with these classes is drawn. A case keeps its
    seed as its name; `draw_seed` in its sidecar is the seed that drew it in the end.

    Attributes:
        generator: Where slices come from.
        psi: Truncation.
        required: What to show.
        batch: Slices drawn at once.
    """

    generator: Generator
    psi: float
    required: Requirement
    batch: int

    def __post_init__(self):
        self._rows = self.required.rows(self.generator.info)

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block; see `Drawing.draw`.

        Raises:
            UserError: If a case does not show what is required after `MOST_TRIES` tries.
        """
        samples, conditioning = self._sample(seeds)
        cases = []
        for place in range(wanted.start, wanted.stop):
            drawn = self._drawn(samples, conditioning, place, int(seeds[place]), tries=1)
            cases.append(drawn or self._again(int(seeds[place])))
        return cases

    def _again(self, seed: int) -> Drawn:
        for start in range(1, MOST_TRIES, self.batch):
            # Whole blocks of this case's own tries: which others are in the set changes nothing in it.
            seeds = retry_seeds(seed, start, start + self.batch)
            samples, conditioning = self._sample(seeds)
            for place in range(self.batch):
                drawn = self._drawn(samples, conditioning, place, int(seeds[place]), tries=start + place + 1)
                if drawn is not None:
                    return drawn
        raise self.required.given_up(self.generator.info)

    def _sample(self, seeds: np.ndarray) -> tuple[Samples, Conditioning | None]:
        conditioning = None
        if self._rows is not None:
            conditioning = conditioning_rows(seeds, self._rows, classes=len(self.generator.info.classes))
        return self.generator.sample_seeds(seeds, self.psi, None, conditioning), conditioning

    def _drawn(
        self, samples: Samples, conditioning: Conditioning | None, place: int, seed: int, *, tries: int
    ) -> Drawn | None:
        if not self.required.met(samples.labels[place]):
            return None
        record: dict[str, Any] = {
            "mask_source": "generated",
            "required_classes": list(self.required.names),
            "draw_seed": seed,
            "tries": tries,
        }
        if conditioning is not None:
            record["conditioning"] = conditioning_record(conditioning, place, self.generator.info)
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


def conditioning_rows(seeds: np.ndarray, table: AttributeTable, *, classes: int) -> Conditioning:
    """Return a row of a table for each seed, as `Generator.sample` takes it."""
    from synthmed.models.generators import item_attributes

    drawn = item_attributes(seeds.astype(np.int64), table, classes=classes)
    return {name: np.asarray(value) for name, value in drawn.items()}


def conditioning_record(conditioning: Conditioning, place: int, info: "GeneratorInfo") -> dict[str, Any]:
    """Return what a sidecar says of an item's conditioning."""
    record: dict[str, Any] = {}
    if "position" in info.conditioning:
        record["position"] = float(conditioning["position"][place])
    if "shown" in info.conditioning:
        record["shown"] = [info.classes[index + 1] for index in np.flatnonzero(conditioning["shown"][place])]
    return record


def _class_index(name: str, info: "GeneratorInfo") -> int:
    names = list(info.classes)
    if name in names[1:]:
        return names.index(name)
    if name.isdecimal() and 1 <= int(name) < len(names):
        return int(name)
    raise UserError(f"--require-class {name}: {info.name} draws {', '.join(names[1:])} (or 1 to {len(names) - 1})")


MOST_VOLUMES = 33
"""How often a patient is drawn before it is given up."""


def check_volumes(info: "GeneratorInfo", *, format: str) -> None:
    """Refuse what cannot be drawn as volumes.

    Raises:
        UserError: If the generator is not conditioned on positions, does not know how many slices a case has, or the
            format holds pictures.
    """
    if format == "png":
        raise UserError("--unit volume has no --format png, which holds pictures: use nnunet or npz")
    if "position" not in info.conditioning:
        raise UserError(
            f"{info.name} does not know where a slice lies: --unit volume needs one trained with position=true"
        )
    if any(template.slices is None for template in info.templates):
        raise UserError(f"{info.name} does not say how many slices its cases had: --unit volume needs it trained again")


@dataclass
class VolumeDrawing:
    """Draws a patient a case, slice by slice.

    All slices share the random numbers of the patient's seed, and differ in their conditioning: where they lie and,
    where the generator has it, class presence.

    Attributes:
        generator: Where slices come from.
        psi: Truncation.
        required: Classes that a volume must show somewhere; None for any.
    """

    generator: Generator
    psi: float
    required: Requirement | None = None

    def __post_init__(self):
        if self.required is not None:
            self.required.rows(self.generator.info)

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block; see `Drawing.draw`.

        Raises:
            UserError: If a case does not show what is required after `MOST_VOLUMES` tries.
        """
        return [self._case(int(seed)) for seed in seeds[wanted]]

    def _case(self, seed: int) -> Drawn:
        drawn = self._volume(seed)
        if self.required is None:
            return drawn
        for tries, own in enumerate([seed, *retry_seeds(seed, 1, MOST_VOLUMES).tolist()], start=1):
            drawn = drawn if tries == 1 else self._volume(own)
            if self.required.met(drawn.label):
                names = list(self.required.names)
                record = drawn.record | {"required_classes": names, "draw_seed": own, "tries": tries}
                return Drawn(drawn.image, drawn.label, drawn.template, record)
        raise self.required.given_up(self.generator.info)

    def _volume(self, seed: int) -> Drawn:
        template = _template_number(seed, self.generator.info)
        slices = present(self.generator.info.templates[template].slices, "check_volumes refuses templates without")
        classes = () if self.required is None else self.required.classes
        conditioning = conditioning_along(seed, slices, self.generator.info, classes)
        samples = self.generator.sample_seeds(np.full(slices, seed, np.int64), self.psi, None, conditioning)
        return Drawn(samples.images, samples.labels, template, {"mask_source": "generated", "slices": slices})


def conditioning_along(seed: int, slices: int, info: "GeneratorInfo", required: tuple[int, ...] = ()) -> Conditioning:
    """Return the conditioning of the slices of one patient.

    Positions are those of a training case with as many slices. A patient has one uniform number for each class, and
    its slices show the class where that number is below the share of training slices that do at their position:
    each class then comes and goes as a whole, and at each position as often as in training.

    Args:
        seed: The patient's.
        slices: How many there are.
        info: The generator.
        required: Classes whose numbers are scaled so that the patient shows them where most training patients do.
    """
    from synthmed.layers.counter_random import uniform
    from synthmed.models.generators import PRESENCE_STREAM

    position = (np.arange(slices, dtype=np.float32) + 0.5) / slices
    shown = np.zeros((slices, len(info.classes) - 1), np.float32)
    if "shown" in info.conditioning and info.attributes is not None:
        shares = info.attributes.shares(position, len(info.classes))
        seeds = np.array([seed], np.int64)
        number = np.array(uniform(seeds, stream=PRESENCE_STREAM, count=len(info.classes) - 1))[0]
        for index in required:
            number[index - 1] *= shares[:, index - 1].max()
        shown = (number < shares).astype(np.float32)
    return {"position": position, "shown": shown}


def _template_number(seed: int, info: "GeneratorInfo") -> int:
    from synthmed.models.generators import TEMPLATE_STREAM, item_number

    seeds = np.array([seed], np.int64)
    return int(np.asarray(item_number(seeds, stream=TEMPLATE_STREAM, below=len(info.templates)))[0])
