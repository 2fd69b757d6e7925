"""Files made to do harm: that grow, nest, hide or repeat what they hold. The bad input of the last tables."""

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
from bad_input_samples import IMAGE, PREPARE, pictures, series, sound, store, volumes
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

PLAN, TRAIN, STUDY = f"{PREPARE} --plan f.yaml", "train --variant base --config f.yaml", "study run f.yaml --out study"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
LAUGHTER = "a: &a {k: x}\n" + "".join(
    f"{name}: &{name} {{{', '.join(f'k{number}: *{before}' for number in range(9))}}}\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
DEEP_JSON = '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}"


def file(content: str | bytes, name: str = "f.yaml") -> Callable[[], object]:
    """Return a function that writes a file."""
    return lambda: Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())


def beside(name: str, content: str) -> Callable[[], object]:
    """Return a function that writes a file into or beside a sound set."""
    return sound(lambda: Path(name).write_text(content))


YAML: list[tuple[str, Callable[[], object], str]] = [
    ("a billion laughs", file(LAUGHS), STUDY),
    ("a billion laughs in a plan", file("format: synthmed-plan\n" + LAUGHS), PLAN),
    ("a billion laughs in options", file(LAUGHS), TRAIN),
    ("mappings of aliases", file(LAUGHTER), PLAN),
    ("a long text a thousand times", file(f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]\n"), STUDY),
    ("a list in itself", file("a: &a [*a]\n"), PLAN),
    ("a mapping in itself", file("&a {b: *a}\n"), TRAIN),
    ("an alias of nothing", file("batch: *b\n"), TRAIN),
    ("lists nested deeply", file("a: " + "[" * 900 + "]" * 900), STUDY),
    ("mappings nested deeply", file("{a: " * 100_000), PLAN),
    ("lists nested deeply on one line", file("- " * 100_000), TRAIN),
    ("mappings nested deeply, a line each", file("".join(" " * depth + "a:\n" for depth in range(2000))), STUDY),
    ("keys nested deeply", file("? " * 100_000), PLAN),
    ("a key twice", file("batch: 4\nkimg: 1\nbatch: 8\n"), TRAIN),
    ("a key twice in an inner mapping", file("name: s\ntraining:\n  steps: 1\n  steps: 2\n"), STUDY),
    ("a key twice, once in quotes", file("format: synthmed-plan\nclasses: {background: 0, 'background': 1}\n"), PLAN),
    ("a number of 5,000 digits", file(f"batch: {'9' * 5000}\n"), TRAIN),
    ("5,000 digits in base 16", file(f"seeds: 0x{'f' * 5000}\n"), STUDY),
    ("5,000 digits in base 60", file(f"seed: {'1:' * 5000}1\n"), PLAN),
    ("a number that is no number in YAML", file("batch: 0b_\n"), TRAIN),
    ("a number beyond those that can be used", file("learning_rate: 1.0e+999\n"), TRAIN),
    ("infinity", file("learning_rate: .inf\n"), TRAIN),
    ("not a number", file("r1_gamma: .nan\n"), TRAIN),
    ("a key that is not a number", file(".nan: 1\n"), TRAIN),
    ("a key that is nothing", file("~: 1\n"), STUDY),
    ("a key that is read as false", file("no: 1\n"), PLAN),
    ("a list as a key", file("[a, b]: 1\n"), STUDY),
    ("a mapping as a key", file("{a: 1}: 1\n"), TRAIN),
    ("a tab", file("a:\n\tb: 1\n"), PLAN),
    ("UTF-16", file("batch: 4\n".encode("utf-16")), TRAIN),
    ("another encoding than UTF-8", file("name: M\xfcller\n".encode("latin-1")), STUDY),
    ("a null byte", file("batch: 4\0\n"), TRAIN),
    ("an escape character", file("name: \x1b[31mred\n"), STUDY),
    ("half a character", file('name: "\\ud800"\n'), STUDY),
    ("an object of Python", file("!!python/object/apply:os.system ['touch owned']\n"), PLAN),
    ("an object of Python in a value", file("batch: !!python/name:os.system\n"), TRAIN),
    ("a tag", file("name: !secret x\n"), STUDY),
    ("bytes", file("name: !!binary aGVsbG8=\n"), STUDY),
    ("a set", file("format: !!set {a, b}\n"), PLAN),
    ("a tag that does not fit", file("batch: !!int many\n"), TRAIN),
    ("merging", file("a: &a {steps: 1}\ntraining: {<<: *a}\n"), STUDY),
    ("two documents", file("batch: 4\n---\nbatch: 8\n"), TRAIN),
    ("a file of 5 MiB", file("# " + "x" * (5 << 20)), PLAN),
    ("too many values", file("[" + "1," * 200_000 + "]"), STUDY),
    ("a text instead of a mapping", file("-" * 100_000), STUDY),
    ("nothing", file(""), TRAIN),
    ("a folder instead of a file", lambda: Path("f.yaml").mkdir(), PLAN),
    ("a file without end", lambda: Path("f.yaml").symlink_to("/dev/zero"), TRAIN),
    ("--set: a list in itself", lambda: None, "train --variant base --set 'batch=&a [*a]'"),
    ("--set: 5,000 digits", lambda: None, f"train --variant base --set batch={'9' * 5000}"),
    ("--set: an object of Python", lambda: None, "train --variant base --set 'batch=!!python/name:os.system'"),
]
"""What is wrong, what makes it in the current folder, the command that reads it."""

SCORE = "segment score set/labelsTr set/labelsTr --patients p.json"
STORE = "train --variant base --data store"
EVALUATE = "evaluate --real store --synthetic drawn --out report"


def run_folder(content: str) -> Callable[[], object]:
    """Return a function that writes the folder of a run beside nothing else."""
    return lambda: (Path("run").mkdir(), Path("run/run.json").write_text(content))


def drawn(content: str) -> Callable[[], object]:
    """Return a function that writes a sound store, and a generated set with a sidecar."""
    return store(lambda: (Path("drawn").mkdir(), Path("drawn/case_0.json").write_text(content)))


JSON: list[tuple[str, Callable[[], object], str]] = [
    ("dataset.json: nested deeply", beside("set/dataset.json", DEEP_JSON), "inspect set"),
    ("dataset.json: nested by mappings", beside("set/dataset.json", '{"a":' * 300 + "1" + "}" * 300), PREPARE),
    ("dataset.json: 5,000 digits", beside("set/dataset.json", f'{{"numTraining": {"9" * 5000}}}'), "inspect set"),
    ("dataset.json: 400 digits", beside("set/dataset.json", f'{{"numTraining": {"9" * 400}}}'), "inspect set"),
    ("dataset.json: a number beyond all", beside("set/dataset.json", '{"labels": {"a": 1e999}}'), PREPARE),
    ("dataset.json: one name, two values", beside("set/dataset.json", '{"labels": {"a": 1, "a": 2}}'), PREPARE),
    ("dataset.json: half a character", beside("set/dataset.json", '{"name": "\\ud800"}'), PREPARE),
    ("dataset.json: a null byte", beside("set/dataset.json", '{"name": "\0"}'), PREPARE),
    (
        "dataset.json: UTF-16",
        sound(lambda: Path("set/dataset.json").write_bytes("{}".encode("utf-16"))),
        PREPARE,
    ),
    ("split: nested deeply", beside("split.json", DEEP_JSON), f"{PREPARE} --split split.json"),
    ("patients: nested deeply", beside("p.json", DEEP_JSON), SCORE),
    ("patients: one case, two patients", beside("p.json", '{"case_0": "a", "case_0": "b"}'), SCORE),
    ("patients: numbers of 5,000 digits", beside("p.json", f'{{"case_0": {"9" * 5000}}}'), SCORE),
    ("manifest: nested deeply", store(lambda: Path("store/manifest.json").write_text(DEEP_JSON)), STORE),
    ("run.json: nested deeply", run_folder(DEEP_JSON), "generate --n 1 --model run --out out"),
    ("run.json: 5,000 digits", run_folder(f'{{"seed": {"9" * 5000}}}'), "generate --n 1 --model run --out out"),
    (
        "run.json: one option, two values",
        run_folder('{"seed": 1, "seed": 2}'),
        "train --variant base --resume --out run",
    ),
    ("sidecar: nested deeply", drawn(DEEP_JSON), EVALUATE),
    ("sidecar: 5,000 digits", drawn(f'{{"synthetic": true, "seed": {"9" * 5000}}}'), EVALUATE),
]
"""As `YAML`."""


def nifti(bytes_on_disk: int, **fields: tuple[int, str, object]) -> Callable[[], object]:
    """Return a function that writes a NIfTI header with other fields, `(offset, format, value)`, over a sound image.

    The file is as long as one that holds what its header promises, compressed as well as can be, and holds nothing.
    """

    def spoil() -> None:
        plain = bytearray(gzip.decompress(Path(IMAGE).read_bytes())[:352])
        for offset, code, value in fields.values():
            values = value if isinstance(value, tuple) else (value,)
            struct.pack_into(code, plain, offset, *values)
        # A stream without an end: Python would step over what follows one byte by byte.
        pack = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        Path(IMAGE).write_bytes(pack.compress(bytes(plain) + bytes(1 << 16)) + pack.flush(zlib.Z_SYNC_FLUSH))
        os.truncate(IMAGE, max(bytes_on_disk, Path(IMAGE).stat().st_size))

    return sound(spoil)


def longer(name: str, *changes: tuple[bytes, bytes], size: int = 4 << 20) -> Callable[[], object]:
    """Return a function that replaces parts of a file of a sound set of volumes, and makes it `size` bytes long."""

    def spoil() -> None:
        content = Path(name).read_bytes()
        for old, new in changes:
            assert old in content
            content = content.replace(old, new, 1)
        Path(name).write_bytes(content)
        os.truncate(name, size)

    return volumes(spoil, Path(name).suffix)


def png(name: str, columns: int, rows: int, size: int) -> None:
    """Write a PNG file that claims so many grey pixels, `size` bytes long."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0))
    Path(name).write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    os.truncate(name, size)


def tiff(name: str, pages: int, *, last: int = 0) -> None:
    """Write a TIFF file of many pages that share one strip of 512 x 512 pixels; the last is `last` rows high."""
    strip = bytes(512 * 512)
    content = bytearray(b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip)
    for page in range(pages):
        rows = last if last and page == pages - 1 else 512
        entries = [
            (256, 512),
            (257, rows),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (278, rows),
            (279, len(strip)),
        ]
        content += struct.pack("<H", len(entries))
        for tag, value in entries:
            content += struct.pack("<HHII", tag, 4, 1, value)
        after = len(content) + 4
        content += struct.pack("<I", 0 if page == pages - 1 else after)
    Path(name).write_bytes(content)


def pages(**how: int) -> Callable[[], object]:
    """Return a function that writes a TIFF file and its mask of as many pages in place of a picture."""

    def spoil() -> None:
        for path in sorted(Path("set").iterdir()):
            path.unlink()
            tiff(str(path.with_suffix(".tif")), **how)

    return pictures(spoil)


def deflated(size: int) -> Callable[[], object]:
    """Return a function that writes a DICOM slice, deflated as a whole, that holds `size` zeros beside its pixels."""

    def spoil() -> None:
        header = pydicom.dcmread("set/3.dcm")
        header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        header.save_as("set/3.dcm", enforce_file_format=True)
        content = Path("set/3.dcm").read_bytes()
        (length,) = struct.unpack("<I", content[140:144])
        plain = zlib.decompress(content[144 + length :], -zlib.MAX_WBITS)
        pack = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        element = struct.pack("<HH2sHI", 0x7FE1, 0x1001, b"OB", 0, size)
        packed = [pack.compress(plain + element)]
        packed += [pack.compress(bytes(1 << 20)) for _ in range(size >> 20)]
        Path("set/3.dcm").write_bytes(content[: 144 + length] + b"".join(packed) + pack.flush())

    return lambda: (series()(), spoil())


def jpeg(name: str, columns: int, rows: int, size: int) -> None:
    """Write a JPEG file whose header claims another size."""
    Image.new("L", (16, 16)).save(name)
    content = bytearray(Path(name).read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", rows, columns)
    Path(name).write_bytes(content)
    os.truncate(name, size)


def every_slice(**changes: object) -> Callable[[], object]:
    """Return a function that writes a DICOM series all of whose slices have other values."""

    def spoil() -> None:
        series()()
        for path in sorted(Path("set").glob("*.dcm")):
            header = pydicom.dcmread(path)
            for name, value in changes.items():
                setattr(header, name, value)
            header.save_as(path, enforce_file_format=True)

    return spoil


ONE = "SYNTHMED_MEMORY=1"
LITTLE = "SYNTHMED_MEMORY=0.1"
_SHAPE = {"shape": (40, "<8h", (3, 1024, 1024, 2000, 1, 1, 1, 1))}
BOMBS: list[tuple[str, Callable[[], object], str]] = [
    ("a NIfTI image of 4 MB that stands for 8 GB", nifti(9 << 20, **_SHAPE), f"{ONE} {PREPARE}"),
    (
        "a NIfTI image that grows by its scale",
        nifti(9 << 20, **_SHAPE, kind=(70, "<2h", (2, 8)), scale=(112, "<2f", (0.5, 1.0))),
        f"{ONE} {PREPARE}",
    ),
    ("a NIfTI image with zeros behind it", sound(lambda: os.truncate(IMAGE, 1 << 30)), PREPARE),
    ("a NIfTI image whose voxels begin after 2 GB", nifti(0, begin=(108, "<f", 2e9)), PREPARE),
    (
        "an MHA image",
        longer(
            "set/case_1_t1.mha",
            (b"DimSize = 16 18 6", b"DimSize = 1024 1024 900"),
            (b"CompressedData = False", b"CompressedData = True"),
        ),
        f"{ONE} {PREPARE}",
    ),
    (
        "a NRRD image",
        longer(
            "set/case_1_t1.nrrd", (b"sizes: 16 18 6", b"sizes: 1024 1024 900"), (b"encoding: raw", b"encoding: gzip")
        ),
        f"{ONE} {PREPARE}",
    ),
    ("a PNG picture", pictures(lambda: png("set/eye1.png", 12000, 12000, 1 << 20)), f"{LITTLE} {PREPARE}"),
    ("a PNG picture beyond all", pictures(lambda: png("set/eye1.png", 90000, 90000, 9 << 20)), PREPARE),
    (
        "a JPEG picture",
        pictures(lambda: (Path("set/eye1.png").unlink(), jpeg("set/eye1.jpg", 12000, 12000, 1 << 20))),
        f"{LITTLE} {PREPARE}",
    ),
    ("a TIFF file of 2,000 pages that share their pixels", pages(pages=2000), f"{LITTLE} {PREPARE}"),
    ("a TIFF file whose last page is larger", pages(pages=3, last=60_000), PREPARE),
    ("DICOM slices that claim too much", every_slice(Rows=60_000, Columns=60_000), f"{ONE} {PREPARE}"),
    ("a DICOM slice that is deflated", deflated(400 << 20), PREPARE),
]
"""As `YAML`."""
