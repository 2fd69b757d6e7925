"""The frame around every command: names, help, errors and exit codes."""

import errno
import os
import re
import subprocess
import sys
from importlib import import_module

import click
import pytest

from synthmed.cli import main as main_module
from synthmed.cli.main import COMMANDS, app, main
from synthmed.errors import UserError


@pytest.fixture
def failing_command(monkeypatch):
    """Return a function that makes `synthmed doctor` raise the given exception."""

    def install(error: BaseException) -> None:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(main_module.LazyGroup, "get_command", lambda *_: command)

    return install


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def test_start_up_imports_nothing_heavy():
    """Somebody who types `synthmed --help` would wait seconds if a heavy library were imported at start."""
    heavy = {"tensorflow", "keras", "numpy", "scipy", "nibabel", "pydantic", "rich", "matplotlib"}
    code = "import sys, synthmed.cli.main, synthmed.cli.common; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "synthmed" in loaded
    assert heavy.isdisjoint(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_exists_and_has_help_with_an_example(name, capsys):
    """A command in the list that cannot be imported, or whose help shows no example, leaves its user helpless."""
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    after_usage = out.split("\n\n", 1)[1]
    assert re.search(rf"synthmed {name}\s", after_usage)


def test_help_lists_every_command(capsys):
    """A command that is missing from the list is never found."""
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name, (_, text) in COMMANDS.items():
        assert name in out and text in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_listed_name_is_the_name_of_the_command(name):
    """A usage line with another name than the one typed would send people to a command that is not there."""
    module = import_module(f"synthmed.cli.{COMMANDS[name][0]}")
    assert isinstance(module.command, click.Command)
    assert app.get_command(click.Context(app), name).name == name


def test_unknown_command_suggests_the_nearest(capsys):
    """A slip of the finger should cost one line of reading."""
    code, out, err = run(capsys, "trian")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "'trian'" in err and "Did you mean 'train'?" in err


def test_command_unlike_any_other_gets_no_suggestion(capsys):
    """A far-fetched suggestion misleads."""
    code, _, err = run(capsys, "qqqqqq")
    assert code == 2
    assert "Did you mean" not in err


def test_unknown_option_is_one_line(capsys):
    """A wrong option is the commonest mistake; its message must not hide in a page of usage."""
    code, _, err = run(capsys, "--nonsense")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "--nonsense" in err


def test_version(capsys):
    """Bug reports without a version cost a round of questions."""
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.split()[-1].count(".") == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("labels.nii.gz has another shape: resample it"), "labels.nii.gz has another shape: resample it"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/x.npz"), "the disk is full at out/x.npz"),
        (RuntimeError("RESOURCE: a.tmp; No space left on device"), "the disk is full"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/root/x"), "no permission at /root/x"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "gone"), "No such file or directory at gone"),
        (MemoryError(), "not enough memory"),
        (ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn"), "uvicorn is missing"),
        (ZeroDivisionError("division by zero\nsecond line"), "ZeroDivisionError: division by zero; this is a fault"),
        (click.BadParameter("not a number"), "not a number"),
    ],
)
def test_any_failure_is_one_line_and_exit_code_2(error, words, failing_command, capsys):
    """Scripts read the code and people the line; a traceback serves neither."""
    failing_command(error)
    code, out, err = run(capsys, "doctor")
    assert (code, out) == (2, "")
    assert err.startswith("synthmed: error: ") and words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("--debug", "doctor"), ("doctor", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(arguments, failing_command, capsys):
    """Without the traceback nobody can find the cause of a failure that only happens elsewhere."""
    failing_command(UserError("wrong"))
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "Traceback" in err and err.rstrip().endswith("synthmed: error: wrong")


def test_debug_after_two_dashes_belongs_to_the_command():
    """A file named --debug, given after `--`, must reach the command."""
    debug, arguments = main_module._debug_first(["a", "--", "--debug"])
    assert not debug and arguments == ["a", "--", "--debug"]


def test_interrupt_ends_with_130_and_no_traceback(failing_command, capsys):
    """Ctrl-C is no failure to be reported at length; shells know it by 130."""
    failing_command(KeyboardInterrupt())
    code, _, err = run(capsys, "doctor")
    assert (code, err.strip()) == (130, "synthmed: error: interrupted")


def test_closed_pipe_is_no_error():
    """`synthmed --help | head -1` should print one line, not a complaint."""
    line = f"{sys.executable} -m synthmed.cli.main --help | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage:")
    assert done.stderr == ""


def test_terminated_work_cleans_up(tmp_path):
    """A batch system stops jobs with SIGTERM; what was half-written must not stay in the output folder."""
    code = f"""
import signal, time
from synthmed.cli import main as m
from synthmed.files import atomic_folder
import click
@click.command()
def command():
    with atomic_folder({str(tmp_path / "out")!r}) as folder:
        (folder / "half").write_text("x")
        print("ready", flush=True)
        time.sleep(60)
m.LazyGroup.get_command = lambda *_: command
m.main(["doctor"])
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(timeout=20) == 143
    assert list(tmp_path.iterdir()) == []
