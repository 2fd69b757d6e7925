"""nnU-Net's own verification of what synthmed writes, and of what synthmed's inspection finds.

nnU-Net brings PyTorch and stays in an environment of its own: SYNTHMED_NNUNET_PYTHON names its interpreter.
"""

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from synthmed.data.formats import NiftiSource
from synthmed.data.formats.itk import ItkSource
from synthmed.data.inspect import fingerprint
from synthmed.data.phantom import write_phantom
from synthmed.data.readers import CaseFiles, read_dataset
from synthmed.files import read_json, write_json
from synthmed.generation.generate import generate
from synthmed.generation.merge import merge

PYTHON = os.environ.get("SYNTHMED_NNUNET_PYTHON")

pytestmark = pytest.mark.skipif(not PYTHON, reason="needs nnU-Net: set SYNTHMED_NNUNET_PYTHON to its interpreter")

VERIFY = """
import multiprocessing, sys, traceback
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

class Here:
    # Processes of its own cost seconds for each set; the checks are the same.
    def __init__(self, *arguments): pass
    def __enter__(self): return self
    def __exit__(self, *arguments): pass
    def starmap(self, function, rows): return [function(*row) for row in rows]

multiprocessing.get_context = lambda kind: type("Context", (), {"Pool": Here})
for folder in sys.argv[1:]:
    try:
        verify_dataset_integrity(folder, 1)
        print("VERDICT", folder, "accepted", flush=True)
    except BaseException as error:
        traceback.print_exc()
        print("VERDICT", folder, "refused", flush=True)
"""


def verdicts(*folders: Path) -> dict[str, str]:
    """Return for each set's name whether nnU-Net accepts it; its words are printed, for when a test fails."""
    rooms = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    environment = os.environ | {room: str(folders[0].parent) for room in rooms}
    command = [str(PYTHON), "-c", VERIFY, *map(str, folders)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    print(done.stdout, done.stderr)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("VERDICT")]
    assert len(lines) == len(folders)
    # Words of warning on affines do not refuse a set, but ours has to be without them.
    assert "mismatch" not in done.stdout or "refused" in done.stdout
    return {Path(folder).name: verdict for _, folder, verdict in lines}


def _module(*parts):
    """Return a helper module of another folder of tests."""
    path = Path(__file__).parents[1].joinpath(*parts)
    spec = importlib.util.spec_from_file_location(f"helper_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def painter():
    """Return the generator of tests/generation, which draws without a network."""
    return _module("generation", "conftest.py").PaintingSampler


@pytest.fixture
def phantom(tmp_path):
    """Write a phantom of two channels and return its folder and what a generator of it would say."""
    folder = tmp_path / "phantom"
    write_phantom(folder, cases=4, size=32, channels=2, seed=1)
    return folder


@pytest.fixture
def info_for(tiny_info):
    """Return a function from a data set to a generator's description with the same channels and classes."""
    return lambda dataset: tiny_info("base").model_copy(
        update={"channels": dataset.channels, "classes": dataset.classes}
    )


def _as_itk(dataset, folder):
    """Return the set with each NIfTI file as MHA."""
    folder.mkdir()

    def moved(source):
        kind = "" if "images" in source.path.parent.name else "_seg"
        path = folder / f"{source.path.name.removesuffix('.nii.gz')}{kind}.mha"
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(source.path)), str(path))
        return ItkSource(path)

    cases = [replace(case, images=tuple(map(moved, case.images)), label=moved(case.label)) for case in dataset.cases]
    return replace(dataset, cases=cases)


def _with_codes(dataset, folder):
    """Return the set with oblique files that have no qform or no sform, stored flipped, and words in the header."""
    folder.mkdir()

    def moved(source, codes):
        image = nibabel.load(source.path)
        affine = image.affine @ np.array([[0.8, -0.6, 0, 3], [0.6, 0.8, 0, 4], [0, 0, -1, 9], [0, 0, 0, 1.0]])
        written = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)
        written.set_qform(affine, codes[0])
        written.set_sform(affine, codes[1])
        written.header["descrip"] = b"DOE^JANE"
        path = folder / f"{source.path.parent.name}-{source.path.name}"
        nibabel.save(written, path)
        return NiftiSource(path)

    cases = [
        CaseFiles(case.case, case.patient, tuple(moved(one, codes) for one in case.images), moved(case.label, codes))
        for case, codes in zip(dataset.cases, [(0, 1), (1, 0), (1, 1), (0, 0)], strict=True)
    ]
    return replace(dataset, cases=cases)


def _described(phantom, folder, **changes):
    """Copy the phantom with another dataset.json."""
    shutil.copytree(phantom, folder)
    write_json(folder / "dataset.json", read_json(phantom / "dataset.json") | changes)
    return read_dataset(folder)


def _pictures(folder):
    """Write photographs of two eyes of three people, with masks."""
    folder.mkdir()
    for number, eye in product(range(3), "LR"):
        random = np.random.default_rng([number, ord(eye)])
        Image.fromarray(random.integers(0, 255, (40, 48, 3)).astype(np.uint8)).save(folder / f"{number:02d}{eye}.png")
        mask = (random.random((40, 48)) > 0.7).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / f"{number:02d}{eye}_mask.png")
    return read_dataset(folder)


def _dicom(folder):
    """Write two studies of two invented people, each with a segmentation, obliquely placed."""
    written = _module("data", "dicom", "written.py")
    for number, person in enumerate((written.Person(), written.Person(name="Doe^Jane", id="JD-1"))):
        voxels = np.random.default_rng(number).integers(0, 900, (12, 14, 6)).astype(np.int16)
        study = f"study {number}"
        images = written.write_series(
            folder / study, voxels, study=study, series=f"T1 {number}", description="T1", person=person
        )
        written.write_seg(folder / study / "seg.dcm", images, {"organ": voxels > 500})
    return read_dataset(folder)


def test_merged_sets_are_accepted(painter, phantom, info_for, tmp_path):
    """nnU-Net would refuse the set after hours of generation, or read images that lie elsewhere than their labels."""
    real = read_dataset(phantom)
    names = dict(zip(real.classes, real.label_values, strict=True))
    last = real.classes[-1]
    foreground = [value for value in names.values() if value]
    regions = {"background": 0, "all": foreground, "core": foreground[1:], "last": foreground[-1:]}
    variants = {
        "Dataset001_Plain": real,
        "Dataset002_Itk": _as_itk(real, tmp_path / "itk"),
        "Dataset003_Codes": _with_codes(real, tmp_path / "codes"),
        "Dataset004_Ignore": _described(
            phantom,
            tmp_path / "ignore",
            labels={**{name: value for name, value in names.items() if name != last}, "ignore": names[last]},
        ),
        "Dataset005_Regions": _described(
            phantom, tmp_path / "regions", labels=regions, regions_class_order=[foreground[0], *foreground[1:]]
        ),
        "Dataset006_Pictures": _pictures(tmp_path / "pictures"),
        "Dataset007_Folder": read_dataset(tmp_path / "itk"),
    }
    if importlib.util.find_spec("highdicom"):
        variants["Dataset008_Dicom"] = _dicom(tmp_path / "dicom")
    assert variants["Dataset004_Ignore"].ignore_value == names[last] and variants["Dataset005_Regions"].regions
    folders = []
    for name, dataset in variants.items():
        assert fingerprint(dataset).problems == ()
        info = info_for(dataset)
        templates = [one.model_copy(update={"scale": (99.0,) * 3, "offset": (99.0,) * 3}) for one in info.templates]
        generator = painter(info.model_copy(update={"templates": templates}))
        folder = generate(generator, tmp_path / "raw" / name, n=2)
        merge(dataset, folder)
        folders.append(folder)
    assert verdicts(*folders) == dict.fromkeys(variants, "accepted")
    written = read_dataset(folders[4])
    assert written.regions == variants["Dataset005_Regions"].regions
    assert read_json(folders[4] / "dataset.json")["regions_class_order"] == [foreground[0], *foreground[1:]]
    for folder in folders:
        for path in (path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            content = gzip.decompress(content) if path.name.endswith(".gz") else content
            words = (b"DOE", b"Doe^", b"JD-1", b"Quarzheim", b"XQ-88-4711", b"Wundermild")
            assert not any(word in content or word.decode() in path.name for word in words)
    for fold in read_json(folders[5] / "splits_final.json"):
        assert not {name[:2] for name in fold["val"]} & {name[:2] for name in fold["train"]}


def test_generated_sets_are_accepted(painter, phantom, info_for, tmp_path):
    """A set of whole-number images, or one without real cases, would be refused."""
    info = info_for(read_dataset(phantom))
    templates = [one.model_copy(update={"dtype": "int16"}) for one in info.templates]
    folders = [
        generate(painter(info), tmp_path / "Dataset001_Own", n=3),
        generate(painter(info.model_copy(update={"templates": templates})), tmp_path / "Dataset002_Whole", n=3),
        generate(painter(info), tmp_path / "Dataset003_Merged", n=3, merge_with=phantom),
    ]
    assert set(verdicts(*folders).values()) == {"accepted"}


def _voxels(pattern, edit):
    def spoil(folder):
        path = sorted(folder.glob(pattern))[0]
        image = nibabel.load(path)
        voxels, affine = edit(np.asarray(image.dataobj).astype(np.float32), image.affine.copy())
        nibabel.save(nibabel.Nifti1Image(voxels, affine), path)

    return spoil


def _set_nan(voxels, affine):
    voxels[1, 2, 3] = np.nan
    return voxels, affine


def _describe(**changes):
    def spoil(folder):
        content = read_json(folder / "dataset.json") | changes
        write_json(folder / "dataset.json", {key: value for key, value in content.items() if value is not None})

    return spoil


def _remove(pattern):
    def spoil(folder):
        sorted(folder.glob(pattern))[0].unlink()

    return spoil


FAULTS = {
    "none": lambda folder: None,
    "label_missing": _remove("labelsTr/*"),
    "channel_missing": _remove("imagesTr/*_0001.nii.gz"),
    "wrong_number": _describe(numTraining=9),
    "no_number": _describe(numTraining=None),
    "no_ending": _describe(file_ending=None),
    "nan_in_image": _voxels("imagesTr/*", _set_nan),
    "nan_in_label": _voxels("labelsTr/*", _set_nan),
    "label_value": _voxels("labelsTr/*", lambda v, a: (v + 9 * (v > 0), a)),
    "label_fraction": _voxels("labelsTr/*", lambda v, a: (v * 0.9999, a)),
    "shape_of_label": _voxels("labelsTr/*", lambda v, a: (v[:-1], a)),
    "shape_of_channel": _voxels("imagesTr/*", lambda v, a: (v[:-1], a)),
    "spacing_of_label": _voxels("labelsTr/*", lambda v, a: (v, a @ np.diag([1, 1, 1.01, 1]))),
    "spacing_of_channel": _voxels("imagesTr/*", lambda v, a: (v, a @ np.diag([1, 1, 1.01, 1]))),
}


def test_what_nnunet_refuses_is_found_by_inspect(phantom, tmp_path):
    """A user would learn from nnU-Net, days later, what `inspect` had called sound."""
    folders, told = [], {}
    for number, (name, spoil) in enumerate(FAULTS.items()):
        folder = tmp_path / "raw" / f"Dataset{number:03d}_{name}"
        (folder / "imagesTr").mkdir(parents=True)
        (folder / "labelsTr").mkdir()
        for path in phantom.rglob("*.nii.gz"):
            (folder / path.relative_to(phantom)).write_bytes(path.read_bytes())
        write_json(folder / "dataset.json", read_json(phantom / "dataset.json"))
        spoil(folder)
        found = fingerprint(read_dataset(folder))
        told[folder.name] = [str(one) for one in (*found.problems, *found.warnings)]
        folders.append(folder)
    refused = {name for name, verdict in verdicts(*folders).items() if verdict == "refused"}
    # nnU-Net looks for NaN, too, but ITK's reader of NIfTI has put 0 in their place by then.
    unseen = {name for name in told if "nan" in name}
    assert refused == set(told) - unseen - {"Dataset000_none"}
    assert [name for name, lines in told.items() if not lines] == ["Dataset000_none"], json.dumps(told, indent=1)
