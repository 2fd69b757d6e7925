"""Evaluations of a synthetic set: their folder, and the page that shows every number with pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthmed.data.pictures import GAP, class_colours, render, render_outlines, tile
from synthmed.data.store import Store
from synthmed.data.synthetic import SyntheticSet
from synthmed.evaluation.evaluate import EvaluationResult, LabelledSlices, evaluate
from synthmed.evaluation.fidelity import FidelityPlots
from synthmed.evaluation.networks import feature_space
from synthmed.evaluation.result import OFF, About, Evaluation, EvaluationSummary, Figure, Section
from synthmed.evaluation.selection import write_selection
from synthmed.files import atomic_folder, write_json
from synthmed.generation.audited import hand_to_run
from synthmed.progress import Say, unheard
from synthmed.reporting.figures import curves_figure, embedding_figure, position_figure
from synthmed.reporting.page import figure_uri, picture_uri, write_page

if TYPE_CHECKING:
    from synthmed.evaluation.adherence import Segmenter

MOST_PICTURED, COLUMNS = 16, 4
MOST_PIXELS = 400_000
"""Of one grid before it is enlarged: pictures are most of a report's size."""
LONGEST_SIDE, SHORTEST_SIDE = 256, 96
MOST_CLASSES = 8
"""Classes whose position is drawn; figures are given for all."""
_RGB = ("red", "green", "blue")
_BETTER = {"lower": "Lower is better.", "higher": "Higher is better.", "real_baseline": "Best is the real baseline."}


def write_evaluation_report(path: Path, result: EvaluationResult) -> None:
    """Write the page of an evaluation.

    Args:
        path: HTML file to write.
        result: What was found.
    """
    evaluation = result.evaluation
    random = np.random.default_rng(evaluation.about.seed)
    drawn, real = (_grid(one, random, evaluation.about) for one in (result.drawn, result.held_out))
    plots = _plots(result)
    write_page(
        path,
        "evaluation.html",
        title=f"Synthetic {'label maps' if evaluation.about.variant == 'masks' else 'slices'} beside real ones: "
        f"{evaluation.about.dataset}",
        evaluation=evaluation,
        about=evaluation.about,
        audit=evaluation.audit,
        drawn=drawn,
        real=real,
        pictured=_count_pictured(result.drawn),
        legend=_legend(evaluation.about.classes),
        sections=[
            _section(section, plots.get(section.name, []), verdict=evaluation.audit.sentence)
            for section in evaluation.sections
        ],
        verdict=evaluation.audit.sentence.split("; "),
        facts=_facts(evaluation.about),
        glossary=_glossary(evaluation),
    )


def _section(section: Section, plots: list[dict[str, str]], *, verdict: str) -> dict[str, Any]:
    rows = [
        {
            "key": f"{section.name}.{figure.name}",
            "figure": figure,
            "standing": figure.standing,
            "off": figure.standing in OFF,
            "better": _BETTER[figure.better],
        }
        for figure in section.figures
    ]
    return {
        "title": section.title,
        "rows": rows,
        "notes": [note for note in section.notes if note != verdict and note not in verdict.split("; ")],
        "plots": plots,
    }


def _plots(result: EvaluationResult) -> dict[str, list[dict[str, str]]]:
    """Return the plots that belong under each section, by its name."""
    names = result.evaluation.about.classes[1:]
    plots = {} if result.fidelity is None else _fidelity_plots(result.fidelity)
    if names:
        first = {kind: maps[:MOST_CLASSES] for kind, maps in result.maps.items()}
        more = f" The first {MOST_CLASSES} classes." if len(names) > MOST_CLASSES else ""
        plots["masks_place"] = [
            {
                "uri": figure_uri(position_figure(first, names[:MOST_CLASSES])),
                "alt": "Maps of where each class lies in held-out real and in synthetic slices, and their difference",
                "caption": "Share of the slices showing a class in which a pixel belongs to it; at the right, where "
                f"synthetic slices show it more (orange) or less (purple) often than real ones.{more}",
            }
        ]
    if result.closest is not None:
        plots["memorisation"] = [
            {
                "uri": picture_uri(_pairs(*result.closest, result.evaluation.about)),
                "alt": "Pairs of a synthetic slice and the training slice closest to it",
                "caption": "The closest pairs: a synthetic slice at the left, its nearest training slice (real) at the "
                "right. This picture shows training patients: treat it as their data.",
            }
        ]
    return plots


def _fidelity_plots(found: FidelityPlots) -> dict[str, list[dict[str, str]]]:
    shares = [f"{share:.0%}" for share in found.explained]
    embedding = {
        "uri": figure_uri(embedding_figure(found.embedding)),
        "alt": "Points of synthetic, training and held-out slices on two axes",
        "caption": "Each point is a slice, on the first two principal components of the training slices' features "
        f"({shares[0]} and {shares[1]} of their variance). Places that only real slices take are not covered; places "
        "that only synthetic slices take are implausible.",
    }
    spectra = {
        channel: {kind: values[:, number] for kind, values in found.spectra.items()}
        for number, channel in enumerate(found.channels)
    }
    middles = (found.edges[1:] + found.edges[:-1]) / 2
    counts = {
        channel: {kind: values[number] for kind, values in found.histograms.items()}
        for number, channel in enumerate(found.channels)
    }
    return {
        "diversity": [embedding],
        "appearance": [
            {
                "uri": figure_uri(
                    curves_figure(found.frequencies, spectra, horizontal="cycles a pixel", vertical="power in dB")
                ),
                "alt": "Mean power at each spatial frequency of synthetic, training and held-out slices",
                "caption": "Power spectrum: a curve that falls below the real ones at the right is blur, one above "
                "them noise or a grid.",
            },
            {
                "uri": figure_uri(
                    curves_figure(middles, counts, horizontal="intensity", vertical="share of pixels", log=True)
                ),
                "alt": "Share of pixels at each intensity in synthetic, training and held-out slices",
                "caption": "Intensities, prepared ones in -1 to 1.",
            },
        ],
    }


def _pairs(drawn: LabelledSlices, real: LabelledSlices, about: About) -> NDArray[np.uint8]:
    """Return a picture of samples, each left of its nearest training slice."""
    count = min(len(drawn), max(2, _room(drawn) // 2))
    left, right = (_pictures(one.take(np.arange(count)), about) for one in (drawn, real))
    pairs = np.concatenate([left, np.full((*left.shape[:2], GAP, 3), 160, np.uint8), right], axis=2)
    return tile(pairs, columns=max(1, COLUMNS // 2 // _panels(about)))


def _count_pictured(slices: LabelledSlices) -> int:
    return int(np.clip(_room(slices), min(2, len(slices)), min(MOST_PICTURED, len(slices))))


def _room(slices: LabelledSlices) -> int:
    """Return how many slices fit into a picture."""
    _, height, width = slices.labels.shape
    channels = 1 if slices.images is None else slices.images.shape[-1]
    return MOST_PIXELS // (height * width * channels // _step(slices) ** 2)


def _step(slices: LabelledSlices) -> int:
    return -(-max(slices.labels.shape[1:]) // LONGEST_SIDE)


def _grid(slices: LabelledSlices, random: np.random.Generator, about: About) -> str:
    chosen = slices.take(np.sort(random.choice(len(slices), _count_pictured(slices), replace=False)))
    return picture_uri(tile(_pictures(chosen, about), columns=max(1, COLUMNS // _panels(about))))


def _pictures(chosen: LabelledSlices, about: About) -> NDArray[np.uint8]:
    """Return `(n, height, width, 3)` pictures of slices with the outlines of their labels, large enough to be seen."""
    step = _step(chosen)
    labels = chosen.labels[:, ::step, ::step]
    enlarge = max(1, -(-SHORTEST_SIDE // min(labels.shape[1:])))
    if chosen.images is None:
        return render(None, labels.repeat(enlarge, axis=1).repeat(enlarge, axis=2))
    return render_outlines(chosen.images[:, ::step, ::step], labels, enlarge=enlarge, colour=about.channels == _RGB)


def _panels(about: About) -> int:
    """Return how many pictures stand side by side for a slice."""
    return 1 if about.channels == _RGB else max(1, len(about.channels))


def _legend(classes: tuple[str, ...]) -> list[tuple[str, str]]:
    colours = class_colours().round().astype(int)
    return [(name, f"rgb({', '.join(map(str, colours[index]))})") for index, name in enumerate(classes) if index]


def _facts(about: About) -> list[tuple[str, str]]:
    facts = [
        ("real data", f"{about.dataset} (licence: {about.licence or 'not known'})"),
        ("store", about.store_hash),
        ("generator", ", ".join(about.models) or "not known"),
        ("truncation (psi)", ", ".join(f"{psi:g}" for psi in about.psi) or "not known"),
        ("slices", f"{about.size[0]} x {about.size[1]}, classes {', '.join(about.classes)}"),
        ("channels", ", ".join(about.channels) or "none: label maps alone"),
    ]
    for name, count, units in (
        ("synthetic", about.synthetic, "cases"),
        ("training (real)", about.training, "patients"),
        ("held-out (real)", about.held_out, "patients"),
    ):
        facts.append((name, f"{count.slices:,} slices of {count.units:,} {units}"))
    if about.space:
        facts.append(("feature space", f"{about.space} ({about.space_identity})"))
    if about.segmenter:
        facts.append(("segmenter", about.segmenter))
    return [*facts, ("seed", str(about.seed)), ("synthmed", about.version)]


def _glossary(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return each definition once, with the figures that have it."""
    found: dict[str, list[Figure]] = {}
    for _, figure in evaluation.figures():
        found.setdefault(figure.definition, []).append(figure)
    return [(", ".join(one.label for one in figures), definition) for definition, figures in found.items()]


def evaluate_set(
    store: Store | Path | str,
    synthetic: SyntheticSet | Path | str,
    out: Path | str,
    *,
    features: str = "offline",
    download: bool = False,
    segmenter: Path | str | None = None,
    select: int | None = None,
    seed: int = 0,
    say: Say | None = None,
) -> Evaluation:
    """Compare a synthetic set with a store's real slices and write `report.html`, `metrics.json` and `audit.json`.

    Args:
        store: Real slices.
        synthetic: A set that `generate` wrote.
        out: Folder to make; it appears whole or not at all.
        features: Feature space: offline, inception, inception:FILE, keras:FILE or unet:RUN.
        download: Whether the weights of inception may be fetched.
        segmenter: Run of a U-Net on real slices alone: do images follow their label maps?
        select: Write so many of the best samples to `out/selected`.
        seed: Of resampling.
        say: Called with what is being done.

    Returns:
        All figures, each beside its real baseline.

    Raises:
        UserError: If the set does not fit the store, a network saw other patients, or `out` exists.

    Example:
        >>> found = sm.evaluate("store", "drawn", "report")
        >>> found.audit.samples
        8
    """
    store = store if isinstance(store, Store) else Store.open(store)
    drawn = synthetic if isinstance(synthetic, SyntheticSet) else SyntheticSet.open(synthetic)
    with atomic_folder(out) as folder:
        space = feature_space(features, download=download, load_unet=lambda path: _unet(path, store))
        find, find_hash = (None, "") if segmenter is None else _load_segmenter(Path(segmenter), store)
        result = evaluate(
            store,
            drawn,
            space=space,
            segmenter=find,
            segmenter_hash=find_hash,
            select=select,
            seed=seed,
            say=say or unheard,
        )
        write_json(folder / "metrics.json", result.evaluation.model_dump(mode="json"))
        result.audit.write(folder / "audit.json")
        if result.selection is not None:
            write_selection(drawn, result.selection, folder / "selected")
        write_evaluation_report(folder / "report.html", result)
    hand_to_run(result.audit, drawn, store, summary=EvaluationSummary.of(result.evaluation))
    return result.evaluation


def _unet(path: Path, store: Store) -> Any:
    """Return the U-Net of a run that saw real slices of training patients alone."""
    from synthmed.backend import need_tensorflow

    need_tensorflow("--features unet:RUN")
    from synthmed.segmentation.filter import check_segmenter
    from synthmed.segmentation.run import SegmentationRun

    run = SegmentationRun.open(path)
    check_segmenter(run, store, set(store.training_hashes), flag="--features unet:RUN")
    return run.load("last")


def _load_segmenter(path: Path, store: Store) -> "tuple[Segmenter, str]":
    """Return what finds classes in slices, and the hash of its weights."""
    import numpy as np

    from synthmed.backend import need_tensorflow

    need_tensorflow("--segmenter")
    from synthmed.files import sha256_file
    from synthmed.segmentation.filter import check_segmenter
    from synthmed.segmentation.predict import SlicePredictor
    from synthmed.segmentation.run import SegmentationRun

    run = SegmentationRun.open(path)
    check_segmenter(run, store, set(store.training_hashes), flag="--segmenter")
    # Not the weights of the best validation: validation patients are the reference here.
    predictor = SlicePredictor(run.load("last"))

    def find(images):
        blocks = [
            predictor(images[first : first + 256]).argmax(-1).astype("uint8") for first in range(0, len(images), 256)
        ]
        return np.concatenate(blocks)

    return find, sha256_file(run.weights("last"))
