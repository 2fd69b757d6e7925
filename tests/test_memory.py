"""What a file takes is asked of its header, and has to fit."""

import io
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from synthmed import memory
from synthmed.data.synthetic import SyntheticSet
from synthmed.errors import UserError
from synthmed.files import write_json
from synthmed.generation.masks import MaskFolder
from synthmed.memory import check_keras, check_memory, read_npz
from synthmed.training.checkpoint import ARRAYS, Checkpoint


def test_a_container_limit_counts(monkeypatch, tmp_path):
    """In a container with 2 GiB the host's 64 GiB are no help: training would be killed."""
    (tmp_path / "memory.max").write_text(f"{2**20}\n")
    (tmp_path / "memory.current").write_text(f"{2**18}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.memory() == (2**20, 2**20 - 2**18)


def test_no_container_limit_leaves_the_machine_s(monkeypatch, tmp_path):
    """`max` is no number, and means that all of the machine may be used."""
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    total, available = memory.memory()
    assert total is not None and available is not None
    assert 2**28 < available <= total


def test_the_machine_s_memory_is_the_limit_unless_somebody_sets_another(monkeypatch):
    """A large scan would be refused on a machine that can hold it, or a small file would end the program."""
    monkeypatch.delenv(memory.VARIABLE, raising=False)
    monkeypatch.setattr(memory, "memory", lambda: (2**40, 2**33))
    check_memory("scan", 2**33)
    with pytest.raises(UserError, match=r"scan takes 16\.0 GiB.*8\.0 GiB.*SYNTHMED_MEMORY"):
        check_memory("scan", 2**34)
    monkeypatch.setenv(memory.VARIABLE, "16")
    check_memory("scan", 2**34)
    monkeypatch.setattr(memory, "memory", lambda: (None, None))
    monkeypatch.delenv(memory.VARIABLE)
    check_memory("scan", 2**32)


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf", "1e999"])
def test_a_limit_that_is_none_is_refused(monkeypatch, text):
    """A typing mistake would take the limit away."""
    monkeypatch.setenv(memory.VARIABLE, text)
    with pytest.raises(UserError, match="no number of GiB"):
        check_memory("scan", 1)


def zeros(path, name="label", size=600 << 20):
    """Write an `.npz` file of half a megabyte that stands for `size` bytes."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (size >> 15, 1 << 15)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return path


@pytest.fixture(scope="module")
def bomb(tmp_path_factory):
    """Return an `.npz` file that stands for a thousand times its size."""
    return zeros(tmp_path_factory.mktemp("bomb") / "case_0.npz")


@pytest.fixture
def little(monkeypatch):
    """Allow a file a tenth of a GiB, and insist that no more is ever taken."""
    monkeypatch.setenv(memory.VARIABLE, "0.1")
    tracemalloc.start()
    yield
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50 << 20


def test_arrays_that_do_not_fit_are_refused_by_their_header(bomb, little, tmp_path):
    """A file of 4 MB in a folder that somebody sent would fill the memory of the machine."""
    with pytest.raises(UserError, match=r"case_0\.npz takes 0\.6 GiB"):
        read_npz(bomb, ("label",))
    (tmp_path / ARRAYS).write_bytes(bomb.read_bytes())
    with pytest.raises(UserError, match=ARRAYS):
        Checkpoint(tmp_path, {}).arrays()
    sidecar = dict.fromkeys(("template", "channels", "classes", "training_patients"), [])
    write_json(tmp_path / "case_0.json", {"synthetic": True, "format": "npz", **sidecar})
    (tmp_path / "case_0.npz").write_bytes(bomb.read_bytes())
    with pytest.raises(UserError, match=r"takes 0\.6 GiB"):
        SyntheticSet.open(tmp_path).labels()


def test_a_label_map_of_another_size_is_not_read(bomb, tmp_path):
    """Whatever the limit, one file among the masks of a folder would fill memory for nothing."""
    (tmp_path / "case_0.npz").write_bytes(bomb.read_bytes())
    folder = MaskFolder(tmp_path, size=(64, 48), classes=3)
    tracemalloc.start()
    with pytest.raises(UserError, match="case_0.npz is 19200x32768, the generator takes 64x48"):
        folder.take(0, np.zeros(1))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50 << 20


def test_label_maps_of_every_kind_are_read_by_their_header_first(tmp_path):
    """What the generator takes would be refused, or read in another way than before."""
    import nibabel as nib
    from PIL import Image

    labels = np.random.default_rng(0).integers(0, 3, (64, 48)).astype(np.uint8)
    np.savez_compressed(tmp_path / "a.npz", label=labels)
    nib.save(nib.Nifti1Image(labels[..., None], np.eye(4)), tmp_path / "b.nii.gz")
    Image.fromarray(labels).save(tmp_path / "c.png")
    np.savez(tmp_path / "d.npz", label=labels[None])
    maps = MaskFolder(tmp_path, size=(64, 48), classes=3).take(0, np.zeros(4)).maps
    assert all(np.array_equal(one, labels) for one in maps)


def test_a_shape_that_its_bytes_do_not_hold_is_the_file_s_fault(tmp_path):
    """An array of a terabyte would be asked for before the file is known to be too short."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("label.npy", content.getvalue() + bytes(64))
    write_json(
        tmp_path / "a.json",
        dict.fromkeys(("template", "channels", "classes", "training_patients"), [])
        | {"synthetic": True, "format": "npz"},
    )
    with pytest.raises(UserError, match=r"a\.npz"):
        SyntheticSet.open(tmp_path).labels()


def test_models_that_do_not_fit_are_refused(little, tmp_path):
    """The weights of a network that somebody sent would fill the memory of the machine."""
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.create_dataset(
            "deep/kernel", shape=(1 << 20, 1 << 12), dtype="f4", chunks=(1024, 1024), compression="gzip"
        )
    assert (tmp_path / "model.h5").stat().st_size < 1 << 20
    with zipfile.ZipFile(tmp_path / "inner.keras", "w") as archive:
        archive.write(tmp_path / "model.h5", "model.weights.h5")
    zeros(tmp_path / "outer.keras", "assets")
    for name in ("model.h5", "inner.keras", "outer.keras"):
        with pytest.raises(UserError, match=f"{name} takes"):
            check_keras(tmp_path / name)
