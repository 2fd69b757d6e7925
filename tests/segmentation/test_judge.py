"""The U-Net that judges samples where no other is named."""

from pathlib import Path

import numpy as np
import pytest

from synthmed.data.synthetic import SyntheticSet
from synthmed.segmentation.compare import CompareOptions, compare
from synthmed.segmentation.options import check_options
from synthmed.segmentation.run import SegmentationRun
from synthmed.segmentation.schedule import Blending
from synthmed.segmentation.train_unet import filter_model_folder, with_filter_model

TINY = {"steps": 1, "batch": 4, "width": 4, "levels": 2, "precision": "float32"}


@pytest.fixture
def plausible(store, write_synthetic):
    """Return a set of real label maps with images as far from the training slices as those of other patients are."""
    folder = write_synthetic(count=6)
    numbers = store.indices("train")[4:10]
    brighter = np.clip(store.images(numbers) + 0.2, -1, 1)
    for place, (image, label) in enumerate(zip(brighter, store.labels(numbers), strict=True)):
        np.savez(folder / f"case_{place}.npz", image=image, label=label)
    return SyntheticSet.open(folder)


def test_a_judge_is_trained_on_the_same_real_slices_alone(store, tmp_path, eager):
    """A user's samples would be chosen by a network that saw other patients, synthetic slices or validation ones."""
    blending = Blending(keep_fraction=0.5, pretrain=0.5, sampling="balanced")
    options = check_options({**TINY, "ratio": 1.0, "train_patients": 2, "context": 1, "blending": blending})
    judged = with_filter_model(store, tmp_path / "run", options)
    judge = SegmentationRun.open(filter_model_folder(tmp_path / "run"))
    assert Path(judged.blending.filter_model) == judge.path and judged.blending.keep_fraction == 0.5
    record = judge.record
    assert record.synthetic is None and record.options.context == 0 and record.options.keep == "last"
    assert record.options.train_patients == 2 and record.options.blending.sampling == "balanced"
    assert with_filter_model(store, tmp_path / "run", options) == judged


def test_the_real_arm_of_each_draw_judges_in_a_comparison(store, plausible, tmp_path, eager):
    """A user's filter would leave the segmenter's agreement out, or take that of patients of another draw."""
    options = CompareOptions(arms=("blended",), train_patients=3, seeds=2, draws=2, ratio=1.0, split="val")
    training = check_options({**TINY, "blending": Blending(keep_fraction=0.5)})
    compare(store, tmp_path / "out", options, training, synthetic=[plausible])
    for draw, suffix in enumerate(("", "-draw-1")):
        for seed in (0, 1):
            run = SegmentationRun.open(tmp_path / "out" / f"blended-{seed}{suffix}")
            assert run.record.options.blending.filter_model == str(tmp_path / "out" / f"real-0{suffix}"), draw
            assert run.record.synthetic.choice.filter_model
    without = options.model_copy(update={"own_filter_model": False, "draws": 1, "seeds": 1})
    compare(store, tmp_path / "without", without, training, synthetic=[plausible])
    assert SegmentationRun.open(tmp_path / "without" / "blended-0").record.synthetic.choice.filter_model is None
