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
PACKAGES = ("rerender", "eval", "experiments")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
GROUPS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())

# library: the places that may import it
FENCES = {
    "hydra": (
        "rerender/run.py",
        "rerender/config/compose.py",
        "rerender/config/overrides.py",
        "experiments/",
    ),
    "omegaconf": (
        "rerender/run.py",
        "rerender/config/compose.py",
        "rerender/config/overrides.py",
        "experiments/",
    ),
    "diffusers": ("rerender/model/", "rerender/demo/", "eval/metrics/"),
    "transformers": ("rerender/model/", "rerender/demo/", "eval/metrics/"),
    "av": ("rerender/codec/", "experiments/bench/damage/seeds.py"),
    "wandb": ("rerender/tracker/",),
    "joblib": ("rerender/launcher/",),
    "submitit": ("rerender/launcher/",),
    "ray": ("rerender/launcher/",),
    "lpips": ("eval/metrics/",),
    "pandas": ("eval/", "experiments/"),
    "matplotlib": ("eval/", "experiments/"),
    "skimage": (),
    "pickle": (),
}
NOUNS = {"rerender.errors", "rerender.video", "rerender.scene", "rerender.flow.field"}
VERB_FILES = """build cast config exits film job ledger loading measure memo overrides perform
pipeline prescan progress propagate record run stages studio together translate"""
VERBS = {f"rerender.{name}" for name in VERB_FILES.split()}
# what eval may use of rerender: what any finished video can be measured with
TOOLS = {
    f"rerender.{name}"
    for name in ("contracts", "store", "codec", "facts", "fit", "config", "kinds")
}
READERS = {f"rerender.data{name}" for name in ("", ".picture", ".pictures")}
FOR_EVAL = {"rerender", *NOUNS, *TOOLS, *READERS}
# what a command line ends in, and how eval finds the clips of runs
ENTRIES = {
    "rerender.run",
    "rerender.jobs.worker",
    "rerender.jobs.run_job",
    "experiments.bench.damage.kinds",
    "experiments.bench.damage.seeds",
    "experiments.bench.store.__main__",
    "eval.score",
    "eval.runs.own",
    "eval.runs.sources",
}
TRAINING = "rerender/demo/"  # tools that make the demo weights, not part of a run
HEAVY = ("torch", "diffusers", "transformers", "wandb", "cv2", "pandas", "numpy", "av", "numba")


def module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


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
    """Modules that are imported when this one is: not in functions, not for type checking."""
    found: set[str] = set()
    pending: list[ast.AST] = list(parsed(file).body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and re.search("TYPE_CHECKING|__main__", ast.unparse(node.test)):
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
        for name, _ in imported(parsed(file))
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


def test_nouns_and_contracts_know_nothing_above_them() -> None:
    for file in FILES:
        names = {name for name, _ in imported(parsed(file))}
        if module(file) in NOUNS:
            assert ours(names) <= NOUNS, file
        if module(file).startswith("rerender.contracts"):
            assert {n for n in ours(names) if not n.startswith("rerender.contracts")} <= NOUNS, file


@pytest.mark.parametrize("group", GROUPS)
def test_choices_know_neither_verbs_nor_each_other(group: str) -> None:
    choices = set(_targets(group))
    for file in FILES:
        if module(file) not in choices:
            continue
        names = ours({name for name, _ in imported(parsed(file))})
        assert not names & VERBS, f"{module(file)} imports a verb"
        assert not names & choices - {module(file)}, f"{module(file)} imports another choice"


def _targets(group: str) -> Iterator[str]:
    for file in (ROOT / "conf" / group).glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        one, many = (re.findall(rf"^{i}_target_:\s*([\w.]+)", text, re.M) for i in ("", "  "))
        yield from (target.rpartition(".")[0] for target in one or many)


def test_eval_knows_nothing_of_how_a_video_was_made() -> None:
    for file in FILES:
        if not module(file).startswith("eval") or module(file) in ENTRIES:
            continue
        names = ours({name for name, _ in imported(parsed(file))})
        allowed = {name for name in names if name.partition(".")[0] == "eval"} | FOR_EVAL
        assert {n for n in names if not n.startswith("rerender.codec")} <= allowed, file


def test_only_entry_points_are_left_alone() -> None:
    for file in FILES:
        if module(file) not in ENTRIES:
            names = ours({name for name, _ in imported(parsed(file))})
            assert not names & {"rerender.run", "rerender.jobs.run_job"}, file


def test_the_builtin_eval_is_never_hidden() -> None:
    for file in [*FILES, *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.startswith("eval")], file


def test_only_the_store_writes() -> None:
    """Writers that do not notice a full disk are not used, and no file is opened for writing."""
    breaches = []
    for file in FILES:
        path = file.relative_to(ROOT).as_posix()
        if path == "rerender/files.py" or path.startswith(("experiments/", TRAINING)):
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
