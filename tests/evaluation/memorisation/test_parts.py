"""The parts of the audit against references that are written out: search, membership, intervals, empty slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from synthmed.errors import UserError
from synthmed.evaluation.memorisation.assessment import share_interval
from synthmed.evaluation.memorisation.audit import attack_auc, audit, read_audit
from synthmed.evaluation.memorisation.registration import ImageSpace, MaskSpace
from synthmed.evaluation.memorisation.search import SliceReader, VectorSpace, nearest_groups, sample_slices


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), patients=st.integers(1, 6), own=st.booleans())
def test_search_in_blocks_equals_the_whole_matrix(seed, patients, own):
    """A copy in a later block would be missed, or laid to another patient."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), random.integers(1, 200, patients))
    queries = random.standard_normal((7, 2, 5)).astype(np.float32)
    references = random.standard_normal((len(groups), 3, 5)).astype(np.float32)
    mine = random.integers(0, patients, 7)
    index, _ = nearest_groups(queries, lambda numbers: references[numbers], groups, most=3, own=mine if own else None)
    whole = np.einsum("nvf,muf->nmvu", queries, references).max(axis=(2, 3))
    for row in range(7):
        best = {}
        for number in np.argsort(-whole[row]):
            if not (own and groups[number] == mine[row]):
                best.setdefault(groups[number], number)
        expected = [*best.values(), -1, -1, -1][:3]
        assert index[row].tolist() == [int(number) for number in expected]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_attack_equals_all_pairs(seed):
    """A data-protection officer would read another figure than the one that was defined."""
    random = np.random.default_rng(seed)
    members, others = random.integers(0, 9, 30).astype(float), random.integers(2, 11, 20).astype(float)
    pairs = (members[:, None] < others) + 0.5 * (members[:, None] == others)
    found = attack_auc(members, others, member_patient=np.arange(30) // 5, other_patient=np.arange(20) // 5, seed=1)
    assert found.value == pytest.approx(pairs.mean())
    assert found.low <= found.value <= found.high


def test_interval_of_a_share_is_the_exact_one():
    """A chance finding would fail an audit, or a leak pass it."""
    for count, total in ((0, 9), (3, 50), (50, 50)):
        exact = binomtest(count, total).proportion_ci(0.95, method="exact")
        assert share_interval(count, total) == pytest.approx((exact.low, exact.high))


def test_slices_that_show_nothing_are_no_copies():
    """Every set with air above the head would fail."""
    random = np.random.default_rng(0)
    images = np.full((6, 32, 32, 1), -1, np.float32)
    noise = images + random.normal(0, 0.03, images.shape).astype(np.float32)
    other = images + random.normal(0, 0.03, images.shape).astype(np.float32)
    space, patient = ImageSpace((32, 32)), np.arange(6) // 2
    assert space.nearest(sample_slices(images), SliceReader(lambda k: noise[k], patient)).empty.all()
    found = space.nearest(sample_slices(other), SliceReader(lambda k: noise[k], patient))
    assert (found.empty | (found.ratio > 0.7)).all()
    masks = np.zeros((6, 32, 32), np.uint8)
    assert MaskSpace((32, 32), 3).nearest(sample_slices(masks), SliceReader(lambda k: masks[k], patient)).empty.all()


def test_features_find_the_nearest_by_euclidean_distance():
    """Another slice would be shown as the nearest."""
    random = np.random.default_rng(0)
    known, drawn = random.normal(3, 2, (40, 4, 4, 1)), random.normal(3, 2, (5, 4, 4, 1))
    space = VectorSpace(lambda images: images.reshape(len(images), -1), "pixels")
    found = space.nearest(sample_slices(drawn), SliceReader(lambda k: known[k], np.arange(40) // 4))
    scale = known.reshape(40, -1).std(axis=0)
    distances = np.sqrt(((((drawn[:, None] - known).reshape(5, 40, -1)) / scale) ** 2).mean(axis=2))
    assert np.array_equal(found.index, distances.argmin(axis=1))
    np.testing.assert_allclose(found.distance, distances.min(axis=1), rtol=1e-5)


class OnePatient:
    """A store of which only so many training cases are known, and nobody is held out."""

    def __init__(self, store, cases):
        self._store, self._cases = store, cases

    def __getattr__(self, name):
        return getattr(self._store, name)

    def indices(self, split):
        held_out = np.empty(0, np.int64)
        chosen = [np.arange(case.first, case.first + case.slices) for case in self._store.cases("train")[: self._cases]]
        return np.concatenate(chosen) if split == "train" else held_out


@pytest.mark.parametrize("cases", [1, 2, 3])
def test_nobody_held_out(store, tmp_path, cases):
    """An export would be refused, or break, where all patients were trained on."""
    random = np.random.default_rng(0)
    images = random.normal(0, 0.3, (20, 32, 32, 2)).astype(np.float32)
    labels = np.zeros((20, 32, 32), np.uint8)
    found = audit(OnePatient(store, cases), images, labels)
    assert found.verdict.passed is (None if cases == 1 else True)
    assert ("not audited" in found.verdict.sentence) == (cases == 1)
    found.write(tmp_path / "audit.json")
    assert read_audit(tmp_path / "audit.json") == found
    train = OnePatient(store, cases).indices("train")
    copies = audit(OnePatient(store, cases), store.images(train), store.labels(train))
    assert copies.verdict.passed is (None if cases == 1 else False)


def test_an_audit_names_no_patient(store):
    """Whoever is given the audit would learn who took part."""
    held_out = store.indices("val")
    text = audit(store, store.images(held_out), store.labels(held_out)).model_dump_json()
    assert not any(word in text for case in store.cases() for word in (case.case, case.patient, case.hash))


def test_samples_that_do_not_fit_are_refused_in_one_line(store):
    """A traceback would be all that the user gets."""
    with pytest.raises(UserError, match="no samples"):
        audit(store, np.zeros((0, 32, 32, 2), np.float32), None)
    with pytest.raises(UserError, match="another size"):
        audit(store, np.zeros((3, 16, 32, 2), np.float32), None)


def test_constant_samples_pass_and_are_told(store):
    """A collapsed generator would break the audit."""
    found = audit(store, np.zeros((12, 32, 32, 2), np.float32), np.zeros((12, 32, 32), np.uint8))
    assert found.verdict.passed and "no sample shows anything" in found.verdict.sentence
