"""Bad input of every kind, and the one line that the user gets for it: docs/bad-input.md is made from these tests.

The kinds are the rows of bad_input/bad_input_table.py. `python tests/data/test_bad_input.py` writes the document anew.
"""

import contextlib
import importlib.util
import io
import itertools
import json
import re
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from synthmed.cli.main import main

MOST_SECONDS, MOST_KIB = 15, 1 << 20
DOCUMENT = Path(__file__).parents[2] / "docs" / "bad-input.md"


def _load(name: str):
    specification = importlib.util.spec_from_file_location(name, Path(__file__).parent / "bad_input" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


_load("bad_input_samples")
_load("bad_input_crafted")
_table = _load("bad_input_table")
Bad, ROWS, TABLE = _table.Bad, _table.ROWS, _table.TABLE


def run(command: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command line in the current folder.

    Variables of the environment may stand before the command, as in a shell.
    """
    words = shlex.split(command)
    variables = list(itertools.takewhile(lambda word: re.match(r"[A-Z_]+=", word), words))
    changed = mock.patch.dict("os.environ", dict(word.split("=", 1) for word in variables))
    out, error = io.StringIO(), io.StringIO()
    # Nobody waits for a server that is not there.
    waiting = mock.patch("synthmed.data.download.time.sleep")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), waiting, changed:
        try:
            main(words[len(variables) :])
        except SystemExit as left:
            code = left.code
    return int(code or 0), out.getvalue(), error.getvalue()


def lines_of(row: Bad) -> list[str]:
    """Make the bad input in the current folder, run the command and return the lines that the user gets."""
    row.spoil()
    before = _files()
    seconds, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, out, error = run(row.command)
    # The first command that imports Keras takes some of both.
    assert time.process_time() - seconds < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_KIB
    assert "Traceback" not in error
    assert _files() - before == set(), "something is left behind"
    if row.warning:
        assert code == 0, error
        return [f"{one['file']}: {one['what']}; {one['mend']}" for one in json.loads(out)["warnings"]]
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.startswith("synthmed: error: ")]
    assert error.splitlines()[-1:] == lines, error
    return [line.removeprefix("synthmed: error: ") for line in lines]


def _files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def comparable(line: str) -> str:
    """Return a line without the words of libraries, which change from version to version."""
    return re.sub(r"(damaged|valid JSON|fetched|valid YAML) \(.*?\)(?=[:;])", r"\1 (...)", line)


def cell(line: str) -> str:
    """Return a line as code in a cell of a table."""
    return "`` " + line.replace("|", "\\|") + " ``"


def documented() -> dict[tuple[str, str], str]:
    """Return the lines of the document by their heading and by what is wrong."""
    found: dict[tuple[str, str], str] = {}
    title = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ")
        match = re.fullmatch(r"\| (.+?) \| (`` .* ``) \|", line)
        if match:
            found[title, match[1]] = match[2]
    return found


@pytest.mark.parametrize(("title", "row"), ROWS, ids=lambda part: part if isinstance(part, str) else part.what)
def test_bad_input_is_conditional_in_the_line_of_the_document(title, row, tmp_path, monkeypatch):
    """A person with a spoilt file would get a traceback, or a study of nonsense."""
    monkeypatch.chdir(tmp_path)
    (line,) = lines_of(row)
    assert comparable(documented()[title, row.what]) == comparable(cell(line))


def test_the_document_has_no_other_rows():
    """It would promise lines that no program prints."""
    assert set(documented()) == {(title, row.what) for title, row in ROWS}
    assert len(ROWS) >= 30


HEAD = """# Bad input, and what synthmed says
Every line below is what the command prints, before it ends with exit code 2 and without having written anything; the
lines of the last table are warnings of `synthmed inspect`, which go on. `synthmed inspect` shows all that is wrong with
a data set at once, the other commands the first of it. What stands in brackets after "damaged" are the words of the
library that reads the format. Files that were made to do harm are refused within seconds and before they fill memory:
what a file takes is read from its header, and has to fit into what the machine has free. `SYNTHMED_MEMORY=8` allows
each file 8 GiB instead, whatever is free; the lines below are of small limits.

This page is written by `python tests/data/test_bad_input.py` and checked by the test of that name.
"""


def document() -> Iterator[str]:
    """Yield the lines of the document."""
    yield from HEAD.splitlines()
    for title, rows in TABLE.items():
        yield from ("", f"## {title}", "| what is wrong | line |", "|---|---|")
        for row in rows:
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                (line,) = lines_of(row)
            yield f"| {row.what} | {cell(line)} |"


if __name__ == "__main__":
    text = "\n".join(document()) + "\n"
    DOCUMENT.write_text(text, encoding="utf-8")
