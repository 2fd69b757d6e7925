import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from synthmed.errors import UserError
from synthmed.evaluation.features import OfflineFeatures
from synthmed.evaluation.fidelity import fidelity_sections

PATIENTS = np.repeat([f"p{number}" for number in range(8)], 10)


def slices(seed, count=80, channels=2):
    """Smooth slices with noise; each ten follow one pattern, as those of a patient do."""
    random = np.random.default_rng(seed)
    base = np.repeat(random.standard_normal((count // 10, 16, 16, channels)), 10, axis=0)
    rough = base + 0.5 * random.standard_normal((count, 16, 16, channels))
    images = gaussian_filter(rough, (0, 1, 1, 0)) + 0.02 * random.standard_normal(rough.shape)
    return images.astype(np.float32).clip(-1, 1)


def compare(drawn, training=None, patients=PATIENTS, held_out=None, **options):
    training = slices(1) if training is None else training
    held_out = slices(2) if held_out is None else held_out
    return fidelity_sections(drawn, training, patients, held_out, PATIENTS, OfflineFeatures(), **options)


def named(sections):
    return {figure.name: figure for section in sections for figure in section.figures}


def test_every_figure_has_real_baseline_interval_and_definition_and_blur_shows():
    """A reader would see numbers without anything to compare them with."""
    sections, plots = compare(gaussian_filter(slices(3), (0, 0.7, 0.7, 0)), channels=("T1", "T2 w"))
    found = named(sections)
    assert [section.name for section in sections] == ["fidelity", "diversity", "appearance"]
    assert {"frechet_distance", "kid", "precision", "recall", "density", "coverage", "ms_ssim"} <= set(found)
    assert {"sliced_wasserstein", "sliced_wasserstein_16", "histogram_wasserstein_t2_w"} <= set(found)
    assert len(found) == sum(len(section.figures) for section in sections)
    for figure in found.values():
        for estimate in (figure.estimate, figure.real_baseline):
            assert estimate.low <= estimate.value <= estimate.high, figure.name
        assert len(figure.definition) > 40 and figure.better
    assert found["kid"].space == OfflineFeatures.name and found["ms_ssim"].space == ""
    # Of 80 slices that follow eight patterns each, features differ by the patterns more than by this blur.
    for name, least in (
        ("frechet_distance", 1.0),
        ("kid", 1.0),
        ("sliced_wasserstein_16", 1.5),
        ("spectrum_difference", 2.0),
    ):
        assert found[name].estimate.value > least * abs(found[name].real_baseline.value), name
    assert found["spectrum_highest_band"].estimate.high < 0
    assert "few for 64 features" in found["frechet_distance"].warning and "few" in found["recall"].warning
    assert plots.channels == ("T1", "T2 w")
    assert set(plots.embedding) == set(plots.spectra) == {"synthetic", "training", "held_out"}
    assert plots.spectra["synthetic"].shape == (len(plots.frequencies), 2)
    assert plots.histograms["held_out"].sum(axis=1) == pytest.approx(1)
    assert plots.embedding["training"].shape == (80, 2) and 1 > plots.explained[0] >= plots.explained[1] > 0


def test_training_slices_in_the_place_of_synthetic_ones_get_the_real_baseline():
    """The real_baseline would not be what real slices get."""
    for name, figure in named(compare(slices(1))[0]).items():
        if name != "ms_ssim" and not name.startswith("sliced"):
            assert figure.estimate.value == pytest.approx(figure.real_baseline.value, rel=1e-4, abs=1e-6), name


def test_figures_repeat_and_sets_of_different_size_are_brought_to_one():
    """Figures that depend on the number of slices would be compared with a real_baseline of another number."""
    first, second = (compare(slices(3, 200), seed=5)[0] for _ in range(2))
    assert first == second
    assert "80 of 200 synthetic" in first[0].notes[1]
    assert first[0].notes[0].startswith("80 synthetic slices")
    small = compare(slices(3, 40))[0]
    assert "40 of 80 training" in small[0].notes[1]


def test_the_space_learns_from_training_slices_alone():
    """Held-out slices would leak into what they are measured by."""
    seen = []

    class Spy(OfflineFeatures):
        def fit(self, training):
            seen.append(training)
            super().fit(training)

    fidelity_sections(slices(3), slices(1), PATIENTS, slices(2), PATIENTS, Spy())
    assert len(seen) == 1 and np.array_equal(seen[0], slices(1))


def test_constant_slices_give_finite_figures_and_a_note():
    """An evaluation of a collapsed generator, or with an empty channel, would end in a traceback."""
    flat = np.full((30, 16, 16, 2), -1.0, np.float32)
    sections, _ = compare(flat)
    assert all(np.isfinite(figure.estimate.value) for figure in named(sections).values())
    assert "100.0% of the synthetic slices are constant." in sections[0].notes
    everything, _ = compare(flat, training=np.repeat(flat[:10], 8, axis=0), held_out=np.repeat(flat[:10], 8, axis=0))
    assert all(np.isfinite(figure.estimate.value) for figure in named(everything).values())


def test_a_single_training_patient_has_no_real_baseline_of_similarity_and_says_so():
    """Slices of one patient would be held up as what diversity real patients have."""
    sections, _ = compare(slices(3), patients=["one"] * 80)
    found = named(sections)
    assert found["ms_ssim"].real_baseline is None and "one" in sections[1].notes[0]
    assert found["kid"].real_baseline.low is not None


@pytest.mark.parametrize("which", ["drawn", "training", "held_out"])
def test_too_few_slices_are_refused_with_the_number_needed(which):
    """Figures of a handful of slices would be printed as if they meant something."""
    sets = {"drawn": slices(3), "training": slices(1), "held_out": slices(2)}
    sets[which] = sets[which][:9]
    patients = PATIENTS[: len(sets["training"])], PATIENTS[: len(sets["held_out"])]
    with pytest.raises(UserError, match="there are 9 .* slices, and distances need at least 10"):
        fidelity_sections(
            sets["drawn"], sets["training"], patients[0], sets["held_out"], patients[1], OfflineFeatures()
        )
    sets[which] = slices(3)[:10]
    patients = PATIENTS[: len(sets["training"])], PATIENTS[: len(sets["held_out"])]
    sections, _ = fidelity_sections(
        sets["drawn"], sets["training"], patients[0], sets["held_out"], patients[1], OfflineFeatures()
    )
    assert all(np.isfinite(figure.estimate.value) for figure in named(sections).values())


def test_other_shapes_and_numbers_that_are_not_finite_are_refused():
    """A user would read a NumPy error."""
    with pytest.raises(UserError, match="same size and channels"):
        compare(slices(3)[:, :12])
    broken = slices(3)
    broken[3, 2, 1, 0] = np.nan
    with pytest.raises(UserError, match="synthetic slices hold numbers that are not finite"):
        compare(broken)
