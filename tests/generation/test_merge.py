"""Real and synthetic cases in one nnU-Net training set."""

import json

import nibabel
import numpy as np
import pytest

from synthmed.data.readers import CaseFiles, Dataset, load_case, read_dataset
from synthmed.errors import UserError
from synthmed.generation.generate import generate
from synthmed.generation.merge import label_description, splits


def real_set(folder, *, labels=None, layout="nnunet", count=6):
    """Write a small real data set."""
    labels = labels or {"background": 0, "anterior": 1, "posterior": 2}
    random = np.random.default_rng(0)
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    for case in (f"patient{number}" for number in range(count)):
        volume = random.normal(100, 20, (5, 6, 7, 2)).astype(np.float32)
        label = random.choice(list(labels.values()), (5, 6, 7)).astype(np.uint8)
        if layout == "nnunet":
            for channel in range(2):
                path = folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
                nibabel.save(nibabel.Nifti1Image(volume[..., channel], affine), path)
        else:
            nibabel.save(nibabel.Nifti1Image(volume, affine), folder / "imagesTr" / f"{case}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, affine), folder / "labelsTr" / f"{case}.nii.gz")
    description = {"numTraining": count, "file_ending": ".nii.gz", "licence": "CC-BY 4.0"}
    if layout == "nnunet":
        description |= {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": labels}
    else:
        cases = sorted(path.name for path in (folder / "labelsTr").iterdir())
        description |= {
            "modality": {"0": "T1", "1": "FLAIR"},
            "labels": {str(value): name for name, value in labels.items()},
            "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in cases],
        }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize("layout", ["nnunet", "msd"])
def test_real_cases_stay_what_they_are(painter, tmp_path, layout):
    """The merged set would teach nnU-Net from altered real images or labels."""
    labels = {"background": 0, "anterior": 1, "posterior": 4 if layout == "msd" else 2}
    real = real_set(tmp_path / "real", labels=labels, layout=layout)
    merged = read_dataset(generate(painter(), tmp_path / "set", n=3, merge_with=real))
    before = {case.case: load_case(case) for case in read_dataset(real).cases}
    after = {case.case: load_case(case) for case in merged.cases}
    assert len(after) == 9 and sum(case.startswith("SYN_") for case in after) == 3
    for name, case in before.items():
        assert np.array_equal(after[name].images, case.images)
        assert after[name].geometry.affine == case.geometry.affine
        assert np.array_equal(after[name].labels, np.searchsorted(list(labels.values()), case.labels))
    description = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert description["numTraining"] == 9 and description["licence"] == "CC-BY 4.0"


def test_no_fold_validates_on_a_synthetic_case(painter, tmp_path):
    """Scores would be told on images that no patient ever had."""
    folder = generate(painter(), tmp_path / "set", n=4, merge_with=real_set(tmp_path / "real"))
    folds = json.loads((folder / "splits_final.json").read_text())
    synthetic = {path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").glob("SYN_*")}
    assert len(folds) == 5 and len(synthetic) == 4
    for fold in folds:
        assert fold["val"] and not synthetic & set(fold["val"])
        assert synthetic <= set(fold["train"]) and not set(fold["train"]) & set(fold["val"])
    assert sorted(case for fold in folds for case in fold["val"]) == [f"patient{number}" for number in range(6)]


def test_a_set_of_other_classes_is_refused(painter, tmp_path):
    """Class 1 would mean one organ in real and another in synthetic cases."""
    real = real_set(tmp_path / "real", labels={"background": 0, "posterior": 1, "anterior": 2})
    with pytest.raises(UserError, match="classes"):
        generate(painter(), tmp_path / "set", n=4, merge_with=real)
    with pytest.raises(UserError, match="nnU-Net"):
        generate(painter(), tmp_path / "set", n=4, merge_with=real, format="npz")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("regions", "order"),
    [
        ({"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, [1, 2, 3]),
        ({"kidney": (1, 2, 3), "masses": (2, 3), "tumour": (2,)}, [1, 3, 2]),
        ({"left": (1,), "right": (2, 3)}, [1, 2]),
    ],
)
def test_regions_and_what_is_not_known_are_described_as_nnunet_asks(tmp_path, regions, order):
    """nnU-Net would learn single classes instead of regions, or the unknown as a class."""
    dataset = Dataset(
        path=tmp_path,
        name="set",
        licence="CC0",
        layout="test",
        channels=("T1",),
        classes=("background", "a", "b", "c"),
        label_values=(0, 1, 2, 3),
        cases=[],
        regions=regions,
        ignore_value=9,
    )
    described = label_description(dataset)
    assert described["regions_class_order"] == order
    names = {name: value if isinstance(value, list) else [value] for name, value in described["labels"].items()}
    assert names == {"background": [0], **{name: list(values) for name, values in regions.items()}, "ignore": [4]}
    assert list(described["labels"])[-1] == "ignore"


def test_patients_are_kept_together_in_folds(tmp_path):
    """Two eyes of one child in training and validation would flatter every score."""
    real = [CaseFiles(f"{number:02d}{side}", f"{number:02d}", ()) for number in range(7) for side in "LR"]
    for fold in splits(real, ["SYN_1"]):
        train, val = ({name[:2] for name in fold[part] if name != "SYN_1"} for part in ("train", "val"))
        assert not train & val and len(fold["val"]) % 2 == 0 and "SYN_1" in fold["train"]


def test_a_set_with_a_problem_is_refused_before_anything_is_drawn(painter, tmp_path):
    """Hours of drawing would end in an error, or in a set that nnU-Net refuses."""
    real = real_set(tmp_path / "real")
    (real / "labelsTr" / "patient3.nii.gz").unlink()
    generator = painter()
    with pytest.raises(UserError, match="image without its label"):
        generate(generator, tmp_path / "set", n=4, merge_with=real)
    assert generator.calls == 0 and not (tmp_path / "set").exists()
