"""The documents say what the program does."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from synthmed.cli.main import COMMANDS, app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "docs" / "reference.md"

pytestmark = pytest.mark.skipif(not REFERENCE.is_file(), reason="needs a checkout")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command and subcommand with its full name."""
    for name in COMMANDS:
        command = app.get_command(click.Context(app), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", child) for inner, child in command.commands.items())
        else:
            yield name, command


def options(command: click.Command) -> set[str]:
    """Return the long options of a command."""
    return {text for param in command.params for text in param.opts if text.startswith("--")}


def test_the_reference_lists_every_command_and_option_and_no_other():
    """An option that is not in the reference is not found; one that is no longer there misleads."""
    sections = re.split(r"^### synthmed ", REFERENCE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    documented = {}
    for section in sections:
        heading, _, text = re.split(r"^## ", section, flags=re.MULTILINE)[0].partition("\n")
        name = " ".join(word for word in heading.split() if word.islower())
        documented[name] = set(re.findall(r"^\| `(--[a-z0-9-]+)", text, flags=re.MULTILINE))
    assert documented == {name: options(command) for name, command in commands()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_command_lines_in_documents_are_accepted(document):
    """A line that is copied from the documents and refused is the end of somebody's patience."""
    known = dict(commands())
    blocks = re.findall(r"^```\w*\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    for part in (part for line in lines for part in re.split(r"&&|\|(?!\|)|&$", line)):
        words = shlex.split(part, comments=True)
        if not words or Path(words[0]).name != "synthmed":
            continue
        name = " ".join(words[1:3]) if " ".join(words[1:3]) in known else words[1]
        assert name in known, part
        given = words[1 + len(name.split()) :]
        with click.Context(known[name], info_name=name) as context:
            known[name].parse_args(context, [word for word in given if word != "--help"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document):
    """A picture or page that is not there leaves the reader with a broken frame."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
