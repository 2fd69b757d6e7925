"""What a user installs is what stands in the repository."""

import ast
import configparser
import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from synthmed import extras

ROOT = Path(__file__).parents[1]

# Where the name that is imported differs from the name that pip knows.
DISTRIBUTIONS = {
    "yaml": "PyYAML",
    "grpc": "grpcio",
    "google": "protobuf",
    "tensorflow_serving": "tensorflow-serving-api",
    "PIL": "Pillow",
    "prometheus_client": "prometheus-client",
    "scikit_posthocs": "scikit-posthocs",
}

pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").is_file(), reason="needs a checkout")


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    """Return setup.cfg, parsed."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def names(lines: str) -> set[str]:
    """Return the distribution names of a block of requirements."""
    return {line.split()[0].split(">")[0].lower() for line in lines.splitlines() if line.strip()}


def test_every_package_folder_is_listed(config):
    """A folder that setup.cfg forgets works in a checkout and is missing in the wheel."""
    found = {
        "synthmed" + "".join(f".{part}" for part in file.parent.relative_to(ROOT / "synthmed").parts)
        for file in (ROOT / "synthmed").rglob("*.py")
    }
    found |= {"synthmed.cli", "synthmed.saved_models"}
    assert set(config["options"]["packages"].split()) == found
    for name in found - {"synthmed.cli", "synthmed.saved_models"}:
        assert (ROOT / name.replace(".", "/") / "__init__.py").is_file(), f"{name} has no __init__.py"


def test_every_imported_package_is_declared(config):
    """An import that setup.cfg does not declare fails on every machine but the developer's."""
    needed = names(config["options"]["install_requires"])
    needed |= set().union(
        *(names(lines) for extra, lines in config["options.extras_require"].items() if extra != "test")
    )
    imported = {
        name for folder in ("synthmed", "cli") for file in (ROOT / folder).rglob("*.py") for name in imports(file)
    }
    third_party = imported - set(sys.stdlib_module_names) - {"synthmed", "__future__"}
    assert "numpy" in third_party
    assert {DISTRIBUTIONS.get(name, name).lower() for name in third_party} <= needed


def imports(file: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_hints_for_extras_agree_with_setup_cfg(config):
    """A hint that names the wrong extra sends its reader through an installation for nothing."""
    for extra, packages in extras.EXTRAS.items():
        assert {name.lower() for name in packages.values()} == names(config["options.extras_require"][extra])
    assert extras.install_hint("tensorflow_serving.apis") == "pip install 'synthmed[serving]'"
    assert extras.install_hint("torch") == "pip install torch"


def test_every_bound_has_a_reason(config):
    """A bound without a reason is kept for ever, since nobody dares to move it."""
    lines = (ROOT / "setup.cfg").read_text(encoding="utf-8").splitlines()
    bounds = [number for number, line in enumerate(lines) if ">=" in line and not line.lstrip().startswith("#")]
    assert len(bounds) > 5
    for number in bounds:
        assert lines[number - 1].lstrip().startswith("#"), lines[number]


def test_the_requirements_without_tensorflow_are_all_the_others(config):
    """Somebody with JAX alone would install half of what is needed, or another version than was tested."""
    written = (ROOT / "docker" / "requirements-jax.txt").read_text(encoding="utf-8")
    listed = {line.strip() for line in written.splitlines() if line.strip() and not line.startswith("#")}
    needed = {line.strip() for line in config["options"]["install_requires"].splitlines() if line.strip()}
    wanted = {line for line in needed if not line.startswith(("#", "tensorflow "))}
    assert listed == wanted | set(config["options.extras_require"]["jax"].split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy of the checkout: a build leaves files beside what it builds."""
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    # With a setuptools that is new enough at hand the build needs no network.
    at_hand = int(metadata.version("setuptools").split(".")[0]) >= 77
    build = [sys.executable, "-m", "build", "--wheel", *(["--no-isolation"] if at_hand else []), "--outdir", str(out)]
    subprocess.run([*build, str(source)], check=True)
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_all_that_is_needed(wheel):
    """Somebody without the checkout would lose the commands, the types, the report's template or the generator."""
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder, installed in (
        ("synthmed", "synthmed"),
        ("cli", "synthmed/cli"),
        ("saved_models", "synthmed/saved_models"),
    ):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith("."):
                assert f"{installed}/{file.relative_to(ROOT / folder).as_posix()}" in held
    assert "synthmed/py.typed" in held
    assert any(name.endswith("LICENSE") for name in held)
    assert not any("__pycache__" in name for name in held)
    assert wheel.stat().st_size < 32 * 2**20


@pytest.mark.slow
def test_the_two_literal_commands_work_from_the_wheel(wheel, tmp_path):
    """The first thing a newcomer types, in an empty folder, with nothing of the checkout in reach.

    The environment is new; its dependencies are those of the environment that runs the test, so that the test needs
    no network and no gigabyte.
    """
    venv.create(tmp_path / "venv", with_pip=False)
    binaries = tmp_path / "venv" / "bin"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    # A .pth line is searched after the environment's own folder, and its editable finder is left behind with its .pth.
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def synthmed(*arguments: str) -> str:
        command = [str(binaries / "synthmed"), *arguments]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    where = [str(binaries / "python"), "-c", "import synthmed.cli.main as m; print(m.__file__)"]
    assert subprocess.check_output(where, cwd=empty, env=environment, text=True).startswith(str(tmp_path))

    synthmed("generate", "--n", "3", "--out", "shipped")
    assert len(list((empty / "shipped").rglob("labelsTr/*.nii.gz"))) == 3
    synthmed("train", "--variant", "cond", "--kimg", "0.05")
    synthmed("generate", "--n", "100", "--out", "own")
    assert len(list((empty / "own").rglob("labelsTr/*.nii.gz"))) == 100
