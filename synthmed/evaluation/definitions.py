"""What the figures of fidelity and diversity mean, in the words of the report."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from synthmed.evaluation.figures import Estimate, Figure
from synthmed.evaluation.spectrum import HIGHEST

Better = Literal["lower", "higher", "floor"]

ONE_TRAINING_PATIENT = "MS-SSIM has no floor: it needs pairs of different training patients, and there is one"


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
        "et al. 2017). It is too high by an amount that grows with few slices: compare with the floor, which has as "
        "many, and never with figures of other papers.",
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
        "5 (Naeem et al. 2020): like precision, but one odd real slice counts for little. It can be above 1.",
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
        "(Naeem et al. 2020): like recall, but odd samples count for nothing.",
    ),
    "ms_ssim": _Meaning(
        "MS-SSIM among samples",
        "floor",
        "",
        "Mean multi-scale structural similarity of random pairs of samples (Wang et al. 2003); the floor is that of "
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
        "floor",
        "dB",
        f"Mean power from {HIGHEST:.0%} of the Nyquist frequency on, beside held-out slices: below 0 is blur, above 0 "
        "noise or a grid pattern.",
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


def figure(key: str, *, estimate: Estimate, floor: Estimate | None, space: str, warning: str) -> Figure:
    """Return a figure with its words.

    Args:
        key: A name, with ":CHANNEL" behind it for a figure of one channel, or "sliced_wasserstein_SIDE" for a level.
        estimate: Of the synthetic set.
        floor: Of the training slices.
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
        floor=floor,
        better=meaning.better,
        definition=meaning.definition.replace("mean over the levels", "at one level") if side else meaning.definition,
        space=space,
        unit=meaning.unit,
        warning=warning,
    )


def set_up(used: Sequence[int], training_patients: int, held_out_patients: int) -> str:
    """Return what is compared with what, given the numbers of synthetic, training and held-out slices."""
    return (
        f"{used[0]} synthetic slices are compared with {used[2]} slices of held-out patients "
        f"({held_out_patients} resampled units); the floor is what {used[1]} slices of training patients "
        f"({training_patients} units) get in their place. Intervals are 95 %, over patients and over synthetic cases."
    )


def chosen(given: Sequence[int], used: Sequence[int]) -> str:
    """Return that not all slices were used, given synthetic, training and held-out numbers."""
    words = ", ".join(
        f"{one} of {all_} {name}"
        for one, all_, name in zip(used, given, ("synthetic", "training", "held-out"), strict=True)
    )
    return (
        f"Figures depend on the number of slices, so a random choice was taken where sets differ or are large: {words}."
    )


def flat(name: str, share: float) -> str:
    """Return that slices of a set show nothing."""
    return f"{share:.1%} of the {name.replace('_', '-')} slices are constant."


def few_for_dimension(count: int, dimension: int) -> str:
    """Return why a Fréchet distance of few slices should be read with care."""
    return (
        f"{count} slices are few for {dimension} features: from {2 * dimension} on the distance is steadier; prefer KID"
    )


def few_for_neighbours(count: int, wanted: int) -> str:
    """Return why figures from nearest neighbours should be read with care."""
    return f"{count} slices are few for nearest neighbours: {wanted} or more are better"


def _snake(words: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in words.lower()).strip("_")
