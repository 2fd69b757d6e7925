"""Names that others chose, made safe to be seen: on a terminal, in a line of a log, on a page."""

import json
import re

# Control characters (of which a terminal obeys some), half characters, line ends of Unicode, marks that turn the
# direction of what follows, and characters that cannot be seen. Joiners stay: Persian and Hindi are written with them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)


def printable(text: str) -> str:
    r"""Return a text in which characters that act instead of being seen are written as JSON escapes them: \u202e.

    Line ends (\n) and tabs stay as they are.
    """
    return _UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""Return a text as `printable` does, line ends and tabs escaped, too: a name cannot add a line of its own."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
