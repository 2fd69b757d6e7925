"""Fidelity and diversity of synthetic slices: every figure, its interval, its meaning, and what real slices get."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from synthmed.errors import UserError
from synthmed.evaluation.appearance import (
    HIGHEST_BAND,
    INTENSITY_EDGES,
    PatchDistance,
    band_frequencies,
    decibels,
    histogram_figures,
    intensity_counts,
    radial_power,
    spectrum_figures,
)
from synthmed.evaluation.features import FeatureSpace
from synthmed.evaluation.metrics import frechet_estimate, kid_estimate, manifold_estimates, ms_ssim_estimate
from synthmed.evaluation.resampling import Units
from synthmed.evaluation.result import Better, Estimate, Figure, Section

ONE_TRAINING_PATIENT = "MS-SSIM has no real baseline: it needs pairs of different training patients, and there is one"
FEWEST = 10
MOST_SLICES = 10_000
"""Slices of a set that are looked at; of more, a random choice."""
FEW_FOR_NEIGHBOURS = 100
EMBEDDED = 500
"""Points of each set in the embedding."""
_FLAT = 1e-6
_SETS = "synthetic", "training", "held_out"
Values = dict[str, Estimate | None]


class _Meaning(NamedTuple):
    label: str
    better: Better
    unit: str
    definition: str


_MEANINGS = {
    "frechet_distance": _Meaning(
        "Fréchet distance",
        "lower",
        "",
        "Distance of the Gaussians fitted to the features of both sets: |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½) (Heusel "
        "et al. 2017). It is too high by an amount that grows with few slices: compare with the real baseline, which "
        "has as many, and never with figures of other papers.",
    ),
    "kid": _Meaning(
        "Kernel distance (KID)",
        "lower",
        "",
        "Unbiased squared maximum mean discrepancy of the features with the kernel (x·y / d + 1)³ (Bińkowski et al. "
        "2018). It does not depend on the number of slices; a little below 0 means no difference was found.",
    ),
    "precision": _Meaning(
        "Precision",
        "higher",
        "",
        "Share of the samples within the ball around some held-out slice that reaches to its third nearest held-out "
        "one (Kynkäänniemi et al. 2019): how many look real.",
    ),
    "density": _Meaning(
        "Density",
        "higher",
        "",
        "Mean number of balls around held-out slices, reaching to the fifth nearest, that a sample lies in, divided by "
        "5 (Naeem et al. 2020): like precision, but one unusual real slice counts for little. It can be above 1.",
    ),
    "recall": _Meaning(
        "Recall",
        "higher",
        "",
        "Share of held-out slices within the ball around some sample that reaches to its third nearest sample "
        "(Kynkäänniemi et al. 2019): how much of what is real the samples show.",
    ),
    "coverage": _Meaning(
        "Coverage",
        "higher",
        "",
        "Share of held-out slices with a sample in their ball, which reaches to the fifth nearest held-out slice "
        "(Naeem et al. 2020): like recall, but unusual samples count for nothing.",
    ),
    "ms_ssim": _Meaning(
        "MS-SSIM among samples",
        "real_baseline",
        "",
        "Mean multi-scale structural similarity of random pairs of samples (Wang et al. 2003); the real baseline is of "
        "pairs of slices of different training patients. Far above it the samples are too alike: a collapse.",
    ),
    "sliced_wasserstein": _Meaning(
        "Sliced Wasserstein distance",
        "lower",
        "standard deviations",
        "Distance of the distributions of 7 x 7 patches along random directions, mean over the levels of a Laplacian "
        "pyramid (Karras et al. 2018), in standard deviations of the training slices' pixels at each level.",
    ),
    "spectrum_difference": _Meaning(
        "Difference of the spectra",
        "lower",
        "dB",
        "Mean over frequency bands and channels of how far the mean power lies above or below that of held-out slices.",
    ),
    "spectrum_highest_band": _Meaning(
        "Power of the highest frequencies",
        "real_baseline",
        "dB",
        f"Mean power from {HIGHEST_BAND:.0%} of the Nyquist frequency on, beside held-out slices: below 0 is blur, "
        "above 0 noise or a grid pattern.",
    ),
    "histogram_wasserstein": _Meaning(
        "Intensities, Wasserstein distance",
        "lower",
        "",
        "Mean distance that intensities would have to be moved for both sets to have one histogram; the range of "
        "intensities is 2, from -1 to 1.",
    ),
    "histogram_divergence": _Meaning(
        "Intensities, Jensen-Shannon divergence",
        "lower",
        "bits",
        "How well one pixel's intensity tells which set it is of, 0 for not at all and 1 for surely (256 bins).",
    ),
}


@dataclass(frozen=True)
class FidelityPlots:
    """What the pictures of a report are drawn from; keys are "synthetic", "training" and "held_out".

    Attributes:
        channels: Their names.
        frequencies: Middle of each band in cycles a pixel, `[bands]`.
        spectra: Mean power in decibels, `[bands, C]`.
        edges: Ends of the intensity bins, `[bins + 1]`.
        histograms: Share of the pixels in each bin, `[C, bins]`.
        embedding: Slices on the first two principal components of the training slices' features, `[points, 2]`.
        explained: Share of the training slices' variance on each of the two.
    """

    channels: tuple[str, ...]
    frequencies: NDArray[np.float64]
    spectra: dict[str, NDArray[np.float64]]
    edges: NDArray[np.float64]
    histograms: dict[str, NDArray[np.float64]]
    embedding: dict[str, NDArray[np.float64]]
    explained: tuple[float, float]


@dataclass(frozen=True)
class _Set:
    """Slices `[n, H, W, C]`, what of them is resampled as a whole, and their features `[n, d]`."""

    images: NDArray[np.float32]
    units: Units
    features: NDArray[np.float32]


def fidelity_sections(
    drawn: NDArray[np.float32],
    training: NDArray[np.float32],
    training_patients: Sequence[str] | NDArray,
    held_out: NDArray[np.float32],
    held_out_patients: Sequence[str] | NDArray,
    space: FeatureSpace,
    *,
    channels: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[list[Section], FidelityPlots]:
    """Compare synthetic slices with held-out real ones, and training slices with the same: the real baseline.

    Several figures depend on the number of slices, so synthetic and training slices are brought to the same number by
    a random choice. The space learns from training slices alone. Peak memory is about three times the slices'.

    Args:
        drawn: Synthetic slices, float32 `[n, H, W, C]` in [-1, 1].
        training: Slices of training patients, `[m, H, W, C]`.
        training_patients: Whose each of them is, `[m]`.
        held_out: Slices of patients that neither generator nor space has seen, `[k, H, W, C]`.
        held_out_patients: Whose each of them is, `[k]`.
        space: Feature space; it is fitted here.
        channels: Names for the report; without one for each, or where two are equal, they are numbered.
        seed: Of choices, directions and resampling.

    Returns:
        Sections "fidelity", "diversity" and "appearance", and what plots need.

    Raises:
        UserError: If a set has fewer than 10 slices, or slices of another shape or with numbers that are not finite.
    """
    _check({"synthetic": drawn, "training": training, "held-out": held_out})
    names = tuple(channels or ())
    if len(set(names)) != drawn.shape[3]:
        names = tuple(f"channel {number}" for number in range(drawn.shape[3]))
    space.fit(training)
    patients = training_patients, held_out_patients
    sets = _choose_sets((drawn, training, held_out), patients, space, seed)
    measured = {name: _measure_features(sets[name], sets["held_out"], seed) for name in _SETS[:2]}
    appearance, spectra, histograms = _appearance(sets, names, seed)
    warnings = _warnings(sets, space.dimension)

    def figures(values: dict[str, Values], keys: Iterable[str], in_space: str = "") -> tuple[Figure, ...]:
        return tuple(
            _figure(
                key,
                estimate=estimate,
                real_baseline=values["training"][key],
                space=in_space,
                warning=warnings.get(key, ""),
            )
            for key in keys
            if (estimate := values["synthetic"][key]) is not None
        )

    sections = [
        Section(
            name="fidelity",
            title="Fidelity: do samples look like real slices?",
            figures=figures(measured, ("frechet_distance", "kid", "precision", "density"), space.name),
            notes=_notes(sets, (len(drawn), len(training), len(held_out))),
        ),
        Section(
            name="diversity",
            title="Diversity: do samples show all that real slices show?",
            figures=figures(measured, ("recall", "coverage"), space.name) + figures(measured, ("ms_ssim",)),
            notes=() if measured["training"]["ms_ssim"] else (ONE_TRAINING_PATIENT,),
        ),
        Section(
            name="appearance",
            title="Appearance: texture, sharpness and intensities",
            figures=figures(appearance, appearance["synthetic"]),
        ),
    ]
    return sections, _plots(sets, names, spectra, histograms)


def _choose_sets(
    images: tuple[NDArray[np.float32], ...],
    patients: tuple[Sequence[str] | NDArray, Sequence[str] | NDArray],
    space: FeatureSpace,
    seed: int,
) -> dict[str, _Set]:
    """Return as many synthetic as training slices, and held-out ones, by a random choice, with their features."""
    random = np.random.default_rng(seed)
    same = min(len(images[0]), len(images[1]), MOST_SLICES)
    chosen = [_choice(len(part), count, random) for part, count in zip(images, (same, same, MOST_SLICES), strict=True)]
    units = (
        Units.of_cases(same, seed=seed),
        *(Units.of_patients(np.asarray(owners)[indices]) for owners, indices in zip(patients, chosen[1:], strict=True)),
    )
    return {
        name: _Set(part := given[indices], own, _features(space, part, name))
        for name, given, indices, own in zip(_SETS, images, chosen, units, strict=True)
    }


def _measure_features(first: _Set, real: _Set, seed: int) -> Values:
    drawn, other, own, units = first.features, real.features, first.units, real.units
    return {
        "frechet_distance": frechet_estimate(drawn, other, drawn_units=own, real_units=units, seed=seed),
        "kid": kid_estimate(drawn, other, drawn_units=own, real_units=units, seed=seed),
        **manifold_estimates(drawn, other, drawn_units=own, real_units=units, seed=seed),
        "ms_ssim": ms_ssim_estimate(first.images, own, seed=seed),
    }


def _appearance(
    sets: dict[str, _Set], channels: tuple[str, ...], seed: int
) -> tuple[dict[str, Values], dict[str, NDArray], dict[str, NDArray]]:
    """Return figures of both sets, and the spectra `[n, bands, C]` and histograms `[units, C, bins]` of all three."""
    patches = PatchDistance(sets["training"].images, seed=seed)
    places = {name: patches.counts(one.images, one.units) for name, one in sets.items()}
    spectra = {name: radial_power(one.images) for name, one in sets.items()}
    counts = {name: intensity_counts(one.images, one.units) for name, one in sets.items()}
    size = sets["training"].images.shape[1:3]
    real = sets["held_out"].units
    found: dict[str, Values] = {}
    for name in _SETS[:2]:
        own = sets[name].units
        levels = patches.distances(places[name], places["held_out"], first_units=own, second_units=real)
        spectrum = spectrum_figures(
            spectra[name], spectra["held_out"], drawn_units=own, real_units=real, size=size, seed=seed
        )
        values: Values = {"sliced_wasserstein": levels.pop("mean")}
        values |= {f"sliced_wasserstein_{side}": estimate for side, estimate in levels.items()}
        values |= {"spectrum_difference": spectrum.difference, "spectrum_highest_band": spectrum.highest}
        histograms = histogram_figures(counts[name], counts["held_out"], drawn_units=own, real_units=real, seed=seed)
        for channel, histogram in zip(channels, histograms, strict=True):
            values[f"histogram_wasserstein:{channel}"] = histogram.wasserstein
            values[f"histogram_divergence:{channel}"] = histogram.divergence
        found[name] = values
    return found, spectra, counts


def _plots(
    sets: dict[str, _Set], channels: tuple[str, ...], spectra: dict[str, NDArray], counts: dict[str, NDArray]
) -> FidelityPlots:
    training = sets["training"].features.astype(np.float64)
    mean = training.mean(axis=0)
    _, sizes, axes = np.linalg.svd(training - mean, full_matrices=False)
    shares = np.zeros(2)
    shares[: len(sizes)] = (sizes**2 / max(np.sum(sizes**2), np.finfo(float).tiny))[:2]
    points = {name: one.features[:: -(-len(one.features) // EMBEDDED)] for name, one in sets.items()}
    totals = {name: count.sum(axis=0) for name, count in counts.items()}
    return FidelityPlots(
        channels=channels,
        frequencies=band_frequencies(sets["training"].images.shape[1:3]),
        spectra={name: decibels(power.mean(axis=0)) for name, power in spectra.items()},
        edges=INTENSITY_EDGES,
        histograms={name: total / total.sum(axis=1, keepdims=True) for name, total in totals.items()},
        embedding={name: (part - mean) @ axes[:2].T for name, part in points.items()},
        explained=(float(shares[0]), float(shares[1])),
    )


def _check(sets: dict[str, NDArray[np.float32]]) -> None:
    for name, images in sets.items():
        if len(images) < FEWEST:
            raise UserError(f"there are {len(images)} {name} slices, and distances need at least {FEWEST}: give more")
        if images.shape[1:] != sets["training"].shape[1:]:
            raise UserError(
                f"{name} slices have shape {images.shape[1:]}, training slices {sets['training'].shape[1:]}: compare "
                "sets of the same size and channels"
            )
        if not np.isfinite(images).all():
            raise UserError(f"{name} slices hold numbers that are not finite: fix or leave out those images")


def _choice(count: int, wanted: int, random: np.random.Generator) -> NDArray[np.int64]:
    if count <= wanted:
        return np.arange(count, dtype=np.int64)
    return np.sort(random.choice(count, wanted, replace=False))


def _features(space: FeatureSpace, images: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    features = space(images)
    if not np.isfinite(features).all():
        raise UserError(f"{space.name} gives no finite features for {name} slices: choose another space, as `offline`")
    return features


def _notes(sets: dict[str, _Set], given: tuple[int, ...]) -> tuple[str, ...]:
    used = [len(one.images) for one in sets.values()]
    notes = [_set_up(used, sets["training"].units.count, sets["held_out"].units.count)]
    if list(given) != used:
        notes.append(_chosen(given, used))
    for name, one in sets.items():
        flat = float(np.mean(np.ptp(one.images, axis=(1, 2)).max(axis=1) < _FLAT))
        if flat > 0:
            notes.append(_flat(name, flat))
    return tuple(notes)


def _warnings(sets: dict[str, _Set], dimension: int) -> dict[str, str]:
    least = min(len(one.images) for one in sets.values())
    found = {}
    if least < 2 * dimension:
        found["frechet_distance"] = _few_for_dimension(least, dimension)
    if least < FEW_FOR_NEIGHBOURS:
        few = _few_for_neighbours(least, FEW_FOR_NEIGHBOURS)
        found |= dict.fromkeys(("precision", "recall", "density", "coverage"), few)
    return found


def _figure(key: str, *, estimate: Estimate, real_baseline: Estimate | None, space: str, warning: str) -> Figure:
    """Return a figure with its label and definition.

    Args:
        key: A name, with ":CHANNEL" behind it for a figure of one channel, or "sliced_wasserstein_SIDE" for a level.
        estimate: Of the synthetic set.
        real_baseline: Of the training slices.
        space: Feature space; "" for none.
        warning: Why it should be read with care.
    """
    name, _, channel = key.partition(":")
    side = name.removeprefix("sliced_wasserstein_") if name.startswith("sliced_wasserstein_") else ""
    meaning = _MEANINGS["sliced_wasserstein" if side else name]
    label = f"{meaning.label}{', level of ' + side + ' pixels' if side else ''}{f' ({channel})' if channel else ''}"
    return Figure(
        name=f"{name}_{_snake(channel)}" if channel else name,
        label=label,
        estimate=estimate,
        real_baseline=real_baseline,
        better=meaning.better,
        definition=meaning.definition.replace("mean over the levels", "at one level") if side else meaning.definition,
        space=space,
        unit=meaning.unit,
        warning=warning,
    )


def _set_up(used: Sequence[int], training_patients: int, held_out_patients: int) -> str:
    """Return what is compared with what, given the numbers of synthetic, training and held-out slices."""
    return (
        f"{used[0]} synthetic slices are compared with {used[2]} slices of held-out patients "
        f"({held_out_patients} resampled units); the real baseline is what {used[1]} slices of training patients "
        f"({training_patients} units) get in their place. Intervals are 95 %, over patients and over synthetic cases."
    )


def _chosen(given: Sequence[int], used: Sequence[int]) -> str:
    """Return that not all slices were used, given synthetic, training and held-out numbers."""
    counts = ", ".join(
        f"{one} of {all_} {name}"
        for one, all_, name in zip(used, given, ("synthetic", "training", "held-out"), strict=True)
    )
    return f"Figures depend on the number of slices: where sets differ or are large, a random choice is used: {counts}."


def _flat(name: str, share: float) -> str:
    """Return that slices of a set show nothing."""
    return f"{share:.1%} of the {name.replace('_', '-')} slices are constant."


def _few_for_dimension(count: int, dimension: int) -> str:
    """Return why a Fréchet distance of few slices should be read with care."""
    return (
        f"{count} slices are few for {dimension} features: from {2 * dimension} on the distance is steadier; prefer KID"
    )


def _few_for_neighbours(count: int, wanted: int) -> str:
    """Return why figures from nearest neighbours should be read with care."""
    return f"{count} slices are few for nearest neighbours: {wanted} or more are better"


def _snake(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower()).strip("_")
