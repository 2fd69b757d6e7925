"""Real cases of every format in nnU-Net's layout: geometry, types, and no word of a header."""

import gzip
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthmed.data.formats import NiftiSource
from synthmed.data.formats.itk import ItkSource
from synthmed.data.formats.pictures import PictureSource
from synthmed.data.readers import CaseFiles, Dataset
from synthmed.data.schema import Geometry
from synthmed.errors import UserError
from synthmed.generation.merge import file_names, save, write_real_case

SHAPE = (4, 5, 6)
OBLIQUE = np.array([[0.9, 0.1, 0, -7], [-0.1, 0.9, 0, 3], [0, 0, 2.5, 11], [0, 0, 0, 1.0]])


def nifti(path, *, dtype=np.int16, qform=1, sform=2, shape=SHAPE, **header):
    """Write a file whose qform and sform differ, and return its source."""
    random = np.random.default_rng(len(path.name))
    image = nibabel.Nifti1Image(random.integers(0, 3, shape).astype(dtype), OBLIQUE)
    moved = OBLIQUE.copy()
    moved[:3, 3] += 1
    image.set_qform(moved, qform)
    image.set_sform(OBLIQUE, sform)
    image.header.set_xyzt_units("mm", "sec")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return NiftiSource(path)


def dataset_of(*cases, channels=("T1",), values=(0, 1, 2), **more):
    classes = ("background", "organ", "lesion")[: len(values)]
    return Dataset(Path("set"), "set", "CC0", "test", tuple(channels), classes, tuple(values), list(cases), **more)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a case and returns the folder."""
    out = tmp_path / "out"
    for name in ("imagesTr", "labelsTr"):
        (out / name).mkdir(parents=True)

    def write(case, **more):
        write_real_case(case, dataset_of(case, **more), out, name=case.case)
        return out

    return write


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_geometry_and_type_of_nifti_survive(written, tmp_path, dtype, ending):
    """Real cases would lie elsewhere, or be rounded, in the set that nnU-Net learns from: all pairs of codes."""
    for qform in range(5):
        for sform in range(5):
            image = nifti(tmp_path / f"a{qform}{sform}{ending}", dtype=dtype, qform=qform, sform=sform)
            label = nifti(tmp_path / f"b{qform}{sform}{ending}", dtype=np.uint8, qform=qform, sform=sform)
            name = f"case{qform}{sform}"
            out = written(CaseFiles(name, name, (image,), label))
            before = nibabel.load(image.path)
            for target in (out / "imagesTr" / f"{name}_0000.nii.gz", out / "labelsTr" / f"{name}.nii.gz"):
                after = nibabel.load(target)
                assert np.allclose(after.affine, before.affine, atol=1e-6)
                assert (after.header["qform_code"], after.header["sform_code"]) == (qform, sform)
                assert np.allclose(after.header.get_zooms(), before.header.get_zooms())
                assert after.header.get_xyzt_units() == ("mm", "sec")
                if qform:
                    assert np.allclose(after.get_qform(), before.get_qform(), atol=1e-5)
            after = nibabel.load(out / "imagesTr" / f"{name}_0000.nii.gz")
            assert after.get_data_dtype() == dtype and np.array_equal(after.dataobj, before.dataobj)


@pytest.mark.parametrize("field", ["descrip", "aux_file", "intent_name", "db_name"])
def test_words_in_a_header_do_not_travel(written, tmp_path, field):
    """A patient's name in a header's description would be given away with the set."""
    image = nifti(tmp_path / "a.nii.gz", **{field: b"DOE^JANE"})
    label = nifti(tmp_path / "b.nii.gz", dtype=np.uint8, **{field: b"DOE^JANE"})
    out = written(CaseFiles("a", "a", (image,), label))
    for path in (out / "imagesTr" / "a_0000.nii.gz", out / "labelsTr" / "a.nii.gz"):
        assert b"DOE" not in gzip.decompress(path.read_bytes())
    assert np.array_equal(nibabel.load(out / "imagesTr" / "a_0000.nii.gz").dataobj, nibabel.load(image.path).dataobj)


def test_extensions_of_a_header_do_not_travel(written, tmp_path):
    """Converters store whole DICOM headers there."""
    image, label = nifti(tmp_path / "a.nii.gz"), nifti(tmp_path / "b.nii.gz", dtype=np.uint8)
    for source in (image, label):
        loaded = nibabel.load(source.path)
        loaded.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
        nibabel.save(loaded, source.path)
    out = written(CaseFiles("a", "a", (image,), label))
    assert all(b"DOE" not in gzip.decompress(path.read_bytes()) for path in out.rglob("*.nii.gz"))


def test_the_name_that_gzip_keeps_does_not_travel(written, tmp_path):
    """A renamed file still says what it was called when it was compressed: often the patient."""
    image, label = nifti(tmp_path / "a.nii.gz"), nifti(tmp_path / "b.nii.gz", dtype=np.uint8)
    for source in (image, label):
        plain = gzip.compress(gzip.decompress(source.path.read_bytes()), mtime=1_500_000_000)
        # RFC 1952: extra field, name, comment and a checksum of the header, in this order.
        kept = b"\x08\0AB\x04\0DOE0" + b"DOE^JANE.nii\0" + b"DOE comments\0"
        header = plain[:3] + bytes([2 | 4 | 8 | 16]) + plain[4:10] + kept
        source.path.write_bytes(header + (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little") + plain[10:])
        assert nibabel.load(source.path).shape == SHAPE
    out = written(CaseFiles("a", "a", (image,), label))
    for path, source in ((out / "imagesTr" / "a_0000.nii.gz", image), (out / "labelsTr" / "a.nii.gz", label)):
        assert b"DOE" not in path.read_bytes() and path.read_bytes()[4:8] == bytes(4)
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(source.path.read_bytes())


def test_a_qform_of_another_channel_is_not_kept(written, tmp_path):
    """Readers that go by the qform, as SimpleITK may, would find channels of one case at different places."""
    first, second = nifti(tmp_path / "a.nii.gz"), nifti(tmp_path / "b.nii.gz", qform=0)
    out = written(
        CaseFiles("a", "a", (first, second), nifti(tmp_path / "c.nii.gz", dtype=np.uint8, qform=0)),
        channels=("T1", "T2"),
    )
    found = [nibabel.load(path) for path in sorted(out.rglob("*.nii.gz"))]
    assert len(found) == 3 and {int(image.header["qform_code"]) for image in found} == {1}
    assert all(np.array_equal(image.get_qform(), found[0].get_qform()) for image in found)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_itk_formats_become_nifti_at_their_place(written, tmp_path, ending):
    """SimpleITK, by which nnU-Net reads, would find the images elsewhere than in the files that the user has."""
    image = SimpleITK.GetImageFromArray(np.random.default_rng(0).integers(-900, 900, (3, 4, 5)).astype(np.int16))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-11.0, 12.0, 13.0))
    image.SetDirection((0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1))
    label = SimpleITK.Cast(image > 0, SimpleITK.sitkUInt8)
    label.CopyInformation(image)
    SimpleITK.WriteImage(image, str(tmp_path / f"a{ending}"))
    SimpleITK.WriteImage(label, str(tmp_path / f"b{ending}"))
    case = CaseFiles("a", "a", (ItkSource(tmp_path / f"a{ending}"),), ItkSource(tmp_path / f"b{ending}"))
    out = written(case, values=(0, 1))
    for path, wanted in ((out / "imagesTr" / "a_0000.nii.gz", image), (out / "labelsTr" / "a.nii.gz", label)):
        found = SimpleITK.ReadImage(str(path))
        assert found.GetPixelID() == wanted.GetPixelID()
        assert np.array_equal(SimpleITK.GetArrayFromImage(found), SimpleITK.GetArrayFromImage(wanted))
        for get in ("GetSpacing", "GetOrigin", "GetDirection"):
            assert np.allclose(getattr(found, get)(), getattr(wanted, get)(), atol=1e-5)


def test_colour_pictures_become_a_file_a_channel(written, tmp_path):
    """nnU-Net would be given one channel of a photograph, or a mask of 255 instead of 1."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    mask = (pixels[..., 0] > 99).astype(np.uint8) * 255
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.png"))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mask), str(tmp_path / "b.png"))
    label = PictureSource((tmp_path / "b.png",), mask=True)
    image = PictureSource((tmp_path / "a.png",))
    out = written(CaseFiles("a", "a", (image,), label), channels=("red", "green", "blue"), values=(0, 255))
    source = image.open().voxels()
    for channel in range(3):
        found = nibabel.load(out / "imagesTr" / f"a_{channel:04d}.nii.gz")
        assert found.shape == (*source.shape[:2], 1) and found.get_data_dtype() == np.uint8
        assert np.array_equal(found.dataobj, source[..., channel])
        assert sorted(np.asarray(found.dataobj).ravel()) == sorted(pixels[..., channel].ravel())
    found = np.asarray(nibabel.load(out / "labelsTr" / "a.nii.gz").dataobj)
    assert np.array_equal(found, label.open().voxels()[..., 0] > 0) and found.sum() == (mask > 0).sum()


def test_all_files_of_a_case_get_one_geometry(written, tmp_path):
    """nnU-Net refuses a case whose channels differ in the last digit of their spacing."""
    first, second = nifti(tmp_path / "a.nii.gz"), nifti(tmp_path / "b.nii.gz")
    label = nifti(tmp_path / "c.nii.gz", dtype=np.uint8)
    for source in (second, label):
        loaded = nibabel.load(source.path)
        affine = loaded.affine * (1 + 3e-5)
        loaded.set_sform(affine, 2)
        loaded.set_qform(affine, 1)
        nibabel.save(loaded, source.path)
    out = written(CaseFiles("a", "a", (first, second), label), channels=("T1", "T2"))
    found = [SimpleITK.ReadImage(str(path)) for path in sorted(out.rglob("*.nii.gz"))]
    assert len(found) == 3 and len({image.GetSpacing() for image in found}) == 1
    assert len({image.GetOrigin() for image in found}) == 1


def test_labels_become_class_indices_and_what_is_not_known_comes_last(written, tmp_path):
    """nnU-Net asks for 0, 1, 2 and the ignore label after them; one taken for another would be learnt."""
    label = nifti(tmp_path / "b.nii.gz", dtype=np.uint8)
    loaded = nibabel.load(label.path)
    values = np.random.default_rng(0).choice([0, 2, 7, 9], SHAPE).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, loaded.affine, loaded.header), label.path)
    case = CaseFiles("a", "a", (nifti(tmp_path / "a.nii.gz"),), label)
    out = written(case, values=(0, 2, 9), ignore_value=7)
    found = np.asarray(nibabel.load(out / "labelsTr" / "a.nii.gz").dataobj)
    assert found.dtype == np.uint8 and np.array_equal(found, np.array([0, 0, 1, 0, 0, 0, 0, 3, 0, 2])[values])
    with pytest.raises(UserError, match="has the value 7"):
        written(case, values=(0, 2, 9))


@dataclass(frozen=True)
class ArraySource:
    """Voxels in memory, as any reader may give them."""

    array: np.ndarray
    geometry: Geometry
    path: Path = Path("memory")
    files = {}

    def open(self):
        return self

    @property
    def channels(self):
        return self.array.shape[3]

    def voxels(self):
        return self.array


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_array_of_any_reader_survives(tmp_path, data):
    """A format's oddest type or shape would fail at the end of a long generation, or change its values."""
    kind = data.draw(
        st.sampled_from(["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32"])
    )
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    top = 2**31 - 1 if kind.endswith("64") else 100
    array = np.random.default_rng(0).integers(0, top, shape, endpoint=True).astype(kind)
    spacing = data.draw(st.tuples(*[st.floats(0.05, 20)] * 3))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = data.draw(st.tuples(*[st.floats(-300, 300)] * 3))
    geometry = Geometry(shape=shape, affine=tuple(map(tuple, affine.tolist())), zooms=spacing, dtype=kind)
    save(array, geometry, tmp_path / "a.nii.gz")
    found = nibabel.load(tmp_path / "a.nii.gz")
    assert found.get_data_dtype() == {"int64": np.int32, "uint64": np.int32}.get(kind, np.dtype(kind))
    assert np.array_equal(np.asarray(found.dataobj), array)
    assert np.allclose(found.affine, affine, rtol=1e-6, atol=1e-4)


def test_case_names_become_file_names(tmp_path):
    """A name with a slash would write into another folder, or two cases into one file."""
    geometry = Geometry(shape=(1, 1, 1), affine=tuple(map(tuple, np.eye(4).tolist())), zooms=(1, 1, 1))
    source = ArraySource(np.zeros((1, 1, 1, 1)), geometry)
    case = CaseFiles("sub-01/ses-2", "sub-01", (source,))
    assert file_names(dataset_of(case)) == {"sub-01/ses-2": "sub-01_ses-2"}
    assert file_names(dataset_of(replace(case, case="../../evil"))) == {"../../evil": "_.._evil"}
    with pytest.raises(UserError, match="rename one"):
        file_names(dataset_of(case, replace(case, case="sub-01_ses-2")))
