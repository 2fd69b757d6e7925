"""All kinds of bad input: a row is one entry. docs/bad-input.md is made from it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bad_input_crafted import BOMBS, JSON, YAML
from bad_input_samples import (
    IMAGE,
    LABEL,
    PREPARE,
    at,
    copied,
    data,
    decathlon,
    description,
    doubled_labels,
    header,
    moved,
    pictures,
    removed,
    series,
    sound,
    split,
    store,
    volumes,
    voxels,
    write_decathlon,
    write_set,
)
from PIL import Image

from synthmed.files import write_json


@dataclass(frozen=True)
class Bad:
    """One kind of bad input.

    Attributes:
        what: In words, for the document.
        spoil: Makes it, in the current folder.
        command: What is then typed.
        warning: Whether it is a warning of `inspect` rather than an error.
    """

    what: str
    spoil: Callable[[], object]
    command: str = PREPARE
    warning: bool = False


def cut(file: str) -> None:
    """Keep the first half of a file."""
    Path(file).write_bytes(Path(file).read_bytes()[: Path(file).stat().st_size // 2])


def repainted(file: str, pixels: np.ndarray) -> None:
    """Write a grey picture over another."""
    Image.fromarray(pixels.astype(np.uint8)).save(file)


SPLIT = f"{PREPARE} --split split.json"
INSPECT = "inspect set --json"
nothing = sound(lambda: None)

TABLE: dict[str, list[Bad]] = {
    "The folder": [
        Bad("a folder that does not exist", lambda: None),
        Bad("a file instead of a folder", lambda: Path("set").write_text("x")),
        Bad("an empty folder", lambda: Path("set").mkdir()),
        Bad("nothing that is read", lambda: (Path("set").mkdir(), Path("set/notes.txt").write_text("x"))),
        Bad("a description of another kind", description(channel_names=None)),
        Bad("no image at all", removed("imagesTr/*")),
        Bad("a file where the store should be", sound(lambda: Path("store").write_text("x"))),
    ],
    "dataset.json": [
        Bad("not JSON", data("set/dataset.json", lambda content: content[:40])),
        Bad("not an object", sound(lambda: write_json("set/dataset.json", []))),
        Bad("channels not numbered from 0", description(channel_names={"1": "T1", "2": "FLAIR"})),
        Bad("labels as a list", description(labels=["background", "organ"])),
        Bad("no background", description(labels={"organ": 1, "lesion": 2})),
        Bad("two classes with one value", description(labels={"background": 0, "organ": 1, "lesion": 1})),
        Bad("a value that is no whole number", description(labels={"background": 0, "organ": "one"})),
        Bad("Decathlon: training is no list of pairs", decathlon(training=["imagesTr/case_0.nii.gz"])),
        Bad("Decathlon: a path that leaves the folder", decathlon(training=[{"image": "../../etc/passwd"}])),
        Bad("Decathlon: a file that is no NIfTI", decathlon(training=[{"image": "./imagesTr/case_0.bmp"}])),
        Bad(
            "Decathlon: a case listed twice",
            decathlon(training=[{"image": "./imagesTr/case_0.nii.gz", "label": "./labelsTr/case_0.nii.gz"}] * 2),
        ),
        Bad(
            "Decathlon: a listed image that is missing",
            lambda: (write_decathlon() / "imagesTr" / "case_2.nii.gz").unlink(),
        ),
    ],
    "Files of a case": [
        Bad("an image without its label", removed("labelsTr/case_1.nii.gz")),
        Bad("a label without its image", removed("imagesTr/case_1_*")),
        Bad("a channel is missing", removed("imagesTr/case_1_0001.nii.gz")),
        Bad("a truncated file", data(IMAGE, lambda content: content[: len(content) // 2])),
        Bad("an empty file", data(IMAGE, lambda content: b"")),
        Bad("something else under the name .nii.gz", data(IMAGE, lambda content: b"no image " * 99)),
        Bad("a damaged header", header(40, b"\xff" * 16)),
        Bad("a header that promises more than the file holds", header(42, (30000).to_bytes(2, "little") * 3)),
        Bad("a header without a place in space", header(254, b"\2\0" + bytes(24) + bytes(48))),
        Bad("complex numbers", header(70, (32).to_bytes(2, "little") + (64).to_bytes(2, "little"))),
        Bad("the same images in two cases", copied("case_1", "case_9")),
    ],
    "Folders of volumes": [
        Bad("a damaged MHA header", volumes(lambda: Path("set/case_1_t1.mha").write_bytes(b"NDims = 99\n"))),
        Bad("a truncated MHA file", volumes(lambda: cut("set/case_1_t1.mha"))),
        Bad("a truncated NRRD file", volumes(lambda: cut("set/case_1_t1.nrrd"), ".nrrd")),
        Bad("a case without its label map", volumes(lambda: Path("set/case_1_seg.mha").unlink())),
        Bad("a case that lacks a channel", volumes(lambda: Path("set/case_1_t2.mha").unlink())),
        Bad("a channel pattern that fits nothing", volumes(lambda: None), f"{PREPARE} --channel T1='*_t9.mha'"),
        Bad("a label pattern that fits nothing", volumes(lambda: None), f"{PREPARE} --label '*_roi.mha'"),
        Bad("a patient pattern without brackets", volumes(lambda: None), f"{PREPARE} --patient-pattern 'case_.'"),
        Bad("a patient pattern that is none", volumes(lambda: None), f"{PREPARE} --patient-pattern '(case'"),
        Bad("a patient pattern that finds nobody", volumes(lambda: None), f"{PREPARE} --patient-pattern 'P([0-9]+)'"),
        Bad("channels of a set that names its own", nothing, f"{PREPARE} --channel T1='*_0000.nii.gz'"),
    ],
    "Pictures": [
        Bad("a truncated picture", pictures(lambda: cut("set/eye1.png"))),
        Bad("something else under the name .png", pictures(lambda: Path("set/eye1.png").write_text("no picture"))),
        Bad("a picture without its mask", pictures(lambda: Path("set/eye1_mask.png").unlink())),
        Bad("a mask without its picture", pictures(lambda: Path("set/eye1.png").unlink())),
        Bad("a mask of another size", pictures(lambda: repainted("set/eye1_mask.png", np.zeros((30, 40))))),
        Bad("a JPEG mask", pictures(lambda: Path("set/eye1_mask.png").rename("set/eye1_mask.jpg"))),
        Bad("a smoothed mask", pictures(lambda: repainted("set/eye1_mask.png", np.arange(1600).reshape(40, 40) // 7))),
        Bad("a grey picture among coloured ones", pictures(lambda: repainted("set/eye1.png", np.eye(40)))),
        Bad(
            "masks in which nothing is marked",
            pictures(lambda: [repainted(f"set/eye{number}_mask.png", np.zeros((40, 40))) for number in range(4)]),
        ),
    ],
    "DICOM": [
        Bad("a file that is no DICOM", lambda: (series()(), Path("set/3.dcm").write_bytes(b"no header"))),
        Bad("a truncated slice", lambda: (series()(), cut("set/3.dcm"))),
        Bad("a slice is missing", lambda: (series()(), Path("set/3.dcm").unlink())),
        Bad("two slices at one place", series(ImagePositionPatient=[0, 0, 8])),
        Bad("a slice that is shifted", series(ImagePositionPatient=[5, 0, 6])),
        Bad("a slice of another pixel size", series(PixelSpacing=[2, 2])),
        Bad("a slice without its place", series(ImagePositionPatient=None)),
        Bad("a slice that is tilted", series(ImageOrientationPatient=[0, 1, 0, 0, 0, 1])),
        Bad("a slope of 0", series(RescaleSlope=0, RescaleIntercept=0)),
        Bad("slices of two patients in one series", series(PatientID="Z-4711")),
        Bad("a slice without pixels", series(PixelData=None)),
        Bad("a label pattern, which DICOM does not need", series(), f"{PREPARE} --label '*.dcm'"),
    ],
    "Voxels and geometry": [
        Bad("NaN in an image", voxels(IMAGE, at(np.nan))),
        Bad("infinite values", voxels(IMAGE, at(np.inf))),
        Bad("mostly NaN", voxels(IMAGE, lambda v, a: (v * np.nan, a))),
        Bad("channels of different shape", voxels(IMAGE, lambda v, a: (v[:-1], a))),
        Bad("channels of different spacing", voxels(IMAGE, lambda v, a: (v, a @ np.diag([1, 1, 2, 1])))),
        Bad("a label of another shape", voxels(LABEL, lambda v, a: (v[:, :-2], a))),
        Bad("a label of another spacing", voxels(LABEL, lambda v, a: (v, a @ np.diag([1, 1, 1.1, 1])))),
        Bad("a label at another place", voxels(LABEL, lambda v, a: (v, moved(a, 4.0)))),
        Bad("a label stored flipped", voxels(LABEL, lambda v, a: (v, a @ np.diag([-1, 1, 1, 1])))),
    ],
    "Label values": [
        Bad("a value that is not named", voxels(LABEL, at(7))),
        Bad("a negative value", voxels(LABEL, at(-1))),
        Bad("almost whole numbers", voxels(LABEL, lambda v, a: (v * np.float32(0.9999), a))),
        Bad("fractions, from interpolation", voxels(LABEL, at(0.37))),
        Bad("NaN in a label", voxels(LABEL, at(np.nan))),
        Bad("a label with a fourth axis", voxels(LABEL, lambda v, a: (np.stack([v == 1, v == 2], -1).astype("u1"), a))),
    ],
    "Options": [
        Bad("a size that is none", nothing, f"{PREPARE} --size big"),
        Bad("a size that the networks cannot halve", nothing, f"{PREPARE} --size 60x60"),
        Bad("a pixel size below 0", nothing, f"{PREPARE} --spacing -1"),
        Bad("three pixel sizes", nothing, f"{PREPARE} --spacing 1x1x1"),
        Bad("an axis that does not exist", nothing, f"{PREPARE} --axis up"),
        Bad("more training patients than there are", nothing, f"{PREPARE} --train-patients 9"),
        Bad("no place for the store", nothing, "prepare set"),
        Bad("a typing mistake", nothing, f"{PREPARE} --spliit 1,0,0"),
    ],
    "Splits": [
        Bad("fractions that do not sum to 1", nothing, f"{PREPARE} --split 0.5,0.5,0.5"),
        Bad("two fractions", nothing, f"{PREPARE} --split 0.5,0.5"),
        Bad("a file that does not exist", nothing, SPLIT),
        Bad("other parts than train, val, test", split(train=["case_0"], validation=["case_1"]), SPLIT),
        Bad("nothing for training", split(train=[], val=["case_1"]), SPLIT),
        Bad("a case that does not exist", split(train=["case_0", "case_77"]), SPLIT),
        Bad("a case in two parts", split(train=["case_0"], test=["case_0"]), SPLIT),
    ],
    "Plans": [
        Bad("a plan that does not exist", nothing, f"{PREPARE} --plan plan.yaml"),
        Bad("not YAML", sound(lambda: Path("plan.yaml").write_text("axis: [")), f"{PREPARE} --plan plan.yaml"),
        Bad(
            "fields are missing",
            sound(lambda: Path("plan.yaml").write_text("axis: axial\n")),
            f"{PREPARE} --plan plan.yaml",
        ),
    ],
    "Stores": [
        Bad("a store that does not exist", lambda: None, "train --variant base --data store"),
        Bad("a folder that is no store", nothing, "train --variant base --data set"),
        Bad(
            "a damaged manifest",
            store(lambda: Path("store/manifest.json").write_text("{")),
            "train --variant base --data store",
        ),
        Bad(
            "a manifest with something missing",
            store(lambda: write_json("store/manifest.json", {"format": "synthmed-store"})),
            "train --variant base --data store",
        ),
        Bad(
            "a shard is missing",
            store(lambda: sorted(Path("store").glob("images*.npy"))[0].unlink()),
            "train --variant base --data store",
        ),
        Bad("a store of other options in its place", store(lambda: None), f"{PREPARE} --size 64x64"),
    ],
    "Downloads": [
        Bad("a name that is not offered", lambda: None, "data get msd-hipocampus"),
        Bad("an address that is none", lambda: None, "data get msd-heart --url file:///etc/passwd"),
        Bad("no network", lambda: None, "data get msd-heart --url http://127.0.0.1:9/heart.tar"),
        Bad("an MD5 sum that is none", lambda: None, "data get msd-heart --md5 abc"),
        Bad("the folder is there already", lambda: write_set("Task02_Heart"), "data get msd-heart"),
    ],
    "YAML": [Bad(*row) for row in YAML],
    "JSON": [Bad(*row) for row in JSON],
    "More than fits into memory": [Bad(*row) for row in BOMBS],
    "Warnings of inspect": [
        Bad("fewer cases than promised", description(numTraining=9), INSPECT, warning=True),
        Bad("what nnU-Net needs is missing", description(numTraining=None), INSPECT, warning=True),
        Bad("an empty label map", voxels(LABEL, lambda v, a: (v * 0, a)), INSPECT, warning=True),
        Bad("a label map without background", voxels(LABEL, lambda v, a: (v // 2 + 1, a)), INSPECT, warning=True),
        Bad(
            "a class that is nowhere",
            description(labels={"background": 0, "organ": 1, "lesion": 2, "cyst": 3}),
            INSPECT,
            warning=True,
        ),
        Bad("label values with a gap", doubled_labels, INSPECT, warning=True),
        Bad("a channel of one value", voxels(IMAGE, lambda v, a: (v * 0 + 3, a)), INSPECT, warning=True),
        Bad("intensities of another scale", voxels(IMAGE, lambda v, a: (v * 1000, a)), INSPECT, warning=True),
    ],
}
ROWS = [(title, row) for title, rows in TABLE.items() for row in rows]
