"""The folder of a U-Net training: what it records, its log, its weights."""

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from synthmed import __version__
from synthmed.data.schema import Plan
from synthmed.errors import UserError
from synthmed.files import atomic_file, read_json, write_json
from synthmed.memory import check_keras
from synthmed.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    from synthmed.models.unet import UNet

RECORD, LOG, CHECKPOINTS = "segmentation.json", "log.jsonl", "checkpoints"
Weights = Literal["last", "best"]


class ChoiceRecord(BaseModel):
    """Which slices of a synthetic set were used.

    Attributes:
        kept: How many.
        dropped: How many were not, by kind of reason.
        hash: SHA-256 over the kept slices' cases and places in them.
        filter_model: Hash over the weights of the filter model; None without one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kept: int
    dropped: dict[str, int]
    hash: str
    filter_model: str | None = Field(None, validation_alias=AliasChoices("filter_model", "judge"))


class SyntheticRecord(BaseModel):
    """Where a training's synthetic slices came from.

    Attributes:
        folder: Where they were.
        slices: How many there were; 0 where they are drawn during the training.
        models: Hashes of the generators that drew them.
        training_patients: Content hashes of the patients that these generators were trained on.
        hash: SHA-256 over all sidecars; of the weights where a generator draws during the training.
        choice: Which of them were used; None for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    slices: int
    models: tuple[str, ...]
    training_patients: tuple[str, ...]
    hash: str
    choice: ChoiceRecord | None = None


class RunRecord(BaseModel):
    """All that a training follows from, and that prediction needs besides the weights.

    Attributes:
        kind: Marks the file as ours.
        version: synthmed's version that made the run.
        options: With nothing left to derive.
        policy: Keras dtype policy of the training.
        store: Where the store was.
        dataset: Name of the data set.
        licence: Its licence.
        channels: Names of the channels.
        classes: Names of the classes, background first.
        plan: How cases become slices.
        store_hash: SHA-256 that stands for the store.
        training_patients: Content hashes of the training patients, sorted.
        validation_patients: The same of the validation patients.
        batch_parts: Real and synthetic slices in each batch; where the ratio changes, in the last one.
        class_weights: What a pixel of each class counts in the cross-entropy; None for 1 each.
        synthetic: Where synthetic slices came from; None without any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["synthmed-segmentation"] = "synthmed-segmentation"
    version: str = __version__
    options: SegmentOptions
    policy: str
    store: str
    dataset: str
    licence: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    plan: Plan
    store_hash: str
    training_patients: tuple[str, ...]
    validation_patients: tuple[str, ...]
    batch_parts: tuple[int, int]
    class_weights: tuple[float, ...] | None = None
    synthetic: SyntheticRecord | None = None

    def comparable(self) -> dict[str, Any]:
        """Return by name all that must agree for a training to be the same; folders may have been moved.

        The filter model is known by its weights, in the record of their choice.
        """
        values = self.model_dump(exclude={"version": True, "store": True, "options": True, "synthetic": {"folder"}})
        return values | self.options.model_dump(exclude={"blending": {"filter_model"}})


class SegmentationRun:
    """A run folder.

    Attributes:
        path: The folder.
        record: What it records.
    """

    def __init__(self, path: Path, record: RunRecord):
        self.path = path
        self.record = record

    @classmethod
    def open(cls, path: Path | str) -> "SegmentationRun":
        """Open a run folder.

        Raises:
            UserError: If it is none, or its record cannot be read.
        """
        path = Path(path)
        if not (path / RECORD).is_file():
            raise UserError(f"{path} is no U-Net run (it has no {RECORD}): make one with `synthmed segment train`")
        try:
            return cls(path, RunRecord.model_validate_json(json.dumps(read_json(path / RECORD))))
        except ValidationError as error:
            field = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise UserError(f"{path / RECORD} is not what this version of synthmed writes ({field})") from None

    @classmethod
    def create(cls, path: Path, record: RunRecord) -> "SegmentationRun":
        """Make the folder and write its record."""
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / RECORD, record.model_dump(mode="json"))
        return cls(path, record)

    @property
    def finished(self) -> bool:
        """Whether the last step has been done and its weights are kept."""
        return self.weights("last").is_file()

    @property
    def chosen(self) -> Weights:
        """Which weights prediction uses: those that the run was told to keep, the last ones if these never came to be.

        A validation gives no Dice where its patients show no class and none is found, and then none is the best.
        """
        keep = self.record.options.keep or "last"
        return "last" if self.finished and not self.weights(keep).is_file() else keep

    def weights(self, which: Weights) -> Path:
        """Return where the network after the last step, or that of the best validation, is kept."""
        return self.path / f"{which}.keras"

    def refuse_removed(self) -> None:
        """Do nothing where the folder is still there.

        Raises:
            UserError: If it was removed or moved while it was trained.
        """
        if not (self.path / RECORD).is_file():
            raise UserError(f"{self.path} was removed or moved while it was trained: train it again, or put it back")

    def save(self, network: "UNet", which: Weights) -> None:
        """Write a network as a float32 `.keras` file, whatever the precision of its training."""
        from synthmed.models.unet import UNet

        copy = UNet.from_config({**network.get_config(), "dtype": "float32", "name": "unet"})
        copy.build(self._input_shape(copy))
        copy.set_weights(network.get_weights())
        with atomic_file(self.weights(which)) as temporary:
            copy.save(temporary)

    def load(self, which: Weights | None = None, *, policy: str = "float32") -> "UNet":
        """Return the trained network with a dtype policy.

        Args:
            which: The weights; by default `chosen`.
            policy: Keras dtype policy to compute with.

        Raises:
            UserError: If the run has no such weights.
        """
        import keras

        from synthmed.models.unet import UNet

        path = self.weights(which or self.chosen)
        if not path.is_file() and self.finished:
            raise UserError(f"{self.path} has no {path.name}, since no validation gave a Dice: use its last weights")
        if not path.is_file():
            raise UserError(f"{self.path} has no {path.name} yet: finish it with `synthmed segment train --resume`")
        try:
            check_keras(path)
            saved = keras.saving.load_model(path, compile=False)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:80]}): train again") from None
        network = UNet.from_config({**saved.get_config(), "dtype": policy})
        network.build(self._input_shape(network))
        network.set_weights(saved.get_weights())
        return network

    def _input_shape(self, network: "UNet") -> tuple[int | None, ...]:
        return (None, *self.record.plan.size, len(self.record.channels) * (2 * network.context + 1))

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to the log."""
        self.refuse_removed()
        with open(self.path / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            # A checkpoint that reached the disk must not be followed by a log with a gap before it.
            os.fsync(file.fileno())

    def read_log(self) -> list[dict[str, Any]]:
        """Return the lines of the log; a last one that was cut off by a kill is left out."""
        path = self.path / LOG
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return list(_parsed(lines))

    def cut_log(self, step: int) -> None:
        """Remove the lines after a step: a resumed training writes them again."""
        if not (self.path / LOG).is_file():
            return
        kept = [json.dumps(line) + "\n" for line in self.read_log() if line["step"] <= step]
        with atomic_file(self.path / LOG) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")


def _parsed(lines: list[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            return
