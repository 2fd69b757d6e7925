"""Fidelity and diversity of synthetic slices: every figure, its interval, and what real slices get in its place."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthmed.errors import UserError
from synthmed.evaluation import definitions
from synthmed.evaluation.features import FeatureSpace
from synthmed.evaluation.figures import Estimate, Figure, Section
from synthmed.evaluation.frechet import frechet_estimate
from synthmed.evaluation.histograms import EDGES, histogram_figures, intensity_counts
from synthmed.evaluation.kid import kernel_distance
from synthmed.evaluation.manifold import manifold_figures
from synthmed.evaluation.ms_ssim import pair_similarity
from synthmed.evaluation.resampling import Units
from synthmed.evaluation.spectrum import band_frequencies, decibels, radial_power, spectrum_figures
from synthmed.evaluation.wasserstein import PatchDistance

FEWEST = 10
MOST_SLICES = 10_000
"""Slices of a set that are looked at; of more, a random choice."""
FEW_FOR_NEIGHBOURS = 100
EMBEDDED = 500
"""Points of each set in the embedding."""
_FLAT = 1e-6
_SETS = "synthetic", "training", "held_out"

Values = dict[str, Estimate | None]


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
    """Compare synthetic slices with held-out real ones, and training slices with the same for the floor.

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
    random = np.random.default_rng(seed)
    same = min(len(drawn), len(training), MOST_SLICES)
    chosen = [
        _choice(len(images), count, random)
        for images, count in ((drawn, same), (training, same), (held_out, MOST_SLICES))
    ]
    units = (
        Units.of_cases(same, seed=seed),
        Units.of_patients(np.asarray(training_patients)[chosen[1]]),
        Units.of_patients(np.asarray(held_out_patients)[chosen[2]]),
    )
    sets = {
        name: _Set(part := images[indices], own, _features(space, part, name))
        for name, images, indices, own in zip(_SETS, (drawn, training, held_out), chosen, units, strict=True)
    }
    measured = {name: _measure_features(sets[name], sets["held_out"], seed) for name in _SETS[:2]}
    appearance, spectra, histograms = _appearance(sets, names, seed)
    similar = {name: {"ms_ssim": pair_similarity(sets[name].images, sets[name].units, seed=seed)} for name in _SETS[:2]}
    notes = _notes(sets, (len(drawn), len(training), len(held_out)))
    warnings = _warnings(sets, space.dimension)

    def figures(values: dict[str, Values], keys: Iterable[str], in_space: bool) -> tuple[Figure, ...]:
        return tuple(
            definitions.figure(
                key,
                estimate=estimate,
                floor=values["training"][key],
                space=space.name if in_space else "",
                warning=warnings.get(key, ""),
            )
            for key in keys
            if (estimate := values["synthetic"][key]) is not None
        )

    alone = () if similar["training"]["ms_ssim"] else (definitions.ONE_TRAINING_PATIENT,)
    sections = [
        Section(
            name="fidelity",
            title="Fidelity: do samples look like real slices?",
            figures=figures(measured, ("frechet_distance", "kid", "precision", "density"), True),
            notes=notes,
        ),
        Section(
            name="diversity",
            title="Diversity: do samples show all that real slices show?",
            figures=figures(measured, ("recall", "coverage"), True) + figures(similar, ("ms_ssim",), False),
            notes=alone,
        ),
        Section(
            name="appearance",
            title="Appearance: texture, sharpness and intensities",
            figures=figures(appearance, appearance["synthetic"], False),
        ),
    ]
    return sections, _plots(sets, names, spectra, histograms)


def _measure_features(first: _Set, real: _Set, seed: int) -> Values:
    drawn, other, own, units = first.features, real.features, first.units, real.units
    manifold = manifold_figures(drawn, other, drawn_units=own, real_units=units, seed=seed)
    return {
        "frechet_distance": frechet_estimate(drawn, other, drawn_units=own, real_units=units, seed=seed),
        "kid": kernel_distance(drawn, other, drawn_units=own, real_units=units, seed=seed),
        "precision": manifold.precision,
        "recall": manifold.recall,
        "density": manifold.density,
        "coverage": manifold.coverage,
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
    shown = {name: one.features[:: -(-len(one.features) // EMBEDDED)] for name, one in sets.items()}
    totals = {name: count.sum(axis=0) for name, count in counts.items()}
    return FidelityPlots(
        channels=channels,
        frequencies=band_frequencies(sets["training"].images.shape[1:3]),
        spectra={name: decibels(power.mean(axis=0)) for name, power in spectra.items()},
        edges=EDGES,
        histograms={name: total / total.sum(axis=1, keepdims=True) for name, total in totals.items()},
        embedding={name: (points - mean) @ axes[:2].T for name, points in shown.items()},
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
            raise UserError(f"{name} slices hold numbers that are not finite: mend or leave out those images")


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
    notes = [definitions.set_up(used, sets["training"].units.count, sets["held_out"].units.count)]
    if list(given) != used:
        notes.append(definitions.chosen(given, used))
    for name, one in sets.items():
        flat = float(np.mean(np.ptp(one.images, axis=(1, 2)).max(axis=1) < _FLAT))
        if flat > 0:
            notes.append(definitions.flat(name, flat))
    return tuple(notes)


def _warnings(sets: dict[str, _Set], dimension: int) -> dict[str, str]:
    least = min(len(one.images) for one in sets.values())
    found = {}
    if least < 2 * dimension:
        found["frechet_distance"] = definitions.few_for_dimension(least, dimension)
    if least < FEW_FOR_NEIGHBOURS:
        few = definitions.few_for_neighbours(least, FEW_FOR_NEIGHBOURS)
        found |= dict.fromkeys(("precision", "recall", "density", "coverage"), few)
    return found
