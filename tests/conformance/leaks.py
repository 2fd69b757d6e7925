"""Try to let held-out patients in, everywhere where something refuses them, and print as JSON what each try met.

    python tests/conformance/leaks.py FOLDER

Where a whole training would come before the refusal, what trains is replaced by something that returns a leak.
"""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from synthmed.data.phantom import write_phantom
from synthmed.data.plan import check_training
from synthmed.data.prepare import prepare
from synthmed.data.readers import read_dataset
from synthmed.data.synthetic import SyntheticSet
from synthmed.files import write_json
from synthmed.segmentation.augment import symmetry
from synthmed.segmentation.blend import check_fits, refuse_leaks
from synthmed.segmentation.filter import TrainingSlices, check_segmenter, score_samples
from synthmed.study import work


def write_set(folder, store, training_patients):
    """Write a synthetic set of one slice whose generator was taught by these patients."""
    folder.mkdir(parents=True)
    image = np.zeros((*store.size, len(store.channels)), np.float32)
    np.savez(folder / "case_0.npz", image=image, label=np.zeros(store.size, np.uint8))
    about = {"synthetic": True, "format": "npz", "model_hash": "abc", "seed": 0, "template": {"index": 0}}
    about |= {"channels": list(store.channels), "classes": list(store.classes)}
    write_json(folder / "case_0.json", about | {"training_patients": sorted(training_patients)})
    return SyntheticSet.open(folder)


def stand_in(name, **values):
    """Have `import NAME` give a module that holds these values alone."""
    module = ModuleType(name)
    vars(module).update(values)
    sys.modules[name] = module


def tries(folder):
    """Yield the name of each leak and a function that tries it."""
    dataset = read_dataset(write_phantom(folder / "phantom", cases=6, size=32, channels=1, seed=1))
    store = prepare(dataset, folder / "store", size=(32, 32), split=(0.66, 0.17, 0.17))
    held_out, own = store.held_out_hashes, set(store.training_hashes)
    leaky = write_set(folder / "leaky", store, own | set(store.hashes("test")))
    tuned = write_set(folder / "tuned", store, own | set(store.hashes("val")))
    other = write_set(folder / "other", store, {"f" * 64})

    yield "intensities fitted", lambda: check_training([SimpleNamespace(case="a")], {"a": "test"})
    yield "filter fitted", lambda: score_samples(leaky, store, store.cases("test"))
    yield "filter reads", lambda: TrainingSlices(store, store.cases("train")).images(store.indices("test"))
    yield "mirroring fitted", lambda: symmetry(store, store.cases("val"))

    yield "blended with a set that knows test patients", lambda: check_fits(leaky, store)
    yield "blended with a set that knows validation patients", lambda: check_fits(tuned, store)
    record = SimpleNamespace(synthetic=None, options=SimpleNamespace(context=0), training_patients=sorted(held_out))
    knowing = SimpleNamespace(path=Path("unet"), record=record)
    yield "measured by a U-Net that knows them", lambda: check_segmenter(knowing, store, set(store.training_hashes))
    yield "judged by a network that knows them", lambda: refuse_leaks(Path("unet"), held_out, store)

    def task(**values):
        return SimpleNamespace(of=lambda kind: "0", identity={"added_patients": 1}, **values)

    study = SimpleNamespace(of=lambda kind, digest: folder / "made")

    def prepared(made, split):
        work.slices_a_patient = lambda *_: 1
        work.prepare = lambda *_, **__: made
        work.read_dataset = lambda *_: None
        (folder / "work").mkdir(exist_ok=True)
        how = {"options": {"name": "a", "path": "a"}, "path": "a", "split": split}
        return work._store(study, task(how=how), folder / "work" / "store", None)

    split = {case.case: case.split for case in store.cases()}
    twice = SimpleNamespace(cases=store.cases, training_hashes=sorted(own | held_out), held_out_hashes=held_out)
    yield "study: store of other patients", lambda: prepared(store, dict.fromkeys(split, "train"))
    yield "study: store with a patient in two parts", lambda: prepared(twice, split)

    work._open_store = lambda *_: store
    work.slice_count = lambda *_: 1

    def added(made, taught, others):
        work.SyntheticSet = SimpleNamespace(open=lambda _: made)
        work._taught = lambda *_: SimpleNamespace(training_hashes=sorted(taught))
        return work._added(study, task(how={"cell": {"model": {"other_patients": others}}}), store)

    mine = write_set(folder / "mine", store, own)
    yield "study: slices of another generator", lambda: added(other, own, True)
    yield "study: slices that know test patients", lambda: added(leaky, leaky.training_hashes, False)
    yield "study: slices that know validation patients", lambda: added(tuned, tuned.training_hashes, True)
    yield "study: slices that know others", lambda: added(other, other.training_hashes, False)
    yield "study: slices of the trial's own patients as others'", lambda: added(mine, own, True)

    def drawn():
        work.SyntheticSet = SyntheticSet
        stand_in("synthmed.generation.generator", load_generator=lambda _: None)
        stand_in("synthmed.generation.generate", generate=lambda _, out, **__: write_set(out, store, held_out))
        asked = task(how={})
        asked.identity = {"patients": 1, "masks": None, "psi": 1.0, "seed": 0}
        return work._slices(study, asked, folder / "drawn" / "set", None)

    def generator():
        data = SimpleNamespace(training_patients=sorted(held_out))
        run = SimpleNamespace(data=data, last_arrays=lambda: (SimpleNamespace(state={"seconds": 1}), None))
        stand_in("synthmed.training.options", check_options=lambda values: None)
        stand_in(
            "synthmed.training.plan",
            plan_training=lambda *_, **__: SimpleNamespace(mask=None),
            execute=lambda *_, **__: True,
        )
        stand_in("synthmed.training.run", Run=SimpleNamespace(open=lambda _: run))
        asked = task(how={})
        asked.identity = {"options": {}}
        return work._generator(study, asked, folder / "run", None)

    def unet(record):
        run = SimpleNamespace(finished=True, record=record, read_log=list)
        stand_in("synthmed.segmentation.train_unet", train_unet=lambda *_, **__: run)
        return work._train(store, folder / "unet", {}, SimpleNamespace(training_hashes=own), None)

    yield "study: generator", generator
    yield "study: U-Net", lambda: unet(SimpleNamespace(training_patients=sorted(held_out), synthetic=None))
    blended = SimpleNamespace(training_patients=sorted(held_out))
    yield (
        "study: blended",
        lambda: unet(SimpleNamespace(training_patients=store.training_hashes, synthetic=blended)),
    )
    yield "study: drawn slices", drawn


def main(folder):
    met = {}
    for name, leak in tries(folder):
        try:
            leak()
        except Exception as error:
            met[name] = [one.__name__ for one in type(error).__mro__] + [str(error)]
        else:
            met[name] = []
    json.dump({"optimised": sys.flags.optimize, "met": met}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
