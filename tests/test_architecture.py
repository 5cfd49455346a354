"""Who may import whom, who may write, and what must stay light: read from the source with ast."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rerender", "eval", "experiments", "training")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
GROUPS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())

# library: the places that may import it
COMPOSING = ("rerender/run.py", "rerender/config/", "experiments/")
BENCH = ("experiments/bench/gpu/",)
FENCES = {
    "hydra": COMPOSING,
    "omegaconf": COMPOSING,
    "diffusers": ("rerender/model/", "training/", "eval/metrics/", *BENCH),
    "transformers": ("rerender/model/", "rerender/demo/", "training/", "eval/metrics/", *BENCH),
    "av": ("rerender/codec/", "experiments/bench/damage/"),
    "wandb": ("rerender/tracker/",),
    "joblib": ("rerender/launcher/",),
    "submitit": ("rerender/launcher/",),
    "ray": ("rerender/launcher/",),
    "lpips": ("eval/metrics/",),
    "pandas": ("eval/", "experiments/"),
    "matplotlib": ("eval/", "experiments/"),
    "starlette": ("rerender/studio/",),
    "uvicorn": ("rerender/studio/",),
    "skimage": (),
    "pickle": (),
}
# Who may import whom: a module imports from its own row and from those above it. A row names
# packages and modules; the longest name that fits says where a module stands.
NOUNS = (
    "rerender.errors",
    "rerender.kinds",
    "rerender.video",
    "rerender.scene",
    "rerender.flow.field",
)
CONTRACTS = ("rerender.contracts",)
TOOLS = (
    "rerender.files",
    "rerender.compiled",
    "rerender.fitting",
    "rerender.network",
    "rerender.peak_memory",
    "rerender.run_folder",
    "rerender.codec",
    "rerender.config.paths",
)
CHOICES = tuple(f"rerender.{group}" for group in (*GROUPS, "demo") if group != "hydra")
CONFIG = ("rerender.config", "rerender.exits")
VERBS = (
    "rerender.translation",
    "rerender.translate",
    "rerender.propagate",
    "rerender.pipeline",
    "rerender.api",
)
STORE = ("rerender.store",)
JOBS = ("rerender.jobs",)
COMMANDS = (
    "rerender.launcher",
    "rerender.datasets",
    "rerender.fetch",
    "rerender.propagate_keys",
    "rerender.propagate.__main__",
    "rerender.store.__main__",
    "rerender.run",
    "rerender.studio",
)
ROWS = (("rerender",), NOUNS, CONTRACTS, TOOLS, CHOICES, CONFIG, VERBS, STORE, JOBS, COMMANDS)
ABOVE_EVAL = ("experiments", "training", *COMMANDS, *VERBS, *STORE, *JOBS)
KNOWS_RUNS = ("eval.runs", "eval.score")  # how eval finds the clips of runs, and its command
TRAINING = "training/"  # makes the demo weights, no part of a run
HEAVY = ("torch", "diffusers", "transformers", "wandb", "cv2", "pandas", "numpy", "av", "numba")


def module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports_of(file: Path) -> tuple[tuple[str, ast.stmt], ...]:
    return tuple(imported(parsed(file)))


def imported(node: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """(module, statement) of every import below a node."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import of {child.module}"
            yield child.module or "", child
            yield from ((f"{child.module}.{alias.name}", child) for alias in child.names)


def at_import_time(file: Path) -> set[str]:
    """Modules that are imported when this one is, run as a command too: not in functions, not for
    type checking."""
    found: set[str] = set()
    pending: list[ast.AST] = list(parsed(file).body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {name for name, _ in imported(node)}
        else:
            pending += ast.iter_child_nodes(node)
    return found


def ours(names: set[str]) -> set[str]:
    known = {module(file) for file in FILES}
    return {name for name in names if name in known}


@pytest.mark.parametrize("library", FENCES)
def test_a_library_stays_behind_its_fence(library: str) -> None:
    breaches = {
        str(file.relative_to(ROOT))
        for file in FILES
        for name, _ in imports_of(file)
        if name.partition(".")[0] == library
        and not file.relative_to(ROOT).as_posix().startswith(FENCES[library] or ("-",))
    }
    assert not breaches


def test_nothing_imports_in_circles() -> None:
    graph = {module(file): ours(at_import_time(file)) - {module(file)} for file in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {error.args[1]}")
    assert len(graph) > 20


def row(name: str) -> int:
    """The row of a module of rerender."""
    fitting = [
        (len(prefix), number)
        for number, prefixes in enumerate(ROWS)
        for prefix in prefixes
        if f"{name}.".startswith(f"{prefix}.")
    ]
    return max(fitting)[1]


def below(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a module is one of those or in one of those packages."""
    return f"{name}.".startswith(tuple(f"{prefix}." for prefix in prefixes))


@pytest.mark.parametrize("file", FILES, ids=module)
def test_a_module_imports_from_its_own_row_and_above(file: Path) -> None:
    name, names = module(file), ours({name for name, _ in imports_of(file)})
    if name.startswith("rerender"):
        down = {n for n in names if n.startswith("rerender.") and row(n) > row(name)}
        assert not down, f"{name} imports {down}"
    if name.startswith("eval") and not below(name, KNOWS_RUNS):
        assert not {n for n in names if below(n, ABOVE_EVAL)}, name
    if name.startswith(("rerender", "eval")) and not name.startswith("rerender.run"):
        assert not {n for n in names if n.startswith(("experiments", "training"))}, name


def test_every_module_has_a_row() -> None:
    """Without one a module would fall into the first row, where only the package itself belongs."""
    names = {module(file) for file in FILES if module(file).startswith("rerender")}
    assert {name for name in names if row(name) == 0} == {"rerender"}


@pytest.mark.parametrize("group", GROUPS)
def test_choices_do_not_know_each_other(group: str) -> None:
    choices = set(_targets(group))
    for file in FILES:
        if module(file) not in choices:
            continue
        names = ours({name for name, _ in imports_of(file)})
        assert not names & choices - {module(file)}, f"{module(file)} imports another choice"


def _targets(group: str) -> Iterator[str]:
    for file in (ROOT / "conf" / group).glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        one, many = (re.findall(rf"^{i}_target_:\s*([\w.]+)", text, re.M) for i in ("", "  "))
        yield from (target.rpartition(".")[0] for target in one or many)


def test_the_builtin_eval_is_never_hidden() -> None:
    for file in [*FILES, *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.startswith("eval")], file


def test_only_files_writes() -> None:
    """Writers that do not notice a full disk are not used, and no file is opened for writing."""
    breaches = []
    for file in FILES:
        path = file.relative_to(ROOT).as_posix()
        if path.startswith(("rerender/files/", "experiments/", TRAINING)):
            continue
        breaches += [f"{path}:{call.lineno}" for call in _calls(file) if _writes(call)]
    assert not breaches


def test_pictures_of_others_are_decoded_in_one_place() -> None:
    """All but what an external program of ours hands back goes through the same limits."""
    allowed = {"rerender/data/picture.py", "rerender/propagation/ebsynth.py"}
    names = ("Image.open", "cv2.imread", "cv2.imdecode", "cv2.imreadmulti", "cv2.VideoCapture")
    found = {
        file.relative_to(ROOT).as_posix()
        for file in FILES
        for call in _calls(file)
        if ast.unparse(call.func) in names and "bench" not in file.parts
    }
    assert found == allowed


def _calls(file: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(parsed(file)) if isinstance(node, ast.Call))


def _writes(call: ast.Call) -> bool:
    text = ast.unparse(call.func)
    name = text.rpartition(".")[2]
    if name in ("write_text", "write_bytes", "imwrite", "VideoWriter", "savez", "savefig"):
        return True
    if text in ("np.save", "torch.save", "numpy.save", "safetensors.torch.save_file"):
        return True
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    opened = name == "open" and not text.startswith("av.")
    return opened and any(re.fullmatch(r"[rwaxbt+]*[wax+][rwaxbt+]*", value) for value in texts)


def test_the_command_line_imports_nothing_heavy() -> None:
    """Everything that run.py imports at its top, directly or not, is light."""
    seen, pending = set(), {"rerender.run"}
    files = {module(file): file for file in FILES}
    while pending:
        name = pending.pop()
        seen.add(name)
        names = at_import_time(files[name])
        heavy = {n for n in names if n.partition(".")[0] in HEAVY}
        assert not heavy, f"{name} imports {heavy}"
        pending |= ours(names) - seen
    assert "rerender.config.compose" in seen


def test_constraints_are_exact_pins_without_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")[:-1]
    pins = dict(line.split("==") for line in lines)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    assert {"torch": "2.15.0", "torchvision": "0.29.2"}.items() <= pins.items()
    assert "rerender" not in pins


def test_no_public_class_name_means_two_things() -> None:
    where: dict[str, list[str]] = {}
    for file in FILES:
        for node in parsed(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(module(file))
    assert not {name: places for name, places in where.items() if len(places) > 1}


def test_few_files_stand_on_the_main_floor() -> None:
    """A newcomer knows each of them; everything else has a folder that says what it is."""
    assert len(list((ROOT / "rerender").glob("*.py"))) <= 18
