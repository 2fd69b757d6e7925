"""Names that others chose, as they are seen."""

import json
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthmed.cli import common, main
from synthmed.display import one_line, printable
from synthmed.reporting.page import render_page

HARM = "\x1b]0;owned\x07\x1b[2J\u202egnp.nac\u2066\x9b31m[red]\n\r\udcff\u200b\U000e0041"
JOINERS = "\u200c\u200d"


@settings(deadline=None)
@given(st.text())
def test_nothing_acts_and_nothing_is_hidden(text):
    """A file name would clear the screen, turn the line around, or pass for another one."""
    shown = printable(text)
    for letter in shown:
        assert letter in "\n\t" + JOINERS or unicodedata.category(letter) not in ("Cc", "Cs")
        assert unicodedata.bidirectional(letter) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    shown.encode()
    assert len(one_line(text).splitlines()) <= 1


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_is_the_same_json(value):
    """Another program would read other names than the data set has."""
    assert json.loads(printable(json.dumps(value, ensure_ascii=False, indent=1))) == value


def test_letters_of_all_scripts_stay():
    """Names in Arabic, Hebrew, Persian or Hindi would become unreadable."""
    text = "Größe, 左心室, بطين, חדר, می\u200cخواهم, क्\u200dष"
    assert one_line(text) == text


def test_no_command_prints_them(capsys):
    """A name in a data set, a plan or an answer of a server would act on the terminal."""
    from rich.table import Table

    table = Table(title=HARM, show_header=True)
    table.add_column(HARM)
    table.add_row(HARM)
    for stderr in (False, True):
        screen = common.console(stderr=stderr)
        screen.print(table)
        screen.print(f"note: {HARM}", soft_wrap=True)
        screen.print(HARM, style="green")
    common.emit_json({HARM: [HARM]})
    common.echo(HARM)
    with common.progress(HARM) as report:
        report(1, 1, HARM)
    main._fail(HARM, ValueError(HARM), debug=False)
    for text in capsys.readouterr():
        assert "\\u001b]0;owned\\u0007" in text and "[red]" in text
        for letter in "\x1b\x07\x9b\r\u202e\u2066\u200b\udcff":
            assert letter not in text


def test_commands_print_through_one_place():
    """A command with a print of its own would bring the escapes back."""
    from pathlib import Path

    folder = Path(common.__file__).parent
    found = [
        path.name for path in folder.glob("*.py") if "click.echo(" in path.read_text() or "Console(" in path.read_text()
    ]
    assert sorted(found) == ["common.py", "main.py"]


def test_pages_write_them_out():
    """A class name would turn around the table of a report, or bring markup into it."""
    from unittest import mock

    import jinja2

    with mock.patch("jinja2.PackageLoader", lambda _: jinja2.DictLoader({"t": "<p>{{ name }}</p><b>{{ html }}</b>"})):
        from markupsafe import Markup

        page = render_page("t", name=f"<script>{HARM}", html=Markup("<i>x</i>"))
    assert (
        page.startswith("<p>&lt;script&gt;\\u001b]0;owned")
        and "\u202e" not in page
        and page.endswith("<b><i>x</i></b>")
    )


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\u202eb", "a\nb"])
def test_a_file_with_such_a_name_is_named_in_one_line(name, tmp_path, capsys, monkeypatch):
    """The error line itself would be where the name acts."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main.main(["inspect", name])
    error = capsys.readouterr().err
    assert left.value.code == 2 and len(error.splitlines()) == 1 and error.rstrip("\n").isprintable()
