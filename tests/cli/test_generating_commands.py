"""`generate`, `export`, `serve` and `query`: what a user sees, above all when something is wrong."""

import socket

import pytest

from synthmed.cli.main import main


def run(capsys, *arguments: str) -> tuple[int, str]:
    """Return exit code and standard error of a command line."""
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    return exit_info.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("generate --n 0", "--n"),
        ("generate --n -5", "--n"),
        ("generate --n many", "--n"),
        ("generate", "--n"),
        ("generate --n 5 --psi abc", "--psi"),
        ("generate --n 5 --psi 1.5", "--psi"),
        ("generate --n 5 --psi nan", "--psi"),
        ("generate --n 5 --model nowhere", "nowhere"),
        ("generate --n 5 --format dicom", "--format"),
        ("generate --n 5 --unit volume", "--unit"),
        ("generate --n 5 --shard 3/2", "--shard"),
        ("generate --n 5 --masks nowhere", "--masks"),
        ("generate --n 5 --masks deformed", "--masks"),
        ("generate --n 5 --seed -1", "--seed"),
        ("generate --n 5 --out taken", "taken"),
        ("query --n 1 --url nonsense --model m --out q", "nonsense"),
        ("query --n 1 --url http://127.0.0.1:9 --model m --out q", "127.0.0.1:9"),
        ("query --n 0 --out q", "--n"),
        ("query --n 1 --out taken", "taken"),
        ("serve --models nowhere", "nowhere"),
        ("serve --models taken", "taken"),
        ("serve --models a --model-config-file b", "not both"),
        ("serve --model-config-file nowhere", "nowhere"),
        ("serve --rest-port 70000", "--rest-port"),
    ],
)
def test_mistakes_are_told_in_one_line(line, word, capsys, tmp_path, monkeypatch):
    """A mistyped command would end in a traceback, or leave half a set behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    code, err = run(capsys, *line.split())
    assert code == 2
    assert err.count("\n") == 1 and word in err and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("command", ["generate --n 5 --model", "export"])
def test_a_folder_that_is_no_run_is_conditional(command, capsys, tmp_path):
    """A wrong folder would end in a traceback."""
    code, err = run(capsys, *command.split(), str(tmp_path))
    assert code == 2 and err.count("\n") == 1 and str(tmp_path) in err
    assert not any(tmp_path.iterdir())


def test_a_port_in_use_is_conditional(capsys, tmp_path, monkeypatch):
    """A traceback would be all that the user gets."""
    pytest.importorskip("uvicorn")
    (tmp_path / "name" / "1").mkdir(parents=True)
    (tmp_path / "name" / "1" / "saved_model.pb").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, err = run(capsys, "serve", "--models", str(tmp_path), "--rest-port", port)
    assert code == 2 and f"port {port}" in err and err.count("\n") == 1


def test_a_missing_extra_is_conditional(capsys, monkeypatch):
    """An import error would not say what to install."""
    from synthmed import extras

    monkeypatch.setattr(extras, "missing", lambda extra: ["uvicorn"])
    code, err = run(capsys, "serve")
    assert code == 2 and "pip install 'synthmed[serving]'" in err
