"""Every configuration composes and builds; every mistake is one line that names the key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rerender.config.allowlist import LISTS, TARGET, allowed
from rerender.config.build import build
from rerender.config.compose import Sweep, literal, preflight
from rerender.config.job import Job, from_yaml, key_of, to_yaml
from rerender.config.overrides import parsed
from rerender.config.paths import CONF, ROOT
from rerender.config.renamed import CHOICES as RENAMED
from rerender.config.renamed import KEYS
from rerender.errors import ConfigError, InputError, RerenderError, WeightsError
from rerender.jobs.sweep import jobs_of
from rerender.propagation.blending.poisson import Poisson

CHOICES = sorted(f.relative_to(CONF).with_suffix("").as_posix() for f in CONF.glob("*/[!_]*.yaml"))
OVERLAYS = ("preset", "exp", "method", "dataset")
PARTS = [choice for choice in CHOICES if choice.partition("/")[0] not in OVERLAYS]
METHODS = [choice.removeprefix("method/") for choice in CHOICES if choice.startswith("method/")]
EXPERIMENTS = [choice.removeprefix("exp/") for choice in CHOICES if choice.startswith("exp/")]
TABLE2 = yaml.safe_load((CONF / "exp" / "table2.yaml").read_text())["hydra"]["sweeper"]["params"]
COMPARED = TABLE2["method"].split(",")
PRESETS = [choice.removeprefix("preset/") for choice in CHOICES if choice.startswith("preset/")]


def sweep(*arguments: str) -> Sweep:
    return preflight(literal(arguments))


def composed(*arguments: str) -> dict[str, Any]:
    (job,) = sweep(*arguments).jobs
    return job


def refusal(*arguments: str) -> str:
    with pytest.raises(RerenderError) as caught:
        jobs_of(sweep(*arguments).jobs)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def filled(node: Any) -> Any:
    """A part of a configuration with something in place of what must be given."""
    if isinstance(node, Mapping):
        return {key: filled(value) for key, value in node.items()}
    return "given" if node == "???" else node


# -- every file of conf/ --------------------------------------------------------------------------


def test_the_default_configuration_builds() -> None:
    job = Job.of(composed())
    assert job.parts.sampling.steps == 20
    assert [type(part).__name__ for part in job.parts.constraint][:1] == ["CrossFrame"]


@cache
def one_of_each_group(number: int) -> dict[str, Any]:
    """A configuration with this choice of each group that has so many, else with one before."""
    said = ["prompt=a"]
    for group in {choice.partition("/")[0] for choice in PARTS}:
        names = [choice.partition("/")[2] for choice in PARTS if choice.startswith(f"{group}/")]
        name = names[number % len(names)]
        said.append(f"{group}=[{name}]" if group in LISTS else f"{group}={name}")
    return composed(*said)


@pytest.mark.parametrize("choice", PARTS)
def test_every_choice_composes_builds_and_says_every_field(choice: str) -> None:
    group = choice.partition("/")[0]
    number = [each for each in PARTS if each.startswith(f"{group}/")].index(choice)
    node = one_of_each_group(number)[group]
    try:
        part = build(filled(node), group)
    except WeightsError as error:  # a file that must be given, such as control.hed.path
        assert "???" in str(node)
        assert str(error).startswith("given: ")
        return
    for one in part if isinstance(part, tuple) else (part,):
        assert f"{type(one).__module__}.{type(one).__name__}" in allowed()
        assert type(one).__module__.split(".")[1] == group
    assert (CONF / f"{choice}.yaml").read_text().startswith("#"), "say what it is"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_builds_in_all_its_jobs(name: str) -> None:
    plan = sweep(f"exp={name}", "model=tiny", "data.size=32", "data.frames=41", "seed=0")
    jobs = jobs_of(plan.jobs)
    assert plan.experiment == name
    assert all(job.data.size == 32 for job in jobs)
    if "sweeper" in (text := (CONF / "exp" / f"{name}.yaml").read_text()):
        rows = [job.name for job in jobs]
        assert None not in rows and len(rows) > 1, "every row has a name"
        assert len({key_of(job) for job in plan.jobs}) == len(jobs), "no two are the same"
        assert len(set(rows)) == len(rows), "one name for each row"
    shared = "_open" if "_open" in name else "_study"
    assert (f"defaults:\n  - {shared}\n" in text) == (
        name.startswith("ablation_") or name in ("drift", "drift_open", "propagation", "table3")
    )


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("plus", ["", "+"])
def test_every_preset_builds_and_lies_below_an_experiment(name: str, plus: str) -> None:
    job = Job.of(composed(f"{plus}preset={name}", f"{plus}exp=smoke"))
    assert job.parts.sampling.steps == 4, "the experiment's"
    assert job.parts.constraint, name


@pytest.mark.parametrize("group", ["preset", "exp", "method", "flow", "constraint"])
def test_a_plus_before_a_group_changes_nothing(group: str) -> None:
    for name in [choice.partition("/")[2] for choice in CHOICES if choice.startswith(f"{group}/")]:
        said = f"{group}=[{name}]" if group in LISTS else f"{group}={name}"
        assert parsed(f"+{said}").input_line == parsed(said).input_line == said


@pytest.mark.parametrize(
    ("old", "new"),
    [(f"{key}=1", now) for key, now in KEYS.items() if key != "variant"]
    + [(f"{key}={value}", now) for (key, value), now in RENAMED.items()]
    + [("variant=no_shape", "method=no_shape"), ("+exp=paper", "preset=paper")]
    + [("model.suits.size=64", "model.recommended.size"), ("exp=smoke,fast", "preset=fast")],
)
def test_an_old_name_is_refused_with_the_new_one(old: str, new: str) -> None:
    assert refusal(old).endswith(f"did you mean {new}?")


@pytest.mark.parametrize("now", sorted(set(RENAMED.values())))
def test_the_new_name_of_an_old_choice_is_one(now: str) -> None:
    assert composed(now)


@pytest.mark.parametrize("key", sorted(KEYS.values()))
def test_the_new_name_of_an_old_key_is_one(key: str) -> None:
    if "." not in key:
        assert (CONF / key).is_dir()
        return
    files = [yaml.safe_load(f.read_text()) for f in [CONF / "config.yaml", *CONF.glob("*/*.yaml")]]
    last = key.rpartition(".")[2]
    classes = {field.name for field in fields(Poisson)}
    assert last in classes or any(f"'{last}':" in repr(file) for file in files), key


def test_what_experiments_share_is_no_choice() -> None:
    assert "no choice '_study'; choices: ablation_attention" in refusal("exp=_study")
    assert "_study" not in refusal("exp=stdy")


def test_a_name_may_speak_of_a_choice() -> None:
    assert composed("name=a_${choice.flow}")["name"] == "a_dis"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_number_in_the_configuration_says_what_it_is(path: Path) -> None:
    """Unit and usual range, in a comment on its line or, for what lies over others, above it."""
    lines = path.read_text().splitlines()
    if path.parent.name in ("exp", "method", "preset"):  # their keys are explained where they are
        assert any(line.startswith("# ") and "@package" not in line for line in lines)
        return
    for line in lines:
        value, _, comment = line.partition("#")
        if re.search(r":\s*\[?\s*-?\d", value):
            assert comment.strip(), f"{path}: {line}"


def test_every_row_of_an_ablation_says_what_it_is_and_belongs_to_an_experiment() -> None:
    swept = " ".join((CONF / "exp" / f"{name}.yaml").read_text() for name in EXPERIMENTS)
    for name in METHODS:
        lines = (CONF / "method" / f"{name}.yaml").read_text().splitlines()
        assert lines[0] == "# @package _global_" and lines[1].startswith("# "), name
        assert re.search(rf"[ ,]{re.escape(name)}\b", swept), f"no experiment has {name}"


@pytest.mark.parametrize("name", COMPARED)
def test_every_method_lies_over_any_experiment(name: str) -> None:
    """It names itself and its interval, and leaves data and model alone."""
    job = Job.of(composed("+exp=smoke", f"+method={name}"))
    assert job.name is not None and job.name.startswith(name) and job.name.endswith("_k4")
    assert job.data.size == 64
    other = Job.of(composed(f"+method={name}", "keyframes=motion")).name
    assert other is not None and other.endswith("_kown")


def test_every_folder_of_choices_answers_a_folder_of_code() -> None:
    for group in {choice.partition("/")[0] for choice in PARTS}:
        assert any((ROOT / top / group).is_dir() for top in ("rerender", "eval")), group


def test_lists_keep_their_order_and_may_be_empty() -> None:
    job = Job.of(composed("constraint=[shape,cross_frame]", "control=[]", "metrics=[]"))
    assert [part.name for part in job.parts.constraint] == ["shape", "cross_frame"]
    assert job.parts.control == ()
    assert job.metrics == ()


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "where", "cure"),
    [
        (["sampling.stepz=3"], "sampling.stepz", "did you mean sampling.steps?"),
        (["seeed=1"], "seeed", "did you mean seed?"),
        (["+extra=1"], "extra", "known keys: "),
        (["+sampling.extra=1"], "sampling.extra", "known keys: "),
        (["constraint.cross_frame.stopp=1"], "constraint.cross_frame.stopp", "cross_frame.stop?"),
        (
            ["model=sd155"],
            "model",
            "did you mean sd15? choices: demo, demo_natural, inpainting, instruct_pix2pix, sd15, "
            "sd21, sdxl, tiny",
        ),
        (["constraint=[cros_frame]"], "constraint", "did you mean cross_frame?"),
        (["exp=smok"], "exp", "did you mean smoke?"),
        (["+exp=smok"], "exp", "choices: "),
        (["flow=null"], "flow", "choices: dis"),
        (["flow=[dis,truth]"], "flow", "choices: dis"),
        (["seed=["], "seed=[", "write key=value"),
        (["seed=-1"], "seed", "received -1"),
        (["seed=1.5"], "seed", "received 1.5"),
        (["seed=true"], "seed", "received True"),
        (["seed=null"], "seed", "give one"),
        (["~seed"], "seed", "give one"),
        (["seed=${nothing}"], "seed", "correct the value"),
        (["seed=99999999999999999999999"], "seed", "less than"),
        (["sampling.guidance=nan"], "sampling.guidance", "finite"),
        (["sampling.guidance=inf"], "sampling.guidance", "finite"),
        (["sampling.guidance=1e999"], "sampling.guidance", ""),
        (["sampling.noise=fixd"], "sampling.noise", "'fixed' or 'per_frame'"),
        (["sampling.steps=many"], "sampling.steps", "received 'many'"),
        (["data=video", "prompt=x"], "data.path", "give one: data.path=VALUE"),
        (["data.frames=0"], "data.frames", "received 0"),
        (["name=../up"], "name", "received '../up'"),
        (["tracker.mode=onlin"], "tracker.mode", "'offline' or 'online'"),
        (["seed=1,2,-3"], "seed", "job 3 of 3"),
        (["+sampling.steps=3"], "sampling.steps", "write it without the +"),
    ],
)
def test_a_mistake_is_one_line_with_the_key_and_the_cure(
    arguments: list[str], where: str, cure: str
) -> None:
    message = refusal(*arguments)
    assert message.startswith(f"{where}: ")
    assert cure in message


def test_what_a_run_needs_cannot_be_taken_out() -> None:
    """Every key that is composed; taken out, one is refused by its own name, not by what refers
    to it. One of several choices can be taken out."""

    def keys(node: Mapping[str, Any], above: str = "") -> Iterator[str]:
        for name, value in node.items():
            yield f"{above}{name}"
            if isinstance(value, Mapping):
                yield from keys(value, f"{above}{name}.")

    known = list(keys(composed()))
    free = [key for key in known if key.split(".")[0] in LISTS and key.count(".") == 1]
    assert {"model", "model.recommended.low", "sampling", "out", "constraint.shape.stop"} <= {
        *known
    }
    for key in {*known} - {*free}:
        for said in (f"~{key}", f"~{key}=tiny"):
            assert refusal(said).startswith(f"{key}: cannot be taken out of a run; "), said
    for key in free:
        group, name = key.split(".")
        assert name not in composed(f"~{key}").get(group, {})
    assert composed("~exp", "~preset", "~method") == composed()
    assert refusal("~nothing").startswith("nothing: unknown key; known keys: ")
    assert refusal("~constraint.fresco", "constraint=[]").startswith("constraint.fresco: ")


def test_a_prompt_is_read_as_utf8_whatever_the_locale() -> None:
    """In a locale without UTF-8 its bytes arrive as they are (PEP 383)."""
    undecoded = "油画 😀".encode().decode("ascii", "surrogateescape")
    assert composed(f"prompt={undecoded}")["prompt"] == "油画 😀"
    assert composed("prompt=café 😀")["prompt"] == "café 😀"
    for wrong in ("caf\udce9", "\ud800"):
        assert refusal(f"prompt={wrong}").startswith("prompt: is not UTF-8 text; ")


def test_a_reversed_window_names_the_constraint() -> None:
    message = refusal(
        "constraint=[shape]", "constraint.shape.start=0.8", "constraint.shape.stop=0.2"
    )
    assert message.startswith("constraint.shape")
    assert "0.8" in message


def test_choices_of_another_kind_are_refused() -> None:
    tree = composed()
    tree["flow"] = tree["sampler"]
    with pytest.raises(ConfigError, match=r"^flow: DDIM is not a FlowEstimator"):
        Job.of(tree)


# -- what a configuration may name ----------------------------------------------------------------

HOSTILE = [
    "os.system",
    "builtins.open",
    "pathlib.Path.unlink",
    "shutil.copy",
    "numpy.load",
    "torch.load",
    "torch.hub.load",
    "pandas.read_pickle",
    "urllib.request.urlopen",
    "this.does.not.exist",
    "logging.os.system",
    "rerender.files.put",
    "rerender.model.pretrained.hashlib",
    "rerender.sampler.ddim.DDIM.schedule",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_foreign_targets_are_refused_without_import(target: str) -> None:
    before = set(sys.modules)
    message = refusal(f"model._target_={target}")
    assert message.startswith("model._target_: ")
    assert "this" not in set(sys.modules) - before


@pytest.mark.parametrize(
    "argument",
    [
        "+hydra.callbacks.x._target_=os.system",
        "hydra.launcher._target_=os.system",
        "hydra.sweeper._target_=os.system",
        "hydra.run.dir=/tmp/elsewhere",
        "hydra.sweep.dir=/tmp/elsewhere",
        "hydra.sweep.subdir=../../up",
        "hydra.job.chdir=true",
        "+hydra.job.env_set.LD_PRELOAD=x",
        "+hydra.job_logging.handlers.file.filename=/tmp/log",
        "hydra/job_logging=default",
        "hydra.output_subdir=.hydra",
    ],
)
def test_hydra_itself_is_fixed(argument: str) -> None:
    assert refusal(argument).startswith("hydra")


def test_an_experiment_file_cannot_call_or_move_anything(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    for index, text in enumerate(
        (
            "hydra: {callbacks: {x: {_target_: os.system}}}",
            "hydra: {run: {dir: /tmp/elsewhere}}",
            "flow: {_target_: os.system}",
            "sampling: {_partial_: true}",
            "prompt: ${oc.env:HOME}",
            "prompt: ${oc.decode:x}",
            "prompt: ${now:%Y}",
            "prompt: ${${oc.env:HOME}}",
        )
    ):
        (tmp_path / "exp" / f"bad{index}.yaml").write_text(f"# @package _global_\n{text}\n")
        with pytest.raises(ConfigError):
            preflight([f"+exp=bad{index}"], str(tmp_path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x [1]\nb: *x", "alias"),
        ("a: " + "[" * 30 + "]" * 30, "deep"),
        ("# " + "x" * 70_000, "bytes"),
        ("seed: 1\nseed: 2", "twice"),
        ("a: [", "not YAML"),
        ("a: \t- x", "not YAML"),
    ],
)
def test_files_that_stall_or_mislead_are_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        preflight(["+exp=bad"], str(tmp_path))
    assert "bad.yaml" in caught.value.where


def test_the_allow_list_is_our_own_classes_and_reads_them_without_import() -> None:
    code = (
        "import sys; from rerender.config.allowlist import allowed; names = allowed();"
        "print('torch' in sys.modules, 'rerender.flow.dis.Dis' in names, len(names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, has_dis, count = done.stdout.split()
    assert (heavy, has_dis) == ("False", "True")
    assert int(count) == len(allowed())


# -- prompts --------------------------------------------------------------------------------------

NASTY = [
    "a cat, sitting",
    "x=y",
    "a 'quoted' \"prompt\"",
    'ends with \\ and \\"',
    "${oc.env:HOME}",
    "\\${x} \\\\${y} ${",
    "猫 🐈 ‮rtl",
    "100% {a} [b] (c) $HOME `id`",
    "</script><img onerror=x>",
    "=cmd()",
    "  spaces  ",
    "line\nbreak\ttab",
    "null hypothesis",
    "a,b|c;d&e#f~g!h@i:j",
]


@pytest.mark.parametrize("prompt", NASTY)
def test_a_prompt_arrives_as_it_was_typed(prompt: str) -> None:
    job = composed(f"prompt={prompt}", f"negative_prompt={prompt}")
    assert job["prompt"] == prompt
    assert job["negative_prompt"] == prompt
    assert job["data"]["prompt"] == prompt


@settings(max_examples=10, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40))
def test_any_prompt_arrives_as_it_was_typed(prompt: str) -> None:
    if not prompt.startswith(("'", '"', "choice(")) and prompt != "null":
        assert composed(f"prompt={prompt}")["data"]["prompt"] == prompt


def test_a_prompt_of_the_data_is_literal_too() -> None:
    assert composed("data.prompt=a cat, sitting")["data"]["prompt"] == "a cat, sitting"


def test_prompts_can_be_swept_over_in_quotes() -> None:
    jobs = sweep("prompt='a, b','c'").jobs
    assert [job["prompt"] for job in jobs] == ["a, b", "c"]
    assert [job["prompt"] for job in sweep("prompt=choice('a','b')").jobs] == ["a", "b"]


@pytest.mark.parametrize("prompt", [*NASTY, "'quoted'", "choice(a)", "null"])
def test_a_prompt_file_says_anything(prompt: str, tmp_path: Path) -> None:
    file = tmp_path / "prompt, 猫=1.txt"
    file.write_bytes(prompt.encode() + b"\n")
    job = composed(f'prompt_file="{file}"')
    assert job["prompt"] == job["data"]["prompt"] == prompt


def test_a_prompt_file_must_be_text_and_the_only_prompt(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        composed(f"prompt_file={tmp_path / 'missing'}")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        composed(f"prompt_file={tmp_path / 'bytes'}")
    (tmp_path / "text").write_text("a")
    with pytest.raises(ConfigError, match="two"):
        composed(f"prompt_file={tmp_path / 'text'}", "prompt=b")


# -- identity -------------------------------------------------------------------------------------


def test_the_key_changes_with_what_decides_the_result_and_with_nothing_else() -> None:
    base = key_of(composed())
    for same in ("out=x", "name=x", "tracker=none", "pictures=[keys,hole]", "debug=true"):
        assert key_of(composed(same)) == base, same
    for other in ("seed=1", "prompt=x", "sampling.steps=10", "constraint=[]", "data.frames=5"):
        assert key_of(composed(other)) != base, other


def test_a_configuration_survives_its_file() -> None:
    for prompt in NASTY:
        job = composed(f"prompt={prompt}")
        assert from_yaml(to_yaml(job)) == job


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_names_its_keys_once(choice: str) -> None:
    """YAML takes the last of two equal keys without a word."""

    def unique(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{choice}: a key is there twice"
        return loader.construct_mapping(node, deep=True)

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, unique)
    yaml.load((CONF / f"{choice}.yaml").read_text(), Loader)


# -- the command line is light --------------------------------------------------------------------


def answers(*arguments: str) -> Iterator[str]:
    code = (
        "import sys; from rerender.run import main; code = main(sys.argv[1:]);"
        "print('HEAVY', *[m for m in "
        "('torch', 'diffusers', 'wandb', 'cv2', 'pandas', 'transformers', 'av') "
        "if m in sys.modules]); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=250, env={**os.environ, "COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
    return iter(done.stdout.splitlines())


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--help"]])
def test_looking_at_the_configuration_loads_nothing_heavy(arguments: list[str]) -> None:
    lines = list(answers(*arguments))
    assert lines[-1] == "HEAVY"
    assert any("cross_frame" in line for line in lines)


def test_a_typo_is_refused_before_anything_heavy_is_loaded() -> None:
    code = (
        "import sys; from rerender.run import main; code = main(['seeed=1']);"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.stdout.split() == ["2", "False"]
    assert done.stderr == "error: seeed: unknown key; did you mean seed?\n"


def test_the_store_is_looked_into_without_anything_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from rerender.store.gc import main; code = main(['ls', sys.argv[1]]);"
        "print(code, [m for m in ('torch', 'cv2', 'av', 'hydra.utils') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.stdout.splitlines()[-1:] == ["3 []"], done


def test_targets_of_the_configuration_are_where_they_say() -> None:
    for choice in PARTS:
        text = (CONF / f"{choice}.yaml").read_text()
        node = yaml.safe_load(text)
        if "defaults" in node:  # another choice of the group, with other values
            continue
        targets = [node[TARGET]] if TARGET in node else [part[TARGET] for part in node.values()]
        assert all(target in allowed() for target in targets), choice


def test_the_jobs_of_an_experiment_are_known_beforehand() -> None:
    plan = sweep("+exp=propagation", "propagation=hold,warp", "seed=1,2")
    assert plan.name == plan.experiment == "propagation"
    chosen = [(job["propagation"][TARGET].rpartition(".")[2], job["seed"]) for job in plan.jobs]
    assert chosen == [("Hold", 1), ("Hold", 2), ("Warp", 1), ("Warp", 2)]
    assert [job["name"] for job in plan.jobs] == ["hold", "hold", "warp", "warp"]


def test_the_command_line_beats_an_experiment() -> None:
    (job,) = sweep("+exp=propagation", "propagation=warp", "seed=4", "keyframes.interval=3").jobs
    assert (job["seed"], job["keyframes"]["interval"]) == (4, 3)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("row", ["per_frame", "no_shape", "rerender_style", "fatezero"])
def test_a_preset_lies_over_rows_that_leave_a_constraint_out(preset: str, row: str) -> None:
    alone, job = composed(f"method={row}"), composed(f"preset={preset}", f"method={row}")
    assert [*job.get("constraint", ())] == [*alone.get("constraint", ())]
    assert jobs_of([job])


def test_settings_of_a_choice_that_is_not_made_are_said(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    composed("preset=paper", "method=no_shape")
    assert "constraint.shape: not chosen; its settings (start, stop) act on nothing" in caplog.text
    (tmp_path / "preset").mkdir()
    (tmp_path / "preset" / "mine.yaml").write_text(
        "# @package _global_\nconstraint: {shap: {stop: 0.1}}\n"
    )
    with pytest.raises(RerenderError, match="shap"):
        jobs_of(preflight(["preset=mine"], str(tmp_path)).jobs)
