"""Tests of synthmed.data.plan and synthmed.data.plan."""

import numpy as np
import pytest
from pydantic import ValidationError

from synthmed.data.inspect import CaseFingerprint, Fingerprint
from synthmed.data.intensities import hounsfield_counts
from synthmed.data.plan import PlanOptions, check_training, explain_plan, parse_rules
from synthmed.data.schema import Geometry, Plan, Scaling
from synthmed.errors import LeakError, UserError


def _case(name: str, **changes) -> CaseFingerprint:
    spacing = changes.pop("spacing", 1.0)
    shape = changes.pop("shape", (40, 40, 20))
    geometry = Geometry(
        shape=shape,
        affine=((spacing, 0, 0, 0), (0, spacing, 0, 0), (0, 0, spacing, 0), (0, 0, 0, 1)),
        zooms=(spacing,) * 3,
        dtype=changes.pop("dtype", "int16"),
    )
    fields = {"minimum": (0.0,), "maximum": (100.0,), "hash": name, "voxels": (900, 100), "hounsfield": ({},)}
    fields |= {"content": tuple((0, extent) for extent in shape), "foreground_slices": (5, 5, 5), "orientation": "RAS"}
    return CaseFingerprint(case=name, patient=name, geometry=geometry, **(fields | changes))


def _set(cases: list[CaseFingerprint], *modalities: str) -> Fingerprint:
    return Fingerprint(
        dataset="set",
        layout="",
        licence="",
        channels=tuple(f"c{number}" for number in range(len(modalities))),
        classes=("background", "organ"),
        label_values=(0, 1),
        patients=len(cases),
        cases=tuple(cases),
        problems=(),
        modalities=modalities,
    )


SPLIT = {"a": "train", "b": "train", "c": "val", "d": "test"}


def make_plan(found: Fingerprint, *, split: dict, options: PlanOptions | None = None) -> Plan:
    """Return the plan without its reasons."""
    return explain_plan(found, split=split, options=options).plan


@pytest.mark.parametrize("modality", ["CT", "MRI", "picture", "other"])
def test_nothing_is_fitted_to_held_out_cases(modality):
    """Scores on the test set would be too good, as the preparation had looked at it."""
    training = [
        _case("a", hounsfield=({40: 900, 300: 100},), maximum=(200.0,), dtype="uint16"),
        _case("b", hounsfield=({-300: 100, 50: 900},), maximum=(3000.0,), dtype="uint16", content=((0, 20),) * 3),
    ]
    others = [_case("c"), _case("d")]
    empty = ((19, 20),) * 3
    different = [
        _case("c", hounsfield=({2000: 10**9},), maximum=(60000.0,), spacing=0.5, dtype="uint16", content=empty),
        _case("d", hounsfield=({-900: 10**9},), minimum=(-1.0,), spacing=0.7, dtype="float32", content=empty),
    ]
    first = explain_plan(_set(training + others, modality), split=SPLIT)
    second = explain_plan(_set(training + different, modality), split=SPLIT)
    assert first == second
    changed = explain_plan(_set(training + different, modality), split=dict.fromkeys("abcd", "train"))
    assert changed.plan != first.plan


def test_a_fit_to_others_than_training_cases_stops():
    """A later change could let held-out patients in without anybody noticing."""
    check_training([_case("a")], SPLIT)
    with pytest.raises(LeakError, match="c: not for training"):
        check_training([_case("a"), _case("c")], SPLIT)


def test_the_size_holds_the_largest_case_of_all():
    """A held-out case larger than the training cases would be cut, and its scores with it."""
    cases = [_case("a"), _case("b"), _case("c", shape=(90, 70, 20)), _case("d")]
    assert make_plan(_set(cases, "MRI"), split=SPLIT).size == (80, 96)


@pytest.mark.parametrize("seed", range(5))
def test_ct_window_holds_the_percentiles_of_the_labelled_voxels(seed):
    """Bone or lung, whichever is labelled, would be clipped to one grey value."""
    rng = np.random.default_rng(seed)
    volumes = [rng.normal(rng.uniform(-700, 700), rng.uniform(20, 400), (12, 12, 12)) for _ in range(2)]
    labelled = [rng.random((12, 12, 12)) < 0.3 for _ in range(2)]
    cases = [
        _case(name, hounsfield=(hounsfield_counts(volume, mask),))
        for name, volume, mask in zip("ab", volumes, labelled, strict=True)
    ]
    scaling = make_plan(_set(cases, "CT"), split=SPLIT).intensities[0]
    pooled = np.concatenate([volume[mask] for volume, mask in zip(volumes, labelled, strict=True)])
    low, high = np.percentile(pooled, (0.5, 99.5), method="inverted_cdf")
    assert scaling.method == "window"
    assert scaling.low == max(min(-160, 10 * np.floor(low / 10)), -1024)
    assert scaling.high == min(max(240, 10 * (np.floor(high / 10) + 1)), 3071)


def test_ct_without_labels_is_fitted_to_the_body():
    """Air around the patient would widen the window until organs look alike."""
    volume = np.full((10, 10, 10), -1000.0)
    volume[3:7, 3:7, 3:7] = 60.0
    counts = hounsfield_counts(volume, None)
    assert counts == {60: 64}
    case = _case("a", hounsfield=(counts,))
    assert make_plan(_set([case], "CT"), split=SPLIT).intensities == (Scaling(method="window", low=-160, high=240),)


@pytest.mark.parametrize(
    ("dtype", "maximum", "window"),
    [("uint8", 180, (0, 255)), ("uint8", 1, (0, 255)), ("uint16", 4095, (0, 4095)), ("uint16", 4096, (0, 8191))]
    + [("uint16", 65535, (0, 65535)), ("uint16", 90, (0, 255)), ("float32", 0.9, (0, 1))],
)
def test_pictures_keep_their_full_range(dtype, maximum, window):
    """Colours of photographs would change from image to image, or 12-bit pictures be nearly black."""
    case = _case("a", dtype=dtype, maximum=(float(maximum),))
    scaling = make_plan(_set([case], "picture"), split=SPLIT).intensities[0]
    assert (scaling.method, scaling.low, scaling.high) == ("window", *window)


def test_rules_for_single_channels_go_before_the_one_for_all():
    """PET beside CT, each with a scale of its own, could not be prepared."""
    rules = parse_rules(("zscore", "CT=auto", "a=b=window:-1e2,3.5"), ("CT", "a=b", "T1"))
    assert rules == ["auto", "window:-1e2,3.5", "zscore"]
    found = _set([_case("a")], "MRI")
    options = PlanOptions(normalise=("window:-100,3.5",))
    assert make_plan(found, split=SPLIT, options=options).intensities[0] == Scaling(method="window", low=-100, high=3.5)
    zscore = make_plan(found, split=SPLIT, options=PlanOptions(normalise=("c0=zscore",))).intensities[0]
    assert zscore.method == "zscore"


@pytest.mark.parametrize(
    "text", ["zscores", "window", "window:1", "window:2,1", "window:a,b", "window:0,inf", "T9=zscore", "T1=", "="]
)
def test_rules_without_sense_are_told(text):
    """A typing mistake would be found in the images, if at all."""
    with pytest.raises(UserError, match="--normalise") as told:
        parse_rules((text,), ("T1",))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("kept", "crops"), [(35, False), (34, True)])
def test_margins_are_cut_off_where_it_is_worth_it(kept, crops):
    """A generator would spend most of its pixels on nothing."""
    cases = [_case(name, content=((0, kept), (5, 40), (0, 20))) for name in "ab"]
    plans = {
        wish: make_plan(_set(cases, "MRI"), split=SPLIT, options=PlanOptions(crop=wish))
        for wish in ("auto", "yes", "no")
    }
    assert plans["auto"].crop is crops
    assert plans["yes"].crop and not plans["no"].crop
    assert plans["yes"].size == (48, 48) and plans["no"].size == (48, 48)


@pytest.mark.parametrize("modality", ["CT", "picture"])
def test_bias_correction_is_refused_where_it_would_do_harm(modality):
    """HU would no longer be HU."""
    with pytest.raises(UserError, match="--bias-correction is for MRI alone, and channel c1"):
        make_plan(_set([_case("a")], "MRI", modality), split=SPLIT, options=PlanOptions(bias_correction=True))


def test_a_split_without_training_cases_is_conditional():
    """The user would get a plan fitted to nothing."""
    with pytest.raises(UserError, match="no training case"):
        make_plan(_set([_case("a")], "MRI"), split={"a": "test"})


def test_more_classes_than_a_label_map_can_hold_are_refused():
    """Class 256 would come back as background and 255 as not known, without a word."""
    case = _case("a", voxels=(1000,) * 256)
    values = tuple(range(256))
    many = _set([case], "MRI").model_copy(update={"classes": tuple(map(str, values)), "label_values": values})
    with pytest.raises(UserError, match="has 256 classes, there can be 255 with the background"):
        make_plan(many, split=SPLIT)
    fewer = make_plan(many.model_copy(update={"label_values": values[:255]}), split=SPLIT)
    with pytest.raises(ValidationError, match="256 classes, there can be 255"):
        Plan(**(fewer.model_dump() | {"label_values": values}))


def test_a_choice_by_class_needs_classes():
    """A store would be written of which nothing can be trained."""
    found = _set([_case("a", voxels=(1000, 0))], "MRI")
    with pytest.raises(UserError, match="--slices balanced"):
        make_plan(found, split=SPLIT, options=PlanOptions(slices="balanced"))
