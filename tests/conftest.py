"""What every test shares."""

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

# Before anything imports TensorFlow: its logs would bury a failure.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Return the folder of real data sets named by SYNTHMED_TEST_DATA; without it the test is skipped."""
    folder = os.environ.get("SYNTHMED_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set SYNTHMED_TEST_DATA to its folder")
    return Path(folder).resolve()


@pytest.fixture
def elsewhere():
    """Return a function by which another thread is inside a context manager, made by a function, during the block.

    Locks keep threads apart as they keep processes apart; the thread that has one would get it again.
    """

    @contextmanager
    def inside(make: Callable[[], AbstractContextManager]) -> Iterator[Any]:
        entered: queue.SimpleQueue[Any] = queue.SimpleQueue()
        leave = threading.Event()

        def work() -> None:
            with make() as value:
                entered.put(value)
                leave.wait()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield entered.get(timeout=60)
        finally:
            leave.set()
            thread.join()

    return inside


@pytest.fixture(scope="session")
def tiny_info():
    """Return a function from a variant to what a generator of 32 x 48 slices, two channels, three classes says."""
    from synthmed.data.geometry import Template
    from synthmed.generation.info import GeneratorInfo

    def template(number: int) -> Template:
        # Rows to posterior, columns to left, oblique by a little, and written in another order than drawn.
        return Template(
            affine=((0, -0.5, 0.1, float(number)), (-1.0, 0, 0, -7.0), (0, 0.05, 2.0, 3.0), (0, 0, 0, 1.0)),
            orientation="RAS",
            xyzt_units=("mm", "sec"),
            qform_code=1,
            sform_code=2,
            scale=(100.0 + number, 0.5),
            offset=(20.0, -3.0),
            dtype="float32",
        )

    def make(variant: str) -> GeneratorInfo:
        return GeneratorInfo(
            name=f"tiny-{variant}",
            variant=variant,
            size=(32, 48),
            channels=() if variant == "mask" else ("T1", "FLAIR"),
            classes=("background", "anterior", "posterior"),
            z_dim=16,
            templates=[template(1), template(2)],
            training_patients=["aa" * 32, "bb" * 32],
            kimg=1.5,
            model_hash="cc" * 32,
            dataset="tiny set",
            licence="CC0",
            options={"data": "/home/somebody/store"},
        )

    return make


@pytest.fixture(scope="session")
def tiny_bundle(tiny_info):
    """Return a function from a variant to an untrained generator bundle, as `tiny_info` describes it.

    A conditional one knows position and shown classes; its slices are four, at whose ends only background is.
    """
    from functools import cache

    @cache
    def make(variant: str, conditional: bool = False):
        import keras

        from synthmed.data.attributes import AttributeTable
        from synthmed.generation.bundle import GeneratorBundle
        from synthmed.models.generators import SliceGenerator

        def generator(kind: str, seed: int):
            keras.utils.set_random_seed(seed)
            sizes = {"z_dim": 16, "w_dim": 16, "mapping_layers": 2, "channel_base": 128, "channel_max": 16}
            sizes |= {"position": conditional, "class_presence": conditional}
            return SliceGenerator(variant=kind, size=(32, 48), channels=2, classes=3, name=kind, **sizes)

        masks = generator("mask", 2) if variant == "cond" else None
        info = tiny_info(variant)
        if conditional:
            table = AttributeTable(
                steps=4, positions=(0, 1, 1, 2, 3), shown=((), (1,), (1, 2), (1,), ()), counts=(3, 1, 2, 3, 4)
            )
            templates = [one.model_copy(update={"slices": 3 + 2 * number}) for number, one in enumerate(info.templates)]
            changes = {"conditioning": ("position", "shown"), "attributes": table, "templates": templates}
            info = info.model_copy(update=changes)
        return GeneratorBundle(info, generator(variant, 1), masks)

    return make


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A store of six small phantom cases: 32 x 32, two channels, three of them for training."""
    from synthmed.data.phantom import write_phantom
    from synthmed.data.prepare import prepare
    from synthmed.data.readers import read_dataset

    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder / "set", cases=6, size=32, channels=2, seed=1)
    return prepare(read_dataset(folder / "set"), folder / "store", size=(32, 32), split=(0.5, 0.25, 0.25), seed=1)


@pytest.fixture
def eager():
    """Run TensorFlow functions line by line: for two steps of a tiny network, tracing takes ten times longer."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def tf():
    """TensorFlow, by which tests of layers and networks take gradients; under another backend they are skipped."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes gradients with TensorFlow")
    import tensorflow

    return tensorflow
