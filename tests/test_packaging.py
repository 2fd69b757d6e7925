"""What a user installs is what stands in the repository."""

import ast
import configparser
import os
import subprocess
import sys
import tarfile
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
    # PyTorch is whatever a user has: Store.torch says so where it is missing.
    third_party = imported - set(sys.stdlib_module_names) - {"synthmed", "__future__", "torch"}
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


# Put together, since this file enters the source distribution.
PATIENT = b"^".join([b"Planted", b"Patient"])
# What lies about in the checkout of somebody who works with patients, some of it where commands write by default.
LYING_ABOUT = """
    .env key.pem token patients.csv look.ipynb notebooks/look.ipynb IM0001
    store/images.npy store/store.json synthetic/case-1.npz demo/report.html runs/00000-cond/run.json
    Task04_X/imagesTr/st-mary.nii.gz Task04_X/dataset.json dist/st-mary.tar build/st-mary.npy
    saved_models/st-mary/1/saved_model.pb saved_models/st-mary/1/assets.extra/bundle.json
    saved_models/st-mary/MODEL_CARD.md saved_models/hippocampus/2/saved_model.pb saved_models/hippocampus/MODEL_CARD.md
    saved_models/hippocampus/1/patients.csv saved_models/hippocampus/1/variables/st-mary.nii.gz
    cli/st-mary.nii.gz cli/IM0001 cli/.env cli/store/images.npy
    synthmed/st-mary.nii.gz synthmed/IM0001 synthmed/data/st-mary.nii.gz synthmed/data/readers/look.ipynb
    synthmed/store/images.npy synthmed/Task04_X/labelsTr/st-mary.nii.gz synthmed/__pycache__/st-mary.pyc
    synthmed/study/presets/st-mary.yaml synthmed/reporting/templates/st-mary.nii.gz
    docker/.env docker/st-mary.yaml docs/images/st-mary.png docs/reports/st-mary/cells.csv docs/st-mary.json
    benchmarks/st-mary.npz examples/IM0001 examples/tensorflow_addons/st-mary.txt tests/data/st-mary.nii.gz
"""
PLANTED = LYING_ABOUT.split()


def in_git() -> list[str]:
    """Return the files of the checkout that git tracks, or would if they were added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Return a copy of the checkout in which patients are planted: a build leaves files beside what it builds."""
    source = tmp_path_factory.mktemp("checkout")
    for name in in_git():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    for name in PLANTED:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(PATIENT)
    # What setuptools remembers of an earlier build, and adds again.
    (source / "synthmed.egg-info").mkdir()
    (source / "synthmed.egg-info" / "SOURCES.txt").write_text("\n".join(PLANTED) + "\n", encoding="utf-8")
    return source


@pytest.fixture(scope="module")
def distributions(checkout, tmp_path_factory) -> Path:
    """Return a folder with the wheel and the source distribution, both built from the checkout itself."""
    out = tmp_path_factory.mktemp("distributions")
    # With a setuptools that is new enough at hand the build needs no network.
    at_hand = int(metadata.version("setuptools").split(".")[0]) >= 77
    build = [sys.executable, "-m", "build", "--sdist", "--wheel", *(["--no-isolation"] if at_hand else [])]
    subprocess.run([*build, "--outdir", str(out), str(checkout)], check=True)
    return out


@pytest.fixture(scope="module")
def wheel(distributions) -> Path:
    return next(distributions.glob("*.whl"))


def sources(wheel: Path) -> set[str]:
    """Return where in the checkout the files of a wheel come from."""
    found = set()
    for name in zipfile.ZipFile(wheel).namelist():
        for installed in ("synthmed/cli/", "synthmed/saved_models/"):
            name = name.removeprefix("synthmed/") if name.startswith(installed) else name
        if ".dist-info/" not in name:
            found.add(name)
    return found


def image_context(checkout: Path) -> set[str]:
    """Return the files that `docker build` would be given."""
    from docker.utils.build import exclude_paths

    # As Docker reads it; comments are its client's business.
    lines = (line.strip() for line in (checkout / ".dockerignore").read_text(encoding="utf-8").splitlines())
    patterns = [line for line in lines if line and not line.startswith("#")]
    found = exclude_paths(str(checkout), patterns, dockerfile="docker/Dockerfile")
    return {name for name in found if (checkout / name).is_file()}


@pytest.mark.slow
def test_the_wheel_holds_what_git_has_and_nothing_else(wheel):
    """Somebody without the checkout would lose a command, a template or the generator; or get somebody's patients."""
    assert sources(wheel) == {name for name in in_git() if name.startswith(("synthmed/", "cli/", "saved_models/"))}
    assert any(name.endswith("LICENSE") for name in zipfile.ZipFile(wheel).namelist())
    assert wheel.stat().st_size < 32 * 2**20


@pytest.mark.slow
def test_no_distribution_holds_a_planted_patient(distributions, wheel):
    """A private generator, or a scan that lay beside the code, would be published with the next version."""
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if PATIENT in archive.read(name)]
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        held = {file.name.partition("/")[2]: archive.extractfile(file).read() for file in archive if file.isfile()}
    assert not [name for name, content in held.items() if PATIENT in content]
    assert sources(wheel) <= set(held), "a wheel is built from it"
    assert {"pyproject.toml", "setup.cfg", "README.md", "LICENSE", "tests/test_packaging.py"} <= set(held)


@pytest.mark.slow
def test_an_image_is_built_from_what_the_wheel_holds_and_nothing_else(checkout, wheel):
    """Whoever pulls the image, or reads the builder's cache, would have the patients of who built it."""
    context = image_context(checkout)
    assert not [name for name in context if PATIENT in (checkout / name).read_bytes()]
    built_from = {"LICENSE", "README.md", "pyproject.toml", "setup.cfg"}
    # The engine itself needs the last two; no COPY names them.
    assert context == sources(wheel) | built_from | {".dockerignore", "docker/Dockerfile"}
    dockerfile = (checkout / "docker" / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    (first, *_), names = dockerfile.split("FROM ")[1:], {name for names in copied for name in names}
    assert names == built_from | {"cli", "saved_models", "synthmed"}
    assert first.count("COPY ") == len(copied), "only the first stage sees the checkout"


def test_git_ignores_every_export_but_what_ships():
    """`git add .` after an export in a checkout would publish a hospital's generator, or its card."""
    private = [name for name in PLANTED if name.startswith("saved_models/") and "/hippocampus/1/" not in name]
    private += [name for name in PLANTED if name.endswith((".nii.gz", ".ipynb", ".pem", ".env"))]
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    shipped = [name for name in in_git() if name.startswith("saved_models/")]
    assert len(shipped) > 5
    ask = "\n".join([*private, *shipped])
    answer = subprocess.run(command, cwd=ROOT, input=ask, capture_output=True, text=True).stdout.split("\n")
    assert {name for name in answer if name} == set(private)


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
