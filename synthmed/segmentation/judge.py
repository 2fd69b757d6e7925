"""The U-Net that judges synthetic slices before they are blended, where no other is given."""

from pathlib import Path

from synthmed.data.store import Store
from synthmed.errors import UserError
from synthmed.progress import Progress
from synthmed.segmentation.options import SegmentOptions
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.train import train


def judge_folder(run: Path) -> Path:
    """Return where the judge of a run is kept: beside its folder, which holds one training alone."""
    return run.with_name(f"{run.name}-judge")


def with_judge(store: Store, run: Path, options: SegmentOptions, *, progress: Progress | None = None) -> SegmentOptions:
    """Return the options with a judge: the same training on the same patients' real slices alone.

    Args:
        store: Real slices.
        run: Folder of the training that the judge is for. A judge that is there already is not trained again.
        options: Of that training.
        progress: Told after each step.

    Raises:
        UserError: If the process was asked to stop.
    """
    alone = options.model_copy(
        # Samples have no neighbouring slices, and whoever chooses samples must not be chosen by validation patients.
        update={
            "ratio": 0.0,
            "blending": options.blending.without_synthetic(),
            "context": 0,
            "patience": None,
            "keep": "last",
        }
    )
    judge = train(store, judge_folder(run), alone, resume=True, progress=progress)
    if not judge.finished:
        raise UserError(f"stopped while the judge of --filter was trained; {judge.path} is saved: give the same again")
    return judged_by(options, judge)


def judged_by(options: SegmentOptions, judge: SegmentationRun) -> SegmentOptions:
    """Return the options with a trained U-Net as the judge of synthetic slices."""
    blending = options.blending.model_copy(update={"judge": str(judge.path)})
    return options.model_copy(update={"blending": blending})
