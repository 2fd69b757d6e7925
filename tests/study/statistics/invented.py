"""Folders of studies with invented scores, whose true effects are known."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Effect = Callable[[str, int, str, float], float]


def model(name: str, variant: str, added: float = 0.0, *, augmentation: bool = True) -> dict[str, Any]:
    """Return a model as a study writes it."""
    recipe = {"ratio": None, "pretrain": 0.0}
    parts = {"name": name, "variant": variant, "added_patients": added, "recipe": recipe}
    return {**parts, "augmentation": augmentation}


MODELS = (
    model("real", "real"),
    *(model("base", "base", added) for added in (10.0, 20.0, 40.0)),
    *(model("cond", "cond", added) for added in (10.0, 20.0, 40.0)),
)


def write_study(
    folder: Path,
    effect: Effect,
    *,
    combinations: Sequence[tuple[str, int]] = (("hippocampus", 5), ("hippocampus", 10)),
    models: Sequence[Mapping[str, Any]] = MODELS,
    draws: int = 2,
    seeds: int = 3,
    patients: int = 20,
    noise: float = 0.01,
    training_noise: float = 0.002,
    absent: Sequence[int] = (),
    skip: Callable[[Mapping[str, Any]], str | None] = lambda cell: None,
    same_patients: bool = False,
) -> Path:
    """Write a study and return its folder.

    Args:
        folder: Where.
        effect: From data set, patients, name of the model and what it adds to its true gain in Dice.
        combinations: Data sets and numbers of patients.
        models: What is compared.
        draws: Of the training patients.
        seeds: Of each.
        patients: Test patients.
        noise: Standard deviation of what a training does to a patient's Dice.
        training_noise: Of what a training does to all.
        absent: Numbers of test patients who have nothing of the second class.
        skip: Of a trial, "missing", "failed", "broken", "unplanned" or None.
        same_patients: Whether combinations share their test patients' own Dice, and so differ by the effect alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trials, tasks = {}, {}
    random = np.random.default_rng(7)
    for dataset, count in combinations:
        level = (
            np.random.default_rng(3).normal(0.8, 0.05, (patients, 2))
            if same_patients
            else random.normal(0.8, 0.05, (patients, 2))
        )
        for draw in range(draws):
            for one in models:
                for seed in range(seeds):
                    about = {"dataset": dataset, "patients": count, "draw": draw}
                    cell = {"combination": about, "model": dict(one), "seed": seed}
                    if skip(cell) == "unplanned":
                        continue
                    digest = f"{len(trials):016x}"
                    trials[digest] = cell
                    if one["variant"] not in ("real", "duplicated"):
                        generator = f"g-{dataset}-{count}-{draw}-{one['variant']}"
                        tasks[digest] = [["store", "s"], ["slices", f"slices-{generator}"]]
                        tasks[f"slices-{generator}"] = [["generator", generator]]
                    dice = level + effect(dataset, count, one["name"], one["added_patients"])
                    dice = dice + random.normal(0, noise, (patients, 2)) + random.normal(0, training_noise)
                    _write_trial(folder / "trials" / digest, cell, dice, absent, skip(cell))
    study = {"format": "synthmed-study", "format_version": 1, "synthmed": "0.1.0", "hash": "ab" * 32}
    study |= {"configuration": {"name": "invented"}, "trials": trials, "tasks": tasks}
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return folder


def no_effect(dataset: str, patients: int, name: str, added: float) -> float:
    """Nothing does anything."""
    return 0.0


def paper_effect(dataset: str, patients: int, name: str, added: float) -> float:
    """`base` gains a little up to 20 and harms at 40, with 10 patients; all else does nothing."""
    if name != "base" or patients != 10:
        return 0.0
    return {10.0: 0.008, 20.0: 0.02, 40.0: -0.03}[added]


def _write_trial(
    home: Path, cell: Mapping[str, Any], dice: np.ndarray, absent: Sequence[int], state: str | None
) -> None:
    if state == "missing":
        return
    home.mkdir(parents=True)
    if state == "failed":
        (home / "failed.json").write_text(json.dumps({**cell, "status": "failed", "cause": "not enough memory"}))
        return
    if state == "broken":
        (home / "trial.json").write_text('{"scores": [')
        return
    rows = [
        {
            "case": f"case{patient:02d}",
            "patient": f"patient{patient:02d}",
            "label": label + 1,
            "name": name,
            "dice": None if label == 1 and patient in absent else float(np.clip(dice[patient, label], 0, 1)),
            "hd95": None,
            "predicted": 10,
            "reference": 10,
        }
        for patient in range(len(dice))
        for label, name in enumerate(("anterior", "<posterior>"))
    ]
    hours = {"generator": 0.0 if cell["model"]["variant"] == "real" else 2.0, "training": 0.1, "scoring": 0.05}
    value = {**cell, "hours": hours, "scores": rows, "status": "finished"}
    (home / "trial.json").write_text(json.dumps(value), encoding="utf-8")
