"""The rooms of the house and the doors between them (see CONTRIBUTING.md)."""

import ast
import importlib.util
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "data": 0,
    "layers": 0,
    "models": 1,
    "training": 2,
    "generation": 3,
    "segmentation": 3,
    "evaluation": 1,
    "serving": 3,
    "study": 4,
    "reporting": 4,
    "cli": 5,
}


def doors() -> dict[str, set[str]]:
    """Return for each room the other rooms that it imports from, at any place in any of its files."""
    found: dict[str, set[str]] = {room: set() for room in FLOORS}
    for room in FLOORS:
        folder = ROOT / "cli" if room == "cli" else ROOT / "synthmed" / room
        for file in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                found[room] |= {name.split(".")[1] for name in names if name.startswith("synthmed.")}
        found[room] = {other for other in found[room] if other in FLOORS} - {room}
    return found


def test_imports_point_downwards_and_in_no_circle():
    """A room that imports from above cannot be used, tested or understood without the whole house."""
    found = doors()
    assert "training" in found["generation"], "the search for imports finds none"
    upwards = {(room, other) for room, others in found.items() for other in others if FLOORS[other] > FLOORS[room]}
    assert upwards == set()
    # Raises CycleError, with the circle in its words.
    TopologicalSorter(found).prepare()


@pytest.mark.parametrize("module", ["synthmed", "synthmed.data", "synthmed.data.store", "synthmed.data.readers"])
def test_data_can_be_read_without_tensorflow(module):
    """Looking at a data set would take seconds and gigabytes more, and would need TensorFlow on every machine."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert {"tensorflow", "keras"}.isdisjoint(loaded)


def test_no_file_imports_in_a_circle():
    """Of two files that import each other neither can be understood, tested or moved without the other."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "benchmarks" / "house.py")
    house = importlib.util.module_from_spec(spec)
    sys.modules["house"] = house
    spec.loader.exec_module(house)
    modules = house.read_house(ROOT)
    assert len(modules) > 100
    assert house.circles(modules) == []
