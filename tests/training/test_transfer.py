import numpy as np
import pytest

from synthmed.errors import UserError
from synthmed.training.adversarial import Adversarial
from synthmed.training.options import TrainOptions, resolve
from synthmed.training.plan import execute, plan_training
from synthmed.training.run import Run
from synthmed.training.tensorflow_backend import TensorFlowEngine
from synthmed.training.trainer import start_from

pytestmark = pytest.mark.usefixtures("eager")
SMALL = {"batch": 4, "channel_base": 256, "channel_max": 16, "precision": "float32", "kimg": 0.008}


@pytest.fixture(scope="module")
def source(store, tmp_path_factory):
    import tensorflow as tf

    path = tmp_path_factory.mktemp("source") / "run"
    tf.config.run_functions_eagerly(True)
    execute(plan_training(path, TrainOptions(variant="base", seed=5, **SMALL), store))
    return Run.open(path)


def engine(*, channels=2, classes=3, **more):
    options = resolve(TrainOptions(variant="base", **(SMALL | more)), size=(32, 32))
    return TensorFlowEngine(Adversarial.build(options, size=(32, 32), channels=channels, classes=classes))


def test_weights_that_fit_are_taken_over_and_others_stay(source):
    """A user with another number of channels would start from nothing, or not at all."""
    made = engine(channels=1)
    state = made.state()
    before = {name: np.asarray(variable).copy() for name, variable in state.items()}
    line = start_from(source, state)
    arrays = source.last_arrays()[1]
    taken = {name for name, array in arrays.items() if np.array_equal(np.asarray(state[name]), array)}
    assert {name for name in taken if "from_planes/kernel" in name} == set()
    changed = {name for name in before if not np.array_equal(before[name], np.asarray(state[name]))}
    assert {name.split("/")[0] for name in changed} == {"generator", "average", "discriminator"}
    assert "%" in line


def test_networks_of_another_size_are_refused_with_the_sizes_to_give(source):
    """A user would believe that a run started from another one."""
    with pytest.raises(UserError, match="channel_base"):
        start_from(source, engine(channel_base=512, channel_max=32).state())


def test_a_run_that_starts_from_another_is_taught_by_its_patients_and_begins_with_its_weights(source, store, tmp_path):
    """A user's leak check would not know half of the patients; and the option would do nothing."""
    options = TrainOptions(variant="base", init_from=str(source.path), learning_rate=1e-9, **SMALL)
    execute(plan_training(tmp_path / "run", options, store))
    run = Run.open(tmp_path / "run")
    assert set(source.data.training_patients) <= set(run.data.training_patients)
    old, new = source.last_arrays()[1], run.last_arrays()[1]
    name = next(name for name in old if name.startswith("discriminator/") and name.endswith("first/kernel"))
    np.testing.assert_allclose(new[name], old[name], atol=1e-5)


def test_a_source_of_another_variant_is_refused(source, store, tmp_path):
    """A user would start masks from images."""
    options = TrainOptions(variant="mask", init_from=str(source.path), **SMALL)
    with pytest.raises(UserError, match="one of its kind"):
        plan_training(tmp_path / "run", options, store)


def test_a_source_that_does_not_fit_leaves_nothing_behind(source, store, tmp_path):
    """A user who corrects the command would be told that the folder holds a run already."""
    other = SMALL | {"channel_base": 512, "channel_max": 32}
    options = TrainOptions(variant="base", init_from=str(source.path), **other)
    with pytest.raises(UserError, match="channel_base"):
        execute(plan_training(tmp_path / "run", options, store))
    assert not (tmp_path / "run").exists()


def test_what_the_user_had_in_the_folder_stays_when_a_run_cannot_begin(source, store, tmp_path):
    """A user who resumes into the wrong folder would lose what lies there."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    other = SMALL | {"channel_base": 512, "channel_max": 32}
    options = TrainOptions(variant="base", init_from=str(source.path), **other)
    with pytest.raises(UserError, match="channel_base"):
        execute(plan_training(tmp_path / "run", options, store), resume=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]
