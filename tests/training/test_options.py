import re
from pathlib import Path

import pytest

from synthmed.errors import UserError
from synthmed.training.options import ResolvedOptions, TrainOptions, read_options, resolve


def test_later_sources_win(tmp_path):
    """A user would train with other options than written on the command line."""
    config = tmp_path / "options.yaml"
    config.write_text("batch: 4\nr1_gamma: 3\nstyle_mixing: 0.5\n")
    options = read_options(
        {"variant": "base", "batch": 16, "kimg": None}, config=config, assignments=("r1_gamma=2.5", "batch=8")
    )
    assert (options.batch, options.r1_gamma, options.style_mixing) == (16, 2.5, 0.5)


def test_resumed_options_hold_but_for_the_budget():
    """A user would resume with other options, or stop at the old budget."""
    existing_run = resolve(TrainOptions(variant="base", batch=4, kimg=24, seed=7, snapshot_kimg=3), size=(32, 32))
    assert existing_run.distance_kimg == 2.0
    options = read_options({"variant": "base", "kimg": 2.0}, existing_run=existing_run)
    assert (options.batch, options.seed, options.kimg) == (4, 7, 2.0)
    resumed = resolve(options, size=(32, 32))
    assert (resumed.snapshot_kimg, resumed.distance_kimg) == (3.0, 1.0), "what was asked for stays, what follows goes"
    assert read_options({"variant": "base"}, existing_run=existing_run).kimg is None


def test_names_of_before_are_read(tmp_path):
    """A user's configurations and runs of earlier versions would be refused."""
    config = tmp_path / "options.yaml"
    config.write_text("shown: true\n")
    options = read_options({"variant": "base"}, config=config, assignments=("mask_planes=one-hot",))
    assert (options.class_presence, options.mask_channels) == (True, "one-hot")
    stored = resolve(options, size=(32, 32)).model_dump()
    stored |= {"shown": stored.pop("class_presence"), "mask_planes": stored.pop("mask_channels")}
    stored |= {"snapshot_kimg": None, "distance_kimg": None, "kimg": 24.0}
    opened = ResolvedOptions.model_validate(stored)
    assert (opened.class_presence, opened.mask_channels, opened.snapshot_kimg) == (True, "one-hot", 2.0)


@pytest.mark.parametrize("kimg", [None, 0.4, 24.0, 600.0])
def test_resolving_again_changes_nothing_and_leaves_nothing_open(kimg):
    """A user would resume a run with other options than it was started with."""
    options = resolve(TrainOptions(variant="cond", kimg=kimg), size=(64, 48))
    assert resolve(options, size=(64, 48)) == options
    left = {name for name, value in options.model_dump().items() if value is None}
    assert left == {"minutes", "init_from", "unlabelled", "steps_ahead"} | ({"kimg"} if kimg is None else set())
    assert options.with_kimg(48.0).distance_kimg == 4.0
    assert options.model_copy(update={"distance_kimg": 9.0}).with_kimg(48.0).distance_kimg == 9.0


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("lerning_rate=1", "did you mean learning_rate"),
        ("batch=0", "option batch = 0"),
        ("batch=many", "option batch = 'many'"),
        ("batch", "key=value"),
        ("batch=[", "not valid YAML"),
        ("qqq=1", "--dry-run"),
    ],
)
def test_wrong_options_are_named_in_one_line(assignment, words):
    """A user would search for a spelling mistake."""
    with pytest.raises(UserError, match=words) as caught:
        read_options({"variant": "base"}, assignments=(assignment,))
    assert "\n" not in str(caught.value)


def test_configuration_that_is_no_mapping_is_refused(tmp_path):
    """A user would train with defaults although a file was given."""
    (tmp_path / "list.yaml").write_text("- batch\n")
    with pytest.raises(UserError, match="mapping"):
        read_options({"variant": "base"}, config=tmp_path / "list.yaml")
    with pytest.raises(UserError, match=r"missing\.yaml"):
        read_options({"variant": "base"}, config=tmp_path / "missing.yaml")


def test_auto_settings_follow_size_and_batch_and_leave_given_values_alone():
    """A user would lose either the defaults or the own choice."""
    options = resolve(TrainOptions(variant="cond", batch=16, precision="float32"), size=(64, 64))
    assert options.r1_gamma == pytest.approx(0.002 * 64 * 64 / 16)
    assert options.ema_kimg == pytest.approx(16 * 10 / 32)
    assert (options.z_dim, options.w_dim, options.channel_base, options.channel_max) == (128, 128, 2048, 128)
    given = TrainOptions(variant="cond", r1_gamma=0.0, z_dim=7, precision="float32")
    assert resolve(given, size=(64, 64)).r1_gamma == 0.0
    assert resolve(given, size=(64, 64)).z_dim == 7


def test_what_follows_from_another_option():
    """A user of the relativistic loss or of plain training would get regularisers and augmentations of the other."""

    def resolved(**more):
        return resolve(TrainOptions(variant="base", precision="float32", **more), size=(64, 64))

    assert (resolved().r1_every, resolved().path_weight) == (16, 2.0)
    assert (resolved(loss="relativistic").r1_every, resolved(loss="relativistic").path_weight) == (4, 0.0)
    assert resolved(loss="relativistic", path_weight=1.0).path_weight == 1.0
    assert resolved(augment="none").augment_operations == ()
    assert "bands" in resolved(augment="ada").augment_operations
    assert "bands" not in resolved(augment="diff").augment_operations
    assert resolved(augment_operations=("mirror",)).augment_operations == ("mirror",)


def test_an_operation_that_does_not_exist_is_refused():
    """A user would train without the augmentation that was asked for."""
    with pytest.raises(UserError, match="miror is none of mirror"):
        read_options({"variant": "base"}, assignments=("augment_operations=[miror]",))


def test_the_reference_lists_every_option():
    """A user would have to read the code to learn what can be set."""
    text = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    section = text[text.index("### synthmed train") : text.index("### synthmed generate")]
    named = set(re.findall(r"`(?:--)?([a-z0-9_-]+)", section))
    missing = [name for name in TrainOptions.model_fields if not {name, name.replace("_", "-")} & named]
    assert missing == []
