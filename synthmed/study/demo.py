"""The whole story on a phantom: real alone beside real and synthetic, and what that showed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.files import check_resumable, folder_lock
from synthmed.progress import Progress, silent, stage
from synthmed.segmentation.score import Scores

SHOWN = 8
"""Slices in each sample grid."""

REAL_ONLY = "real slices alone"
BLENDED = "real and generated slices"


@dataclass(kw_only=True)
class DemoResult:
    """What the demo found.

    Attributes:
        channels: Names of the channels.
        train_patients: Patients that trained the generator and the U-Nets.
        test_patients: Patients on which the U-Nets are scored.
        generated: Slices drawn.
        kimg: Thousands of real images shown to the discriminator.
        real: (images float32 [n, H, W, C] in [-1, 1], labels uint8 [n, H, W]) of training slices.
        fake: The same of generated slices.
        scores: Scores of the test patients, of the U-Nets trained on `REAL_ONLY` and `BLENDED`.
        seconds: Seconds that each step took.
    """

    channels: tuple[str, ...]
    train_patients: int
    test_patients: int
    generated: int
    kimg: float
    real: tuple[NDArray[np.float32], NDArray[np.uint8]]
    fake: tuple[NDArray[np.float32], NDArray[np.uint8]]
    scores: dict[str, Scores]
    seconds: dict[str, float] = field(default_factory=dict)


Result = TypeVar("Result")

# Seconds of each step on two idle cores, for the time left: only their proportions matter.
WEIGHTS = {
    "phantom": 5,
    "prepare": 2,
    "generator": 160,
    "generate": 12,
    "U-Net, real slices": 35,
    "U-Net, blended": 35,
    "scores": 12,
}


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How large the demo is; the defaults take at most five minutes on two cores.

    Attributes:
        cases: Phantom patients: 60 % train, 40 % test.
        size: Rows and columns of a slice.
        channels: Channels of the phantom.
        kimg: Thousand images that each generator is shown.
        minutes: Of training the two generators, in all, where `kimg` takes longer: the demo then ends in time, and does
            not repeat exactly.
        generated: Slices to draw.
        ratio: Synthetic slices for each real slice in the blended training.
        steps: Of each U-Net.
        seed: Of everything.
    """

    cases: int = 20
    size: int = 32
    channels: int = 2
    kimg: float = 5.0
    minutes: float = 2.7
    generated: int = 256
    ratio: float = 0.5
    steps: int = 150
    seed: int = 0


class _Story:
    """Steps done so far: tells the time that is left and remembers the time that was taken."""

    def __init__(self, report: Progress):
        self.report = report
        self.seconds: dict[str, float] = {}

    def step(self, name: str, work: Callable[[Progress], Result]) -> Result:
        """Do one step of `WEIGHTS`."""
        start = time.monotonic()
        before, own = sum(WEIGHTS[one] for one in self.seconds), WEIGHTS[name]
        tell = stage(self.report, before, own, sum(WEIGHTS.values()) - before - own, name)
        tell(0, 1, "")
        result = work(tell)
        self.seconds[name] = time.monotonic() - start
        return result


def run_demo(
    out: Path, options: DemoOptions | None = None, *, resume: bool = False, progress: Progress | None = None
) -> DemoResult:
    """Tell the whole story in a folder and return what came out.

    Args:
        out: Folder for everything that the demo makes; must be new or empty, or hold a demo to go on with.
        options: How large.
        resume: Go on with what is in `out`.
        progress: Told in estimated seconds.

    Raises:
        UserError: If `out` holds something and `resume` is not set, or the training was asked to stop.
    """
    with folder_lock(out):
        check_resumable(out, resume=resume)
        return _tell(out, options or DemoOptions(), _Story(progress or silent))


def _tell(out: Path, options: DemoOptions, story: _Story) -> DemoResult:
    dataset, generated = out / "phantom", out / "generated"
    story.step("phantom", lambda tell: _phantom(dataset, options, tell))
    store = story.step("prepare", lambda tell: _store(dataset, out / "store", options, tell))
    kimg = story.step("generator", lambda tell: _train_generator(out / "generator", store, options, tell))
    story.step("generate", lambda tell: _generate(out / "generator", generated, options, tell))
    synthetic = SyntheticSet.open(generated)
    arms = {REAL_ONLY: None, BLENDED: synthetic}
    unets = {REAL_ONLY: out / "unet-real", BLENDED: out / "unet-blended"}
    for (arm, extra), name in zip(arms.items(), ("U-Net, real slices", "U-Net, blended"), strict=True):
        story.step(name, partial(_train_unet, unets[arm], store, extra, options))
    scores = story.step(
        "scores",
        lambda tell: {
            arm: _score(unet, store, dataset, _part(tell, number, len(unets)))
            for number, (arm, unet) in enumerate(unets.items())
        },
    )
    shown = np.random.default_rng(options.seed).permutation(store.indices("train"))[:SHOWN]
    first = np.arange(min(SHOWN, len(synthetic)))
    return DemoResult(
        channels=store.channels,
        train_patients=len(store.cases("train")),
        test_patients=len(store.cases("test")),
        generated=len(synthetic),
        kimg=kimg,
        real=(store.images(shown), store.labels(shown)),
        fake=(synthetic.images(first), synthetic.labels(first)),
        scores=scores,
        seconds=story.seconds,
    )


def _part(tell: Progress, number: int, parts: int) -> Progress:
    """Tell the progress of part `number` of several equal ones as progress of the whole."""
    return lambda done, total, note: tell(number * total + done, parts * total, note)


def _phantom(dataset: Path, options: DemoOptions, tell: Progress) -> None:
    from synthmed.data.phantom import write_phantom

    if not dataset.exists():
        write_phantom(
            dataset,
            cases=options.cases,
            size=options.size,
            channels=options.channels,
            seed=options.seed,
            progress=tell,
        )


def _store(dataset: Path, path: Path, options: DemoOptions, tell: Progress) -> Store:
    from synthmed.data.prepare import prepare
    from synthmed.data.readers import read_dataset

    if path.exists():
        return Store.open(path)
    # Nothing is chosen by validation here, so all patients that do not train are tested on.
    return prepare(
        read_dataset(dataset),
        path,
        size=(options.size, options.size),
        split=(0.6, 0.0, 0.4),
        seed=options.seed,
        progress=tell,
    )


def _train_generator(path: Path, store: Store, options: DemoOptions, tell: Progress) -> float:
    from synthmed.training.options import check_options
    from synthmed.training.plan import MASK_SHARE, execute, plan_training
    from synthmed.training.run import Run

    def tell_of_both(done: int, total: int, note: str) -> None:
        share = done / total if total else 0.0
        first = note.startswith("mask generator")
        whole = share * MASK_SHARE if first else MASK_SHARE + share * (1 - MASK_SHARE)
        tell(round(1000 * whole), 1000, note)

    wanted = check_options({"variant": "cond", "kimg": options.kimg, "minutes": options.minutes, "seed": options.seed})
    existing_run = Run.open(path) if (path / "run.json").is_file() else None
    plan = plan_training(path, wanted, store, existing_run=existing_run)
    if not execute(plan, resume=existing_run is not None, progress=tell_of_both):
        raise UserError(f"stopped; go on with `synthmed demo --out {path.parent} --resume`")
    checkpoint, _, _ = Run.open(path).last_arrays()
    return float(checkpoint.state["kimg"])


def _generate(run: Path, out: Path, options: DemoOptions, tell: Progress) -> None:
    from synthmed.generation.generate import generate
    from synthmed.generation.generator import load_generator

    if not out.exists():
        generator = load_generator(run)
        generate(generator, out, n=options.generated, format="npz", seed=options.seed, progress=tell)


def _train_unet(path: Path, store: Store, synthetic: SyntheticSet | None, options: DemoOptions, tell: Progress) -> None:
    from synthmed.segmentation.options import check_options
    from synthmed.segmentation.train import train

    ratio = 0.0 if synthetic is None else options.ratio
    wanted = check_options({"steps": options.steps, "ratio": ratio, "seed": options.seed})
    if not train(store, path, wanted, synthetic=synthetic, resume=True, progress=tell).finished:
        raise UserError(f"stopped; go on with `synthmed demo --out {path.parent} --resume`")


def _score(unet: Path, store: Store, dataset: Path, tell: Progress) -> Scores:
    from synthmed.segmentation.predict import predict
    from synthmed.segmentation.run import SegmentationRun
    from synthmed.segmentation.score import score_folders

    predicted = unet.with_name(unet.name.replace("unet", "predicted"))
    if not predicted.exists():
        predict(SegmentationRun.open(unet), store.path, predicted, split="test", progress=tell)
    return score_folders(predicted, dataset)
