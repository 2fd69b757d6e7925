"""Damaged files of every format: one line, no traceback, no hang, bounded memory.

Each format is read in a process of its own, since a library in C++ could take the whole test run with it.
"""

import gzip
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

MUTATIONS = 250
MEMORY = 3 << 30
"""Bytes of address space, of which the libraries themselves take about one."""
SECONDS = 120
FORMATS = ("a.nii", "a.nii.gz", "a.nrrd", "z.nrrd", "a.mha", "z.mha", "a.mhd", "g.png", "c16.png", "p.png", "b.png")
FORMATS += ("a.jpg", "a.bmp", "a.tif", "stack.tif", "c16.tif")


def write_example(folder: Path, name: str) -> Path:
    """Write a small file of a format."""
    import SimpleITK as sitk
    from PIL import Image

    path = folder / name
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 200, (4, 6, 5), dtype=np.int16)
    colours = rng.integers(0, 255, (9, 7, 3), dtype=np.uint8)
    if ".nii" in name:
        raw = nib.Nifti1Image(volume, np.eye(4)).to_bytes()
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    elif path.suffix in (".nrrd", ".mha", ".mhd"):
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(path), useCompression=name.startswith("z"))
    elif name.startswith("c16"):
        sitk.WriteImage(sitk.GetImageFromArray(colours.astype(np.uint16) * 200, isVector=True), str(path))
    elif name == "stack.tif":
        sitk.WriteImage(sitk.GetImageFromArray(volume.astype(np.uint16)), str(path), useCompression=True)
    elif name == "p.png":
        Image.fromarray(colours).quantize(5).save(path)
    elif name == "b.png":
        Image.fromarray(colours[..., 0] > 100).save(path)
    elif name == "g.png":
        Image.fromarray(volume[0].astype(np.uint16)).save(path)
    else:
        Image.fromarray(colours).save(path)
    return path


def mutate(raw: bytes, rng: np.random.Generator) -> bytes:
    """Flip bytes, most of them in the head; write digits or large numbers; cut off, take out or repeat a part."""
    data = bytearray(raw)
    head = min(len(data), 400)
    for _ in range(int(rng.integers(1, 6))):
        kind = rng.integers(0, 7)
        position = int(rng.integers(0, head if rng.random() < 0.8 else len(data))) if data else 0
        if not data:
            break
        if kind <= 2:
            data[min(position, len(data) - 1)] = int(rng.integers(0, 256))
        elif kind == 3:
            digits = [index for index, byte in enumerate(data[:head]) if 48 <= byte <= 57]
            if digits:
                data[int(rng.choice(digits))] = int(rng.choice(list(b"0179-e. ")))
        elif kind == 4:
            data[position : position + 4] = rng.choice(
                [b"\xff\xff\xff\\x7f", b"\xff\xff\xff\xff", b"99999999", b"\0\0\1\0"]
            )
        elif kind == 5:
            data = data[: int(rng.integers(0, len(data) + 1))]
        else:
            data[position:position] = data[position : position + int(rng.integers(1, 40))]
    return bytes(data)


def read_all(name: str, folder: Path, count: int) -> None:
    """Read mutations of a format; print what should not happen."""
    from synthmed.data.formats import source_of
    from synthmed.data.readers.base import CaseFiles, load_case
    from synthmed.errors import UserError

    example = write_example(folder, name)
    # What the libraries need once is not what a damaged file makes them take.
    load_case(CaseFiles(case="whole", patient="whole", images=(source_of(example),)))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    raw = example.read_bytes()
    inner = gzip.decompress(raw) if name.endswith(".gz") else raw
    seed = sum(name.encode())
    read = 0
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        packed = name.endswith(".gz") and number % 2
        mutated = mutate(inner if packed else raw, rng)
        example.write_bytes(gzip.compress(mutated, 1) if packed else mutated)
        for mask in (False, True):
            source = source_of(example, mask=mask)
            case = CaseFiles(case="x", patient="x", images=(source,), label=source if mask else None)
            try:
                loaded = load_case(case)
                read += 1
                assert loaded.images.nbytes < 1 << 28, f"{loaded.images.nbytes} bytes"
            except UserError as error:
                text = str(error)
                assert "\n" not in text and len(text) < 400 and example.name in text, text
            except BaseException as error:
                print(f"mutation {number} of {name}: {type(error).__name__}: {error}")
                raise
    print(f"{name}: {count} mutations, {read} of {2 * count} readable")


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_give_one_line(name, tmp_path):
    """A broken download would end in a traceback, a crash, a hang, or all memory being taken."""
    command = [sys.executable, __file__, name, str(tmp_path), str(MUTATIONS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"exit {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}"
    assert f"{MUTATIONS} mutations" in done.stdout


if __name__ == "__main__":
    read_all(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
