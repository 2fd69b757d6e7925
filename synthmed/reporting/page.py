"""From a template and values to one HTML file that loads nothing from anywhere: pictures and figures lie in it."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthmed import __version__
from synthmed.display import printable
from synthmed.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def short(value: float) -> str:
    """Return a number with three significant digits, as people write it."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def render_page(template: str, **values: Any) -> str:
    """Return the HTML of a template in `templates/`; a value that the template needs and does not get is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("synthmed.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        # Beside what autoescape does: a mark that turns the direction of text would turn the table around it.
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short, "exact": repr}
    return environment.get_template(template).render(version=__version__, **values)


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render a template and write it to `path`, whole or not at all."""
    text = render_page(template, **values)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def picture_uri(picture: NDArray[np.uint8]) -> str:
    """Return a `(height, width, 3)` RGB picture as a lossless WebP data URI, two thirds of a PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="WEBP", lossless=True, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def figure_uri(figure: "Figure") -> str:
    """Return a figure as an SVG data URI: sharp at every width and in print."""
    import matplotlib

    buffer = io.BytesIO()
    # Neither a date nor random names in it: the same figure gives the same bytes. Text stays text: the outlines of
    # its letters would be half of it.
    with matplotlib.rc_context({"svg.hashsalt": "synthmed", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
