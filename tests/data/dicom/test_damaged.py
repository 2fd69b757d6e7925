"""Damaged DICOM files: some hundred mutations of images, segmentations and structure sets."""

import resource

import numpy as np
import pytest

from synthmed.data.inspect import fingerprint
from synthmed.data.readers import read_dataset
from synthmed.errors import UserError

MUTATIONS = 80
# KiB. Of a file of a few thousand bytes nothing needs more, whatever sizes its header claims.
MEMORY = 64 * 1024


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file's bytes cut, with bytes changed, moved, doubled or filled, past the magic word."""
    changed = bytearray(content)
    kind, at = rng.integers(5), int(rng.integers(132, len(changed) - 8))
    if kind == 0:
        return bytes(changed[:at])
    if kind == 1:
        for place in rng.integers(132, len(changed), rng.integers(1, 12)):
            changed[place] = rng.integers(256)
    elif kind == 2:
        changed[at : at + 4] = bytes(rng.choice([0, 0x7F, 0x80, 0xFF], 4).astype(np.uint8))
    elif kind == 3:
        end = min(at + int(rng.integers(1, 200)), len(changed))
        changed[at:at] = changed[at:end]
    else:
        del changed[at : at + int(rng.integers(1, 60))]
    return bytes(changed)


@pytest.mark.parametrize("kind", ["image", "seg", "rtstruct"])
def test_damage_is_conditional_or_harmless(tmp_path, written, voxels, kind):
    """A traceback, or a machine out of memory, tells a user nothing of which file to mend."""
    source = tmp_path / "whole"
    images = written.write_series(source / "images", voxels())
    target = images[2]
    if kind == "seg":
        pytest.importorskip("highdicom")
        target = written.write_seg(source / "seg.dcm", images, {"a": voxels() > 400, "b": voxels() < 200})
    elif kind == "rtstruct":
        square = np.array([(-18, 14, 8), (-12, 18, 8.5), (-14, 22, 9)])
        target = written.write_rtstruct(source / "rs.dcm", images, {"a": [square], "b": [square + 0.5]})
    content = target.read_bytes()
    rng = np.random.default_rng(len(kind))
    told = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MUTATIONS):
        target.write_bytes(mutate(content, rng))
        try:
            told += bool(fingerprint(read_dataset(source)).problems)
        except UserError as error:
            assert "\n" not in str(error)
            told += 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    # Most of a file is what nobody reads, so that much damage is harmless; not all may be.
    assert told > MUTATIONS // 10
