"""Slices drawn while a U-Net trains: each once, the same ones after a restart, errors told, no thread left."""

import math
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.generation.bundle import GeneratorBundle
from synthmed.generation.generator import RunGenerator, Samples, load_generator
from synthmed.models.generators import SliceGenerator
from synthmed.segmentation.augment import Augmentation
from synthmed.segmentation.blend import AHEAD, ContextSlices, GeneratedSlices, blended_batches, fitting_slices
from synthmed.segmentation.options import check_options
from synthmed.segmentation.schedule import Blending
from synthmed.segmentation.train import TrainingLoop, train
from synthmed.serving.export import export_bundle

STILL = Augmentation(geometry=0, elastic=0, sharpness=0, intensity=0)


class Painter:
    """Draws slices whose grey is the seed's last digits."""

    def __init__(self, store, **changes):
        facts = {
            "channels": store.channels,
            "classes": store.classes,
            "size": store.size,
            "training_patients": store.training_hashes,
            "model_hash": "painter",
        }
        self.info = SimpleNamespace(**{**facts, **changes})
        self.seeds: list[int] = []

    def sample_seeds(self, seeds, psi, masks=None, conditioning=None):
        self.seeds += seeds.tolist()
        shape = (len(seeds), *self.info.size)
        grey = (seeds % 100 / 100.0).astype(np.float32).reshape(-1, 1, 1, 1)
        images = np.broadcast_to(grey, (*shape, len(self.info.channels)))
        return Samples(images, np.ones(shape, np.uint8), np.zeros(len(seeds), np.int64))


def numbers(store, source, *, start=0, steps=4):
    """Return which items each batch holds, by their grey."""
    stream = blended_batches(
        store,
        store.indices("train"),
        source,
        batch=5,
        ratio=2 / 3,
        seed=0,
        augmentation=STILL,
        blending=Blending(synthetic_weight=0.5),
        start=start,
    )
    found = []
    for batch in stream.take(steps).as_numpy_iterator():
        assert batch["synthetic"].tolist() == [False] * 3 + [True] * 2
        assert batch["weight"].tolist() == [1, 1, 1, 0.5, 0.5]
        found.append((batch["image"][3:, 0, 0, 0] * 100).round().astype(int).tolist())
    return found


def test_every_slice_comes_once_and_a_restart_goes_on_with_the_same(store):
    """A user's resumed training would see other synthetic slices than an undisturbed one."""
    source = GeneratedSlices(Painter(store), Path("painter"), block=3)
    whole = numbers(store, source)
    assert whole == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert numbers(store, source, start=2, steps=2) == whole[2:]
    assert numbers(store, source) == whole
    source.close()


def test_no_more_is_drawn_ahead_than_the_queue_holds_and_the_thread_ends(store):
    """A user's memory would fill with slices, or the process would not end."""
    painter = Painter(store)
    before = set(_drawing())
    source = GeneratedSlices(painter, Path("painter"), block=2)
    reader = source.reader(0)
    reader.take(0, 1)
    for _ in range(50):
        time.sleep(0.01)
    # The queue is full, one block is in the hands of the thread, and one has been taken.
    assert len(painter.seeds) <= 2 * (AHEAD + 2)
    assert len(set(_drawing()) - before) == 1
    source.close()
    assert set(_drawing()) <= before
    with pytest.raises(RuntimeError, match="closed"):
        reader.take(1, 1)
    assert source.reader(0).take(4, 2)[0].shape == (2, *store.size, len(store.channels))
    source.close()


def _drawing():
    return [thread for thread in threading.enumerate() if thread.name == "synthetic slices"]


def test_an_error_of_the_generator_reaches_the_training(store):
    """A user's training would wait for ever for slices that nobody draws."""

    class Broken(Painter):
        def sample_seeds(self, *_, **__):
            raise UserError("the generator is broken")

    with pytest.raises(UserError, match="broken"):
        GeneratedSlices(Broken(store), Path("broken")).reader(0).take(0, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channels": ("CT",)}, "channels CT"),
        ({"channels": ()}, "channels none"),
        ({"classes": ("background", "other")}, "classes background, other"),
        ({"size": (16, 16)}, "16x16"),
        ({"training_patients": "val"}, "validation cases"),
        ({"training_patients": "test"}, "test cases"),
    ],
)
def test_a_generator_that_does_not_fit_is_refused(store, changes, reason):
    """A user would train on slices that mean something else, or on a leak into the test patients."""
    if isinstance(changes.get("training_patients"), str):
        changes = {"training_patients": store.hashes(changes["training_patients"])}
    with pytest.raises(UserError, match=reason):
        fitting_slices(GeneratedSlices(Painter(store, **changes), Path("painter")), store)


def test_an_interrupted_training_on_drawn_slices_ends_where_an_undisturbed_one_does(
    store, tmp_path, monkeypatch, eager
):
    """A user would get another network because the machine was restarted."""
    blending = Blending(pretrain=0.25, ratio_end=0.0, synthetic_weight=0.5, sampling="balanced")
    options = check_options(
        {
            **{"steps": 4, "batch": 4, "width": 2, "levels": 2, "precision": "float32", "checkpoint_seconds": 0},
            **{"ratio": 1.0, "blending": blending},
        }
    )
    source = GeneratedSlices(Painter(store), Path("painter"), block=3)
    whole = train(store, tmp_path / "whole", options, synthetic=source)
    assert (whole.path / "batch.png").is_file()
    assert whole.record.synthetic.hash == "painter"
    assert not _drawing()
    real_step = TrainingLoop._do_step

    def killed(loop, batch):
        if loop.step == 2:
            raise KeyboardInterrupt
        real_step(loop, batch)

    monkeypatch.setattr(TrainingLoop, "_do_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(store, tmp_path / "cut", options, synthetic=source)
    monkeypatch.setattr(TrainingLoop, "_do_step", real_step)
    cut = train(store, tmp_path / "cut", options, synthetic=source, resume=True)
    for one, other in zip(cut.load("last").get_weights(), whole.load("last").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_synthetic_alone_and_filter_of_drawn_slices(store, tmp_path):
    """A user would get a filter that does nothing, or real slices where none were asked for."""
    source = GeneratedSlices(Painter(store), Path("painter"))
    with pytest.raises(UserError, match="--generator"):
        options = check_options({"ratio": 1.0, "blending": Blending(keep_fraction=0.5)})
        train(store, tmp_path / "run", options, synthetic=source)
    stream = blended_batches(store, np.empty(0, int), source, batch=2, ratio=math.inf, seed=0, augmentation=STILL)
    assert next(iter(stream))["synthetic"].numpy().all()
    source.close()


def test_drawn_slices_stand_in_for_their_own_neighbours(store):
    """A user's U-Net that looks at neighbouring slices could not be trained with a generator."""
    source = GeneratedSlices(Painter(store), Path("painter"))
    stream = blended_batches(
        ContextSlices(store, 1), store.indices("train"), source, batch=4, ratio=1, seed=0, augmentation=STILL
    )
    image = next(iter(stream))["image"].numpy()
    source.close()
    channels = len(store.channels)
    assert image.shape[-1] == 3 * channels
    np.testing.assert_array_equal(image[2:, ..., :channels], image[2:, ..., channels : 2 * channels])


def test_an_exported_generator_draws_for_a_training(store, tiny_info, tmp_path):
    """A colleague who was given a served generator, not its run, could not blend with it, or would wait for ever."""
    facts = {"channels": store.channels, "classes": store.classes, "training_patients": store.training_hashes}
    info = tiny_info("base").model_copy(update={**facts, "size": store.size})
    sizes = {"z_dim": 16, "w_dim": 16, "mapping_layers": 2, "channel_base": 128, "channel_max": 16}
    parts = {"channels": len(store.channels), "classes": len(store.classes)}
    bundle = GeneratorBundle(info, SliceGenerator(variant="base", size=store.size, **parts, **sizes))
    generator = load_generator(export_bundle(bundle, to=tmp_path / "models"))
    source = GeneratedSlices(generator, tmp_path / "models")
    images, labels = source.draw(0, 2, 5)
    expected, expected_labels = GeneratedSlices(RunGenerator(bundle), tmp_path).draw(0, 2, 5)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    np.testing.assert_array_equal(labels, expected_labels)
    options = {"steps": 2, "batch": 4, "width": 2, "levels": 2, "precision": "float32", "ratio": 1.0}
    run = train(store, tmp_path / "run", check_options(options), synthetic=source)
    assert run.finished and run.record.synthetic.hash == info.model_hash
    assert set(run.record.synthetic.training_patients) == set(store.training_hashes)
    assert not _drawing()
