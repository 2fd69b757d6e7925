"""Options that several commands of `synthmed segment` have."""

from typing import Any

import click

flips_option = click.option(
    "--flips",
    type=click.Choice(["none", "columns", "rows", "both"]),
    default="none",
    show_default=True,
    help="Average with the prediction of slices mirrored along these; for networks that were trained so (--mirror).",
)
NO_FILTER_MODEL = "none"
filter_with_option = click.option(
    "--filter-with",
    "filter_model",
    metavar="RUN|none",
    help="Filter model of --filter: a U-Net of the same patients, real only.  [default: one is trained]",
)
mirror_option = click.option(
    "--mirror",
    type=click.Choice(["auto", "none", "columns", "rows", "both"]),
    help="Mirror half of the slices along these in training; auto: where a mirrored slice looks like one of another "
    "training patient.  [default: auto]",
)


class Ratio(click.ParamType):
    """A number, or `auto`."""

    name = "ratio"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return "auto" or a float."""
        return value if value == "auto" else click.FLOAT.convert(value, param, ctx)


def filter_model_of(filter_with: str | None) -> str | None:
    """Return the folder that --filter-with names; None for none."""
    return None if filter_with in (None, NO_FILTER_MODEL) else filter_with
