"""What an evaluation says, as it is stored: figures beside their real baseline, the whole record, and its summary."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from synthmed import __version__
from synthmed.errors import present
from synthmed.files import write_json

Better = Literal["lower", "higher", "real_baseline"]
Standing = Literal["like real", "worse than real", "better than real", "unlike real", "no interval", "no baseline"]
OFF: tuple[Standing, ...] = ("worse than real", "unlike real")
NOT_AUDITED = "not audited: nobody has compared what it draws with its training slices"
FEW_SLICES, FEW_PATIENTS = 100, 5
_SUMMARY_KEYS = (
    "fidelity.frechet_distance",
    "fidelity.kid",
    "fidelity.precision",
    "diversity.recall",
    "diversity.coverage",
    "diversity.ms_ssim",
    "appearance.spectrum_highest_band",
    "adherence.dice_",
    "masks_size.frequency_",
    "masks_size.area_",
    "masks_place.position_",
)
"""Beginnings of the keys of the figures in a summary."""
_MOST_IN_SUMMARY = 24
"""Figures at most: a set of many classes has its report for the rest."""


class Record(BaseModel):
    """Base of what is stored as JSON; keys that earlier versions wrote are read as today's, by `old_keys`."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())
    old_keys: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_old_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {cls.old_keys.get(key, key): content for key, content in value.items()}


class Estimate(Record):
    """A number and its 95 % interval.

    Attributes:
        value: The number.
        low: Lower end of the interval; None where none was made.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval; without one both are the number."""
        return (self.value if self.low is None else self.low), (self.value if self.high is None else self.high)


class Figure(Record):
    """One figure of a report: never a number alone, but with its interval, its real baseline and its definition.

    Attributes:
        name: Key in `metrics.json`, in snake case.
        label: What a reader sees.
        estimate: Of the synthetic set.
        real_baseline: The same figure for real slices of training patients in the place of the synthetic ones: what
            real data of other patients would get. None where that has no meaning.
        better: Whether lower or higher is better, or as near to the real baseline as possible.
        definition: What it is, in a sentence or two, with its source.
        space: Feature space that it was measured in; "" for none. Figures of two spaces must not be compared.
        unit: Of the value; "" for none.
        warning: Why it should be read with care; "" where nothing is wrong.
    """

    old_keys = {"floor": "real_baseline"}

    name: str
    label: str
    estimate: Estimate
    real_baseline: Estimate | None = None
    better: Better
    definition: str
    space: str = ""
    unit: str = ""
    warning: str = ""

    @field_validator("better", mode="before")
    @classmethod
    def _read_old_value(cls, value: Any) -> Any:
        return "real_baseline" if value == "floor" else value

    @property
    def standing(self) -> Standing:
        """How it stands beside its real baseline: apart only where the two intervals do not meet."""
        if self.real_baseline is None:
            return "no baseline"
        real = self.real_baseline
        if self.estimate.low is None and real.low is None and self.estimate.value != real.value:
            return "no interval"
        (low, high), (least, most) = self.estimate.ends, real.ends
        if low <= most and least <= high:
            return "like real"
        if self.better == "real_baseline":
            return "unlike real"
        return "worse than real" if (low > most) == (self.better == "lower") else "better than real"


class Section(Record):
    """Figures on one subject.

    Attributes:
        name: Key in `metrics.json`, in snake case.
        title: What a reader sees.
        figures: In the order of the report.
        notes: What a reader must know, a sentence each.
    """

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()


class Verdict(Record):
    """What a memorisation audit found, in a sentence and a few numbers; it names no patient.

    It travels with a generator and with what it draws.

    Attributes:
        passed: Whether there is no sign of copies; None where no audit could be made.
        sentence: The verdict with its thresholds, or why there is none.
        samples: How many samples were compared.
        copies: How many of them stand out as copies.
        near: How many are nearer to a training slice than 1 % of real slices of other patients are.
        membership_auc: AUC of the attack that tells training slices by their distance to the samples; None where there
            were no held-out patients to tell them from.
        model_hash: SHA-256 of the weights that drew the samples; "" where not known.
        store_hash: Content hash of the store.
        version: Version of synthmed that made the audit.
    """

    passed: bool | None = None
    sentence: str = NOT_AUDITED
    samples: int = 0
    copies: int = 0
    near: int = 0
    membership_auc: float | None = None
    model_hash: str = ""
    store_hash: str = ""
    version: str = __version__


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
        training: Slices of training patients that the real baseline was measured on, and patients.
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
    """A whole evaluation: the content of `metrics.json`, of which the report shows every number.

    Attributes:
        about: What was compared.
        summary: In a few sentences.
        sections: The figures.
        means: Plain means of the label maps.
        audit: Verdict on copies.
        selection: What `--select` chose; None without.
        warnings: What limits the figures.
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


class SummaryFigure(Record):
    """One figure of a summary.

    Attributes:
        label: What a reader sees, with its unit.
        estimate: Of the synthetic set.
        real_baseline: What real slices get.
        reads: How the two stand to each other, such as "like real".
    """

    old_keys = {"floor": "real_baseline"}

    label: str
    estimate: Estimate
    real_baseline: Estimate | None
    reads: str


class EvaluationSummary(Record):
    """The figures that lie beside a run and travel with its generator's card; it names no patient.

    Attributes:
        figures: In the order of the report.
        samples: How many synthetic slices were compared.
        held_out: With how many slices of patients that the generator has not seen.
        patients: How many such patients.
        psi: Truncations that the samples were drawn at.
        space: Feature space; "" without images.
        model_hash: SHA-256 of the weights that drew them; "" for a set of none or several generators.
        store_hash: Content hash of the store.
        version: Version of synthmed.
    """

    figures: tuple[SummaryFigure, ...]
    samples: int
    held_out: int
    patients: int
    psi: tuple[float, ...] = ()
    space: str = ""
    model_hash: str = ""
    store_hash: str = ""
    version: str = __version__

    @classmethod
    def of(cls, evaluation: Evaluation) -> "EvaluationSummary":
        """Return the summary of an evaluation."""
        about = evaluation.about
        chosen = [figure for key, figure in evaluation.figures() if key.startswith(_SUMMARY_KEYS)]
        return cls(
            figures=tuple(
                SummaryFigure(
                    label=f"{one.label} ({one.unit})" if one.unit else one.label,
                    estimate=one.estimate,
                    real_baseline=one.real_baseline,
                    reads=one.standing,
                )
                for one in chosen[:_MOST_IN_SUMMARY]
            ),
            samples=about.synthetic.slices,
            held_out=about.held_out.slices,
            patients=about.held_out.units,
            psi=about.psi,
            space=about.space,
            model_hash=about.models[0] if len(about.models) == 1 else "",
            store_hash=about.store_hash,
        )

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.model_dump(mode="json"))


def read_evaluation_summary(path: Path, model_hash: str) -> EvaluationSummary | None:
    """Return the summary in a file, if it is of these weights; None where there is none that can be read."""
    try:
        found = EvaluationSummary.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.model_hash == model_hash else None


def summarise(about: About, sections: tuple[Section, ...]) -> tuple[str, ...]:
    """Return a few sentences: what was compared, and for each section how far it is from its real baseline."""
    lines = [
        f"{about.synthetic.slices:,} synthetic slices were compared with {about.held_out.slices:,} slices of "
        f"{about.held_out.units:,} held-out patients. The real baseline is what {about.training.slices:,} slices of "
        f"{about.training.units:,} training patients get in their place."
    ]
    if about.space:
        lines.append(f"Feature space: {about.space}. Figures of different feature spaces must not be compared.")
    for section in sections:
        compared = [figure for figure in section.figures if figure.real_baseline is not None]
        # Of copies the verdict speaks, by its own threshold.
        if compared and section.name != "memorisation":
            lines.append(f"{section.title}{'' if section.title.endswith('?') else ':'} {_distance_to_real(compared)}")
    return tuple(lines)


def warn(about: About, sections: tuple[Section, ...]) -> list[str]:
    """Return what makes figures weak: few slices, few patients, and the figures' own warnings."""
    warnings = []
    if about.synthetic.slices < FEW_SLICES:
        warnings.append(
            f"{about.synthetic.slices} synthetic slices are few: intervals are wide; {FEW_SLICES} or more are better."
        )
    for kind, count in (("held-out", about.held_out), ("training", about.training)):
        if count.units < FEW_PATIENTS:
            patients = "patient: the intervals say" if count.units == 1 else "patients: the intervals say"
            warnings.append(f"The {kind} slices are of {count.units} {patients} little of how other patients differ.")
    labels: dict[str, list[str]] = {}
    for figure in (figure for section in sections for figure in section.figures if figure.warning):
        labels.setdefault(figure.warning, []).append(figure.label)
    return warnings + [f"{', '.join(names)}: {warning}." for warning, names in labels.items()]


def _distance_to_real(figures: list[Figure]) -> str:
    worse = [figure for figure in figures if figure.standing in OFF]
    count = len(figures)
    if not worse:
        every = "The figure is not" if count == 1 else f"None of the {count} figures is"
        return f"{every} worse than what real slices of other patients get, as far as the intervals tell."
    furthest = max(worse, key=_excess)
    real = present(furthest.real_baseline, "a figure without one is not worse than it")
    some = "The figure is" if count == 1 else f"{len(worse)} of {count} figures are"
    return (
        f"{some} worse than what real slices of other patients get; furthest off is {furthest.label}, "
        f"{furthest.estimate.value:.3g} where real slices get {real.value:.3g}."
    )


def _excess(figure: Figure) -> float:
    """Return how far a figure is from its real baseline in half-widths of the two intervals."""
    real = present(figure.real_baseline, "a figure without one is not worse than it")
    (low, high), (least, most) = figure.estimate.ends, real.ends
    return abs(figure.estimate.value - real.value) / max((high - low + most - least) / 2, 1e-9)
