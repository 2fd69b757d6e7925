"""Bad input of every kind, and the one line that the user gets for it: docs/bad-input.md is made from this file.

A row is one entry of a table below: what is wrong, a function that spoils a sound set in the current folder, and the
command. `python tests/data/test_bad_input.py` writes the document anew.
"""

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pytest

from synthmed.cli.main import main
from synthmed.files import read_json, write_json

DOCUMENT = Path(__file__).parents[2] / "docs" / "bad-input.md"
PREPARE = "prepare set --out store"


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


def write_set(folder: str = "set", cases: int = 4) -> Path:
    """Write a sound nnU-Net raw set of two channels and two classes."""
    root = Path(folder)
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(parents=True)
    shape, affine = (16, 18, 6), np.diag([1.0, 1.0, 3.0, 1.0])
    for number in range(cases):
        random = np.random.default_rng(number)
        labels = np.zeros(shape, np.uint8)
        labels[4:8, 4:9, 2:4], labels[9:12, 9:14, 2:5] = 1, 2
        for channel in range(2):
            voxels = random.normal(100 + 50 * labels, 9).astype(np.float32)
            nib.save(nib.Nifti1Image(voxels, affine), root / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), root / "labelsTr" / f"case_{number}.nii.gz")
    content = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "organ": 1, "lesion": 2}}
    write_json(root / "dataset.json", {**content, "numTraining": cases, "file_ending": ".nii.gz"})
    return root


def write_decathlon() -> Path:
    """Write a sound Decathlon set: the channels along a fourth axis."""
    root = write_set()
    for label in sorted((root / "labelsTr").iterdir()):
        name = label.name.removesuffix(".nii.gz")
        channels = [root / "imagesTr" / f"{name}_{channel:04d}.nii.gz" for channel in range(2)]
        voxels = np.stack([np.asarray(nib.load(path).dataobj) for path in channels], axis=-1)
        nib.save(nib.Nifti1Image(voxels, nib.load(label).affine), root / "imagesTr" / label.name)
        for path in channels:
            path.unlink()
    names = sorted(path.name for path in (root / "labelsTr").iterdir())
    content = {
        "modality": {"0": "T1", "1": "FLAIR"},
        "labels": {"0": "background", "1": "organ", "2": "lesion"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names],
    }
    write_json(root / "dataset.json", content)
    return root


def sound(then: Callable[[], object]) -> Callable[[], object]:
    """Return a function that writes a sound set and goes on with `then`."""

    def spoil() -> None:
        write_set()
        then()

    return spoil


IMAGE, LABEL = "set/imagesTr/case_1_0001.nii.gz", "set/labelsTr/case_1.nii.gz"
Edit = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def voxels(file: str, edit: Edit) -> Callable[[], object]:
    """Return a function that rewrites a file of a sound set with `edit(voxels, affine)`."""

    def spoil() -> None:
        image = nib.load(file)
        nib.save(nib.Nifti1Image(*edit(np.asarray(image.dataobj).copy(), image.affine.copy())), file)

    return sound(spoil)


def at(value: float) -> Edit:
    """Return an edit that puts a value into one voxel."""

    def edit(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        array = array.astype(np.float32)
        array[3, 2, 1] = value
        return array, affine

    return edit


def moved(affine: np.ndarray, distance: float) -> np.ndarray:
    """Return an affine whose origin lies further to the right."""
    affine[0, 3] += distance
    return affine


def data(file: str, edit: Callable[[bytes], bytes]) -> Callable[[], object]:
    """Return a function that rewrites the bytes of a file of a sound set."""
    return sound(lambda: Path(file).write_bytes(edit(Path(file).read_bytes())))


def header(offset: int, value: bytes, file: str = IMAGE) -> Callable[[], object]:
    """Return a function that overwrites bytes of a NIfTI header (offsets as in nifti1.h)."""

    def edit(content: bytes) -> bytes:
        plain = bytearray(gzip.decompress(content))
        plain[offset : offset + len(value)] = value
        return gzip.compress(bytes(plain), mtime=0)

    return data(file, edit)


def description(**changes: object) -> Callable[[], object]:
    """Return a function that changes entries of dataset.json; None removes one."""

    def spoil() -> None:
        content = {**read_json("set/dataset.json"), **changes}
        write_json("set/dataset.json", {key: value for key, value in content.items() if value is not None})

    return sound(spoil)


def decathlon(**changes: object) -> Callable[[], object]:
    """Return a function that writes a Decathlon set with a changed dataset.json."""

    def spoil() -> None:
        write_decathlon()
        write_json("set/dataset.json", read_json("set/dataset.json") | changes)

    return spoil


def removed(pattern: str) -> Callable[[], object]:
    """Return a function that removes files of a sound set."""
    return sound(lambda: [path.unlink() for path in sorted(Path("set").glob(pattern))])


def split(**parts: list[str]) -> Callable[[], object]:
    """Return a function that writes a split file beside a sound set."""
    return sound(lambda: write_json("split.json", parts))


def store(then: Callable[[], object]) -> Callable[[], object]:
    """Return a function that prepares a sound set and goes on with `then`."""

    def spoil() -> None:
        write_set()
        code, _, error = run(PREPARE)
        assert code == 0, error
        then()

    return spoil


def copied(source: str, target: str) -> Callable[[], object]:
    """Return a function that copies files of a sound set."""

    def spoil() -> None:
        for path in sorted(Path("set").rglob(f"*{source}*")):
            shutil.copyfile(path, str(path).replace(source, target))

    return sound(spoil)


def doubled_labels() -> None:
    """Write a set whose label values are 0, 2 and 4."""
    for label in sorted((write_set() / "labelsTr").iterdir()):
        image = nib.load(label)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * np.uint8(2), image.affine), label)
    content = read_json("set/dataset.json") | {"labels": {"background": 0, "organ": 2, "lesion": 4}}
    write_json("set/dataset.json", content)


SPLIT = f"{PREPARE} --split split.json"
INSPECT = "inspect set --json"
nothing = sound(lambda: None)

TABLE: dict[str, list[Bad]] = {
    "The folder": [
        Bad("a folder that does not exist", lambda: None),
        Bad("a file instead of a folder", lambda: Path("set").write_text("x")),
        Bad("an empty folder", lambda: Path("set").mkdir()),
        Bad("images without a description", removed("dataset.json")),
        Bad("no image at all", removed("imagesTr/*")),
        Bad("the store is there already", sound(lambda: Path("store").write_text("x"))),
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
    ],
    "Downloads": [
        Bad("a name that is not offered", lambda: None, "data get msd-hipocampus"),
        Bad("an address that is none", lambda: None, "data get msd-heart --url file:///etc/passwd"),
        Bad("no network", lambda: None, "data get msd-heart --url http://127.0.0.1:9/heart.tar"),
        Bad("an MD5 sum that is none", lambda: None, "data get msd-heart --md5 abc"),
        Bad("the folder is there already", lambda: write_set("Task02_Heart"), "data get msd-heart"),
    ],
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


def run(command: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command line in the current folder."""
    out, error = io.StringIO(), io.StringIO()
    # Nobody waits for a server that is not there.
    waiting = mock.patch("synthmed.data.download.fetch.time.sleep")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), waiting:
        try:
            main(shlex.split(command))
        except SystemExit as left:
            code = left.code
    return int(code or 0), out.getvalue(), error.getvalue()


def lines_of(row: Bad) -> list[str]:
    """Make the bad input in the current folder, run the command and return the lines that the user gets."""
    row.spoil()
    before = _files()
    code, out, error = run(row.command)
    assert "Traceback" not in error
    assert _files() - before == set(), "something is left behind"
    if row.warning:
        assert code == 0, error
        return [f"{one['file']}: {one['what']}; {one['mend']}" for one in json.loads(out)["warnings"]]
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.startswith("synthmed: error: ")]
    assert error.splitlines()[-1:] == lines, error
    return [line.removeprefix("synthmed: error: ") for line in lines]


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def comparable(line: str) -> str:
    """Return a line without the words of libraries, which change from version to version."""
    return re.sub(r"(damaged|valid JSON|fetched|valid YAML) \(.*?\)(?=[:;])", r"\1 (...)", line)


def cell(line: str) -> str:
    """Return a line as code in a cell of a table."""
    return "`` " + line.replace("|", "\\|") + " ``"


def documented() -> dict[tuple[str, str], str]:
    """Return the lines of the document by their heading and by what is wrong."""
    found: dict[tuple[str, str], str] = {}
    title = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
        match = re.fullmatch(r"\| (.+?) \| (`` .* ``) \|", line)
        if match:
            found[title, match[1]] = match[2]
    return found


@pytest.mark.parametrize(("title", "row"), ROWS, ids=lambda part: part if isinstance(part, str) else part.what)
def test_bad_input_is_told_in_the_line_of_the_document(title, row, tmp_path, monkeypatch):
    """A person with a spoilt file would get a traceback, or a study of nonsense."""
    monkeypatch.chdir(tmp_path)
    (line,) = lines_of(row)
    assert comparable(documented()[title, row.what]) == comparable(cell(line))


def test_the_document_has_no_other_rows():
    """It would promise lines that no program prints."""
    assert set(documented()) == {(title, row.what) for title, row in ROWS}
    assert len(ROWS) >= 30


HEAD = """# Bad input, and what synthmed says
Every line below is what the command prints, before it ends with exit code 2 and without having written anything; the
lines of the last table are warnings of `synthmed inspect`, which go on. `synthmed inspect` shows all that is wrong with
a data set at once, the other commands the first of it. What stands in brackets after "damaged" are the words of the
library that reads the format.

This page is written by `python tests/data/test_bad_input.py` and checked by the test of that name.
"""


def document() -> Iterator[str]:
    """Yield the lines of the document."""
    yield from HEAD.splitlines()
    for title, rows in TABLE.items():
        yield from ("", f"## {title}", "| what is wrong | line |", "|---|---|")
        for row in rows:
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                (line,) = lines_of(row)
            yield f"| {row.what} | {cell(line)} |"


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    text = "\n".join(document()) + "\n"
    DOCUMENT.write_text(text, encoding="utf-8")
    sys.exit(0)
