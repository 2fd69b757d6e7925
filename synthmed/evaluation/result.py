"""What an evaluation says: the content of `metrics.json`, of which the report shows every number."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from synthmed import __version__
from synthmed.evaluation.figures import Figure, Section
from synthmed.evaluation.memorisation.verdict import Verdict


class Record(BaseModel):
    """Base of all records here."""

    model_config = ConfigDict(frozen=True)


class Count(Record):
    """How many slices of how many patients, or generated cases."""

    slices: int
    units: int


class About(Record):
    """What was compared with what.

    Attributes:
        dataset: Name of the real data set.
        store_hash: SHA-256 that stands for the content of its store.
        licence: Its licence.
        models: Hashes of the generators' weights.
        psi: Truncations that the set was drawn at; empty where its sidecars do not tell.
        variant: "images" for slices with label maps, "masks" for label maps alone.
        channels: Names; empty for label maps alone.
        classes: Names, background first.
        size: Rows and columns of a slice.
        synthetic: Generated slices and cases.
        training: Slices of training patients that the floor was measured on, and patients.
        held_out: Slices of validation and test patients, and patients.
        space: Feature space; "" without images.
        space_identity: Hash that stands for it: figures of two identities must not be compared.
        segmenter: Hash that stands for the segmenter of the adherence; "" without one.
        seed: Of random subsets, directions and resamples.
        version: synthmed's.
    """

    dataset: str
    store_hash: str
    licence: str
    models: tuple[str, ...]
    psi: tuple[float, ...] = ()
    variant: Literal["images", "masks"]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    size: tuple[int, int]
    synthetic: Count
    training: Count
    held_out: Count
    space: str = ""
    space_identity: str = ""
    segmenter: str = ""
    seed: int
    version: str = __version__


class Selected(Record):
    """Which samples were chosen.

    Attributes:
        asked: How many were wanted.
        kept: How many were chosen.
        dropped: How many were not, by kind of reason.
        ranked_by: What the rest were ranked by.
    """

    asked: int
    kept: int
    dropped: dict[str, int]
    ranked_by: str


class Means(Record):
    """The plain mean of one quantity; None where no slice shows the class."""

    label: str
    synthetic: float | None
    training: float | None
    held_out: float | None


class Evaluation(Record):
    """A whole evaluation.

    Attributes:
        about: What was compared.
        summary: In words.
        sections: The figures.
        means: Plain means of the label maps.
        audit: Verdict on copies.
        selection: What `--select` chose; None without.
        warnings: What a reader must mind.
    """

    about: About
    summary: tuple[str, ...]
    sections: tuple[Section, ...]
    means: tuple[Means, ...] = ()
    audit: Verdict
    selection: Selected | None = None
    warnings: tuple[str, ...] = ()

    def figures(self) -> list[tuple[str, Figure]]:
        """Return every figure with its key, "section.figure"."""
        return [(f"{section.name}.{figure.name}", figure) for section in self.sections for figure in section.figures]
