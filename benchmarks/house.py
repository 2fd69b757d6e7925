"""The shape of the code as figures: modules, lines, imports, circles, longest functions, public names.

python benchmarks/house.py                 the checkout that it lies in
python benchmarks/house.py --commit HASH   as it was at a commit, beside today's
python benchmarks/house.py --list          also single importers, circles and the largest of each kind
"""

import argparse
import ast
import statistics
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"synthmed": "synthmed", "cli": "synthmed.cli"}


@dataclass
class Module:
    """One file: its size, what it imports from the own package, and what it defines."""

    name: str
    file: Path
    lines: int
    code_lines: int
    imports: set[str] = field(default_factory=set)
    public: list[str] = field(default_factory=list)
    functions: dict[str, int] = field(default_factory=dict)

    @property
    def is_package(self) -> bool:
        """Whether the file is an `__init__.py`."""
        return self.file.name == "__init__.py"


def read_house(root: Path) -> dict[str, Module]:
    """Return every module of synthmed/ and cli/ below `root` by its dotted name, with its imports resolved."""
    trees = {}
    for folder, package in FOLDERS.items():
        for file in sorted((root / folder).rglob("*.py")):
            parts = file.relative_to(root / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            trees[name] = file, ast.parse(file.read_text(encoding="utf-8"))
    return {name: _module(name, file, tree, trees.keys()) for name, (file, tree) in trees.items()}


def _module(name: str, file: Path, tree: ast.Module, known) -> Module:
    text = file.read_text(encoding="utf-8")
    module = Module(name, file, len(text.splitlines()), _code_lines(text, tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            module.imports |= {one if one in known else node.module for one in names}
        elif isinstance(node, ast.Import):
            module.imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            module.functions[f"{name}.{node.name}"] = (node.end_lineno or start) - start + 1
    module.imports = {one for one in module.imports if one in known and one != name}
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    module.public = [one.name for one in tree.body if isinstance(one, defined) and not one.name.startswith("_")]
    return module


def _code_lines(text: str, tree: ast.Module) -> int:
    """Count lines that hold code: no blank ones, comments or docstrings."""
    documented = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for n, line in lines if n not in documented)


def circles(modules: dict[str, Module]) -> list[list[str]]:
    """Return the circles of imports, each as its modules in order; one edge of each is left out to find the next.

    What a package's `__init__` re-exports does not count: it is loaded when it is used.
    """
    graph = {name: set() if module.is_package else set(module.imports) for name, module in modules.items()}
    found = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]
            found.append(circle)
            graph[circle[0]].discard(circle[1])
            graph[circle[1]].discard(circle[0])
            continue
        return found


def importers(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Return who imports each module; a package's own `__init__` that re-exports it does not count."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, module in modules.items():
        for other in module.imports:
            if not (module.is_package and other.startswith(f"{name}.")):
                found[other].add(name)
    return found


def single_importers(modules: dict[str, Module]) -> dict[str, str]:
    """Return each module that exactly one other imports, with that one; packages' own files and commands left out."""
    who = importers(modules)
    return {
        name: next(iter(who[name])) for name, module in modules.items() if not module.is_package and len(who[name]) == 1
    }


def exports(root: Path) -> int:
    """Return how many names `synthmed/__init__.py` offers: its `__all__`."""
    for node in ast.parse((root / "synthmed/__init__.py").read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(one, ast.Name) and one.id == "__all__" for one in targets):
            return len(ast.literal_eval(node.value))
    return 0


def figures(root: Path) -> dict[str, str]:
    """Return the table's rows for a checkout."""
    modules = read_house(root)
    files = [module for module in modules.values() if not module.is_package]
    code = [module.code_lines for module in files]
    imports = [len(module.imports) for module in files]
    functions = sorted((n for module in modules.values() for n in module.functions.values()), reverse=True)
    single = single_importers(modules)
    repeated: dict[str, set[str]] = defaultdict(set)
    for module in files:
        for name in module.public:
            repeated[name].add(module.name)
    return {
        "modules (without `__init__`)": f"{len(modules)} ({len(files)})",
        "physical lines": f"{sum(module.lines for module in modules.values()):,}",
        "code lines": f"{sum(module.code_lines for module in modules.values()):,}",
        "code lines a module: median, largest": f"{statistics.median(code):.0f}, {max(code)}",
        "own imports a module: mean, most": f"{statistics.mean(imports):.1f}, {max(imports)}",
        "modules with a single importer": f"{len(single)} ({len(single) / len(files):.0%})",
        "circles of imports": f"{len(circles(modules))}",
        "longest functions": ", ".join(map(str, functions[:5])),
        "functions over 50 lines": f"{sum(n > 50 for n in functions)}",
        "public functions and classes": f"{sum(len(module.public) for module in files)}",
        "public names defined more than once": f"{sum(len(where) > 1 for where in repeated.values())}",
        "names that `import synthmed` offers": f"{exports(root)}",
    }


def _at_commit(commit: str, folder: Path) -> Path:
    archive = subprocess.run(["git", "archive", commit, *FOLDERS], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _print_lists(root: Path) -> None:
    modules = read_house(root)
    print("\nsingle importers:")
    for name, by in sorted(single_importers(modules).items()):
        print(f"  {name} <- {by} ({modules[name].code_lines} code lines)")
    print("circles:", *(" -> ".join(circle) for circle in circles(modules)), sep="\n  ")
    longest = sorted(((n, name) for module in modules.values() for name, n in module.functions.items()), reverse=True)
    print("longest functions:", *(f"{n} {name}" for n, name in longest[:10]), sep="\n  ")
    largest = sorted(((module.code_lines, name) for name, module in modules.items()), reverse=True)
    print("largest modules:", *(f"{n} {name}" for n, name in largest[:10]), sep="\n  ")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", help="compare with this commit")
    parser.add_argument("--list", action="store_true", help="name what the figures count")
    asked = parser.parse_args()
    columns = {"today": figures(ROOT)}
    if asked.commit:
        with tempfile.TemporaryDirectory() as folder:
            columns = {asked.commit: figures(_at_commit(asked.commit, Path(folder)))} | columns
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for row in columns["today"]:
        print(f"| {row} | " + " | ".join(column[row] for column in columns.values()) + " |")
    if asked.list:
        _print_lists(ROOT)


if __name__ == "__main__":
    main()
