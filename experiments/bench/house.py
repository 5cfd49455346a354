"""``python -m experiments.bench.house [ROOT]``: the order of the source tree in figures.

A room is a file or a folder directly below ``rerender/``; an arrow leads from a room to one that it
imports, and a floor is a step of the longest way along arrows, in circles once. Read from the
source, nothing is imported; any checkout can be named.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rerender.config.paths import ROOT
from rerender.exits import Parser

PACKAGES = ("rerender", "eval", "experiments", "training")
LONG_FILE, LONG_FUNCTION = 300, 50  # lines
Graph = Mapping[str, set[str]]


def figures(root: Path) -> dict[str, int]:
    """The order of a checkout, by what is counted."""
    trees = {
        file: ast.parse(file.read_text(encoding="utf-8"))
        for package in PACKAGES
        for file in sorted((root / package).rglob("*.py"))
    }
    home = root / "rerender"
    rooms = {_room(file, root) for file in trees if home in file.parents}
    arrows = {room: set[str]() for room in rooms}
    for file, tree in trees.items():
        if home in file.parents:
            arrows[_room(file, root)] |= {
                name for name in _imports(tree) if name in rooms and name != _room(file, root)
            }
    names = {module: _ours(tree, trees, root) for module, tree in _modules(trees, root).items()}
    private = [
        words[node.name]
        for file, tree in trees.items()
        if (words := Counter(re.findall(r"\w+", file.read_text("utf-8"))))
        for node in _functions(tree)
        if _own(node)
    ]
    classes = Counter(
        node.name
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return {
        "files on the top level of rerender/": len(list(home.glob("*.py"))),
        "rooms": len(rooms - {"__init__"}),
        "arrows between rooms": sum(map(len, arrows.values())),
        "floors": _floors(arrows),
        "import circles of modules": sum(len(circle) > 1 for circle in _circles(names)),
        "public class names that exist twice": sum(count > 1 for count in classes.values()),
        "private functions": len(private),
        "of these used once in their file": private.count(2),
        "files": len(trees),
        f"files over {LONG_FILE} lines": sum(_lines(file) > LONG_FILE for file in trees),
        f"functions over {LONG_FUNCTION} lines": sum(
            _length(node) > LONG_FUNCTION for tree in trees.values() for node in _functions(tree)
        ),
        "of these without their docstring": sum(
            _length(node) - _documented(node) > LONG_FUNCTION
            for tree in trees.values()
            for node in _functions(tree)
        ),
    }


def _length(node: ast.FunctionDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def _documented(node: ast.FunctionDef) -> int:
    """Lines of its docstring."""
    first = node.body[0]
    return (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) else 0


def _room(file: Path, root: Path) -> str:
    return file.relative_to(root / "rerender").parts[0].removesuffix(".py")


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def _own(node: ast.FunctionDef) -> bool:
    return node.name.startswith("_") and not node.name.startswith("__")


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _statements(tree: ast.AST) -> Iterator[tuple[str, Sequence[str]]]:
    """(module, names from it) of every import, also of those within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, [alias.name for alias in node.names]


def _imports(tree: ast.AST) -> set[str]:
    """The rooms that a file imports."""
    found = set()
    for name, parts in _statements(tree):
        above, _, below = name.partition(".")
        if above == "rerender":
            found |= {below.partition(".")[0]} if below else {*parts}
    return found


def _modules(trees: Mapping[Path, ast.Module], root: Path) -> dict[str, ast.Module]:
    return {_module(file, root): tree for file, tree in trees.items()}


def _module(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _ours(tree: ast.Module, trees: Mapping[Path, ast.Module], root: Path) -> set[str]:
    """The modules of ours that one imports when it is imported: not within functions."""
    known, found = {_module(file, root) for file in trees}, set[str]()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, parts in _statements(node):
                found |= {name, *(f"{name}.{part}" for part in parts)} & known
        else:
            pending += ast.iter_child_nodes(node)
    return found


def _circles(graph: Graph) -> list[set[str]]:
    """Groups of nodes that reach each other (Tarjan 1972), those that others need first."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append({*stack[at:]})
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def _floors(graph: Graph) -> int:
    height: dict[str, int] = {}
    for circle in _circles(graph):
        below = {other for node in circle for other in graph.get(node, ())} - circle
        height |= dict.fromkeys(circle, 1 + max((height[other] for other in below), default=0))
    return max(height.values(), default=0)


def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, nargs="?", default=ROOT, help="a checkout")
    for name, count in figures(parser.parse_args().root).items():
        print(f"{count:6d}  {name}")


if __name__ == "__main__":
    main()
