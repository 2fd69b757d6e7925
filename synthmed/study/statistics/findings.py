"""What was found in a study, as values that are written as JSON."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from synthmed.segmentation.score_table import Interval
from synthmed.study.statistics.significance import MixedSummary, PairedTest, Ranking
from synthmed.study.statistics.tables import ORACLE, REAL

GainVerdict = Literal["gain", "harm", "hint of gain", "hint of harm", "no evidence"]


class CellResult(BaseModel):
    """One model in one combination of a data set and a number of patients.

    Attributes:
        dataset: Name of the data set.
        patients: Real training patients.
        model: Label of the model.
        line: Models of one line differ by what they add alone.
        variant: Of the model.
        added_patients: Synthetic patients; real ones of an oracle.
        augmentation: Whether slices are augmented classically.
        planned: Trials that belong to it: draws times seeds.
        finished: Those that are there.
        failed: Those that failed.
        test_patients: On whom it was scored.
        dice: Mean Dice over classes of the means over patients and trainings, with its bootstrap interval over both and
            standard error; None where no trial is finished or no class was found.
        spread: Standard deviation of a training's mean Dice over trainings; None of one.
        classes: Mean Dice of each class; None where no patient has it.
        baseline: Model of real patients alone that it is compared with.
        trainings: Draws and seeds that both have, over which they are compared.
        gain: Mean Dice beyond the baseline's.
        over_copies: Mean Dice beyond that of as many copies of real slices, where the study has them.
        test: Wilcoxon's test over test patients, Holm's correction over all models of the combination.
        verdict: What interval and test say together.
        oracle: Model of more real patients that it is measured by: of as many, or else the nearest number.
        oracle_share: Its gain as a share of that one's; None where that is not known or may be nothing.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    patients: int
    model: str
    line: str
    variant: str
    added_patients: float
    augmentation: bool
    planned: int
    finished: int
    failed: int
    test_patients: int
    dice: Interval | None
    spread: float | None
    classes: dict[str, float | None]
    baseline: str | None
    trainings: int = 0
    gain: Interval | None = None
    over_copies: Interval | None = None
    test: PairedTest | None = None
    verdict: GainVerdict | None = None
    oracle: str | None = None
    oracle_share: float | None = None

    @property
    def synthetic(self) -> bool:
        """Whether it adds what a generator drew."""
        return self.variant not in (REAL, "duplicated", ORACLE)


class PooledResult(BaseModel):
    """One model over all combinations in which it can be compared.

    Attributes:
        model: Label of the model.
        baseline: What it is compared with.
        test: Wilcoxon's test over combinations of the gains, Holm's correction over all models.
        missing: Combinations that are left out, since they have no training of both yet.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    baseline: str
    test: PairedTest
    missing: list[str]


class RankedResult(BaseModel):
    """Ranks of the models over combinations that all of them are finished in.

    Attributes:
        ranking: The tests.
        blocks: Combinations that were ranked.
        missing_blocks: Combinations left out, since a model is missing there.
        missing_models: Models left out, since they are missing in too many combinations.
    """

    model_config = ConfigDict(frozen=True)

    ranking: Ranking
    blocks: list[str]
    missing_blocks: list[str]
    missing_models: list[str]


class TrialResult(BaseModel):
    """One trial.

    Attributes:
        hash: Name of its folder.
        dataset: Name of the data set.
        patients: Real training patients.
        draw: Which choice of these.
        model: Label of the model.
        seed: Of the U-Net.
        status: "failed" where its last run did; "missing" where it did not run, or still runs.
        dice: Mean Dice over classes of the means over patients.
        hours: Of its generator (whole, however many trials share it), its training and its scoring.
        cause: Why it failed.
    """

    model_config = ConfigDict(frozen=True)

    hash: str
    dataset: str
    patients: int
    draw: int
    model: str
    seed: int
    status: Literal["finished", "failed", "missing"]
    dice: float | None = None
    hours: dict[str, float] = {}
    cause: str = ""

    @property
    def label(self) -> str:
        """What a reader sees."""
        return f"{self.dataset}, {self.patients} patients, draw {self.draw}: {self.model}, seed {self.seed}"


class Findings(BaseModel):
    """All that a study found so far.

    Attributes:
        name: Of the study.
        hash: Of its configuration.
        run_by: Version of synthmed that ran it.
        version: Version that made these figures.
        planned: Trials of the study.
        finished: Those that are there.
        answer: What they say, a sentence a finding.
        notes: What a reader must know.
        cells: Every model in every combination, in the order of the configuration.
        pooled: Every model over combinations.
        ranked: Friedman's and Nemenyi's tests; None where there is too little to rank.
        mixed: The mixed model, where it was asked for and can be fitted.
        hours: By data set, hours of generators, trainings and scoring; a shared generator counts once.
        hours_left: Hours of trainings and scoring that are missing, by the mean of the finished ones; None of none.
        trials: Every trial.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    hash: str
    run_by: str
    version: str
    planned: int
    finished: int
    answer: str
    notes: list[str]
    cells: list[CellResult]
    pooled: list[PooledResult]
    ranked: RankedResult | None
    mixed: MixedSummary | None
    hours: dict[str, dict[str, float]]
    hours_left: float | None
    trials: list[TrialResult]

    @property
    def failed(self) -> list[TrialResult]:
        """The failed trials."""
        return [trial for trial in self.trials if trial.status == "failed"]
