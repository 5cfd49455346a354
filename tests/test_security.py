"""What strangers may not do: by a file of --config-dir, by a flag, by a name.

The sinks (settings that run, connect or write) are found by introspection: a new one is tried here
by being there.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import score
from experiments import report
from experiments.benchmark import __main__ as benchmark
from experiments.repro_command import command
from experiments.study import __main__ as study
from rerender import kinds, write_video
from rerender.config import foreign
from rerender.config.allowlist import TARGET, allowed
from rerender.config.compose import Composer, literal, preflight
from rerender.config.device import check_devices
from rerender.config.flags import PLAIN, SHORT, VALUES, WORDS, flags_of
from rerender.config.job import Job
from rerender.config.paths import CONF, ROOT
from rerender.config.settings import JOB, PROMPTS, literal_at, settings_of
from rerender.errors import ConfigError, RerenderError
from rerender.exits import Parser, failure
from rerender.jobs.sweep import jobs_of
from rerender.run import main

CANARY = "canary-of-the-environment"

# -- the list of sinks ----------------------------------------------------------------------------


def choices() -> Iterator[tuple[str, str, str, str]]:
    """(group, choice, place, class) of every class that a file of conf/ names."""
    for file in sorted(CONF.rglob("*.yaml")):
        group, name = file.parent.relative_to(CONF).as_posix(), file.stem
        node = yaml.safe_load(file.read_text()) or {}
        place = group.replace("/", ".")
        found = {place: node, **{f"{place}.{key}": part for key, part in node.items()}}
        for where, part in found.items():
            if isinstance(part, dict) and TARGET in part:
                yield group, name, where, part[TARGET]


def value_of(target: str, field: str) -> Any:
    """What a hostile file would say for a field."""
    module, _, name = target.rpartition(".")
    hint = get_type_hints(getattr(import_module(module), name), include_extras=True)[field]
    pending = [hint]
    while pending:
        one = pending.pop()
        if get_origin(one) is Literal:
            return get_args(one)[-1]  # the default comes first
        pending += get_args(one)
    return {"local_setup": ["touch pwned"]} if "Mapping[str, typing.Any]" in str(hint) else "e/vil"


def sinks() -> list[tuple[str, str, str, Any]]:
    """(group, choice, key, value) of every setting that only the command line may say."""
    found: dict[Any, Any] = {}
    for group, name, place, target in choices():
        for field, setting in settings_of(target).items():
            if setting.kind is not None and (setting.kind.fetched or not setting.kind.shared):
                value = value_of(target, field)
                if setting.mapping and not isinstance(value, dict):
                    value = {"canny": value}
                found.setdefault((target, field), (group, name, f"{place}.{field}", value))
    for field, setting in settings_of(JOB).items():
        if setting.kind is not None and not setting.kind.shared:
            found[(JOB, field)] = ("", "", field, "evil")
    return list(found.values())


SINKS = sinks()


def nested(key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if rest else value}


def write(folder: Path, name: str, tree: Any, package: str = "_global_") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# @package {package}\n{yaml.safe_dump(tree)}")


def chosen(group: str, name: str) -> list[str]:
    if not group:
        return []
    return [
        f"{group}=[{name}]" if group in ("control", "constraint", "metrics") else f"{group}={name}"
    ]


def test_the_list_of_sinks_holds_what_is_known_to_be_one() -> None:
    keys = {key for _, _, key, _ in SINKS}
    assert {
        "propagation.program",
        "hydra.launcher.more",
        "hydra.launcher.address",
        "tracker.mode",
        "flow.repo",
        "out",
        "store",
        "prompt_file",
        "model.path",
        "model.controlnets",
        "model.vae",
    } <= keys


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink[2])
def test_no_file_from_elsewhere_sets_a_sink(sink: Any, tmp_path: Path) -> None:
    """Not by an experiment, not under another package, not by an own choice, not by a sweep."""
    group, name, key, value = sink
    write(tmp_path, "exp/plain.yaml", nested(key, value))
    above, _, last = key.rpartition(".")
    if above:
        write(tmp_path, "exp/aside.yaml", {last: value}, package=above)
    flat = yaml.safe_dump(value, default_flow_style=True).replace("\n...", "").strip()
    sweep = {"hydra": {"sweeper": {"params": {key: flat.replace('"', "")}}}}
    write(tmp_path, "exp/swept.yaml", sweep)
    for file in sorted((tmp_path / "exp").glob("*.yaml")):
        with pytest.raises(ConfigError) as caught:
            preflight([*chosen(group, name), f"+exp={file.stem}"], str(tmp_path))
        assert "command line" in str(caught.value), caught.value
    if group and not group.startswith("hydra"):
        own = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
        inside = nested(key.removeprefix(f"{group}."), value)
        for part, said in inside.items():
            own[part] = {**own[part], **said} if isinstance(own.get(part), dict) else said
        (tmp_path / "exp" / "swept.yaml").unlink()
        write(tmp_path, f"{group}/mine.yaml", own, package=group)
        with pytest.raises(ConfigError, match="command line"):
            preflight(chosen(group, "mine"), str(tmp_path))


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink[2])
def test_the_command_line_sets_every_sink(sink: Any, tmp_path: Path) -> None:
    group, name, key, value = sink
    write(tmp_path, "exp/other.yaml", {"seed": 7})
    if isinstance(value, dict):
        ((inner, value),) = value.items()
        new = "+" if key.endswith("more") else ""
        key = f"{new}{key}.{inner}"
    said = f"{key}={value}".replace("'", "")
    if key == "prompt_file":
        (tmp_path / "prompt.txt").write_text("a cat")
        said = f"prompt_file={tmp_path / 'prompt.txt'}"
    sweep = preflight(literal([*chosen(group, name), "+exp=other", said]), str(tmp_path))
    assert sweep.jobs[0]["seed"] == 7


def test_our_own_experiments_and_choices_work_beside_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "exp/mine.yaml", {"defaults": ["smoke", {"override /model": "sd15"}]})
    write(
        tmp_path,
        "model/local.yaml",
        {
            TARGET: "rerender.model.pretrained.Pretrained",
            "path": "./w/sd15",
            "recommended": {"guidance": 3.0, "size": 64, "low": 1, "high": 2, "blur": 0.0},
        },
        package="model",
    )
    for said in (
        ["+exp=mine"],
        ["propagation=ebsynth"],
        ["tracker=wandb"],
        ["flow=raft"],
        ["model=local"],
        ["data=video", "data.path=a.mp4", "prompt=x"],
    ):
        assert preflight(literal(said), str(tmp_path)).jobs


def test_every_text_of_a_part_says_its_kind_and_is_read_alike_with_and_without_import() -> None:
    for _, _, _, target in choices():
        if target not in allowed():
            continue
        module, _, name = target.rpartition(".")
        cls = getattr(import_module(module), name)
        found = settings_of(target)
        assert {field.name for field in fields(cls) if field.init} <= set(found), target
        for field, setting in found.items():
            known = setting.kind is None or setting.kind.name != "unknown"
            assert known or (target, field) == ("rerender.launcher.submitit.Submitit", "more"), (
                f"{target}.{field}: annotate it with a kind of rerender.kinds"
            )


# -- folders of results from elsewhere -------------------------------------------------------------


def recorded(sink: Any) -> tuple[dict[str, Any], str, Any]:
    """A run's configuration that says the value of a sink, with its key and value."""
    group, name, key, value = sink
    tree = dict(preflight(["+exp=smoke", *chosen(group, name)]).jobs[0])
    node = tree
    *above, last = key.split(".")
    for part in above:
        node[part] = dict(node[part])
        node = node[part]
    node[last] = value
    return tree, key, value


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink[2])
def test_no_config_of_a_run_from_elsewhere_sets_a_sink(
    sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "_SAID", {})
    group, name, key, value = sink
    if group.startswith("hydra"):
        return  # not in a run's config.yaml
    if name == "gmflow":  # its settings have no defaults
        tree = dict(preflight(["+exp=smoke"]).jobs[0])
        tree["flow"] = {TARGET: "rerender.flow.gmflow.GmFlow", "repo": value, "weights": "w.pth"}
    else:
        tree = recorded(sink)[0]
        monkeypatch.setattr(foreign, "_SAID", {})
    with pytest.raises(ConfigError, match=key):
        foreign.check_recorded(tree, list(tree))
    foreign.check_recorded(tree, [key for key in tree if key not in (group, sink[2])])
    said = next(iter(value.values())) if isinstance(value, dict) else value
    parser = Parser()
    foreign.allowing(parser)
    inner = f".{next(iter(value))}" if isinstance(value, dict) else ""
    parser.parse_args(["--allow", f"{key}{inner}={said}"])
    foreign.check_recorded(tree, list(tree))


def test_a_command_that_reads_results_runs_no_code_that_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """config.yaml names a folder of code; only where the command line says the same is it run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(foreign, "_SAID", {})
    code = tmp_path / "code" / "gmflow"
    code.mkdir(parents=True)
    (code / "gmflow.py").write_text("from pathlib import Path\nPath('pwned').touch()\n")
    (code / "__init__.py").touch()
    (tmp_path / "w.pth").touch()
    tree = dict(preflight(["+exp=smoke", "data.frames=3", "data.size=32"]).jobs[0])
    video = Job.of(tree).data.clips()[0].video
    tree["flow"] = {TARGET: "rerender.flow.gmflow.GmFlow", "repo": "code", "weights": "w.pth"}
    run = tmp_path / "results" / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
    write_video(run / "video.mp4", (video[i] for i in range(3)), video)
    commands: list[tuple[Any, list[str], int]] = [
        (score.main, ["results"], 2),
        (report.main, ["results", "--score"], 0),
        (benchmark.main, ["budget", "results"], 2),
        (study.main, ["results"], 3),
    ]
    for command_of, given_, code_ in commands:
        assert command_of(given_) == code_
        assert not (tmp_path / "pwned").exists(), given_
    err = capsys.readouterr().err
    assert "flow.repo: 'code' is said by the config.yaml of a run" in err and "Traceback" not in err
    assert score.main(["results", "--allow", "flow.repo=code"]) == 4  # it is no GMFlow
    assert (tmp_path / "pwned").exists()


# -- Hydra's own settings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tree",
    [
        {"hydra": {"launcher": {"more": {"local_setup": ["touch pwned"]}}}},
        {"hydra": {"launcher": {TARGET: "os.system"}}},
        {"defaults": [{"override /hydra/launcher": "ray"}]},
        {"defaults": [{"override /hydra/launcher": "submitit_local"}]},
        {"hydra": {"callbacks": {"x": {TARGET: "os.system"}}}},
        {"hydra": {"run": {"dir": "/tmp/elsewhere"}}},
        {"hydra": {"sweep": {"dir": "/tmp/elsewhere"}}},
        {"hydra": {"searchpath": ["file:///etc"]}},
        {"hydra": {"job": {"chdir": True}}},
        {"hydra": {"help": {"template": "x"}}},
        {"hydra": {"verbose": True}},
        {"hydra": {"sweeper": {TARGET: "os.system"}}},
        {"hydra": {"sweeper": {"params": {"hydra.launcher.jobs": "3"}}}},
        {"hydra": {"sweeper": {"params": {"sampler": "glob(*)"}}}},
        {"hydra": {"sweeper": {"params": {"+hydra.launcher.address": "evil"}}}},
        {"defaults": [{"/data": "../../elsewhere"}]},
        {"defaults": ["/../elsewhere"]},
    ],
)
def test_files_from_elsewhere_leave_hydra_alone(tree: Any, tmp_path: Path) -> None:
    write(tmp_path / "dir", "exp/bad.yaml", tree)
    (tmp_path / "elsewhere.yaml").write_text("seed: 7\n")
    launcher = ["hydra/launcher=submitit_local"] if "more" in str(tree) else []
    with pytest.raises(ConfigError):
        preflight(["+exp=bad", *launcher], str(tmp_path / "dir"))


def test_files_from_elsewhere_may_sweep(tmp_path: Path) -> None:
    write(tmp_path, "exp/mine.yaml", {"hydra": {"sweeper": {"params": {"seed": "1,2"}}}})
    assert [job["seed"] for job in preflight(["+exp=mine"], str(tmp_path)).jobs] == [1, 2]
    with pytest.raises(ConfigError, match="one experiment"):
        preflight(["+exp=mine,smoke"], str(tmp_path))


# -- the environment ------------------------------------------------------------------------------

RESOLVERS = [
    "${oc.env:CANARY}",
    "${oc.env:CANARY,x}",
    "${oc.decode:x}",
    "${oc.create:x}",
    "${oc.dict.keys:sampling}",
    "${hydra:runtime.cwd}",
    "${hydra.runtime.cwd}",
    "${oc.select:hydra.runtime.cwd}",
    "${${oc.env:CANARY}}",
    "${.${oc.env:CANARY}}",
    "a ${oc.env:CANARY} b",
    "${ oc.env:CANARY }",
    "${oc.select:x,${oc.env:CANARY}}",
    "\\\\${oc.env:CANARY}",
]
SHOWN = [
    [],
    ["--help"],
    ["--cfg", "job"],
    ["--cfg", "job", "--resolve"],
    ["--cfg", "all"],
    ["--info"],
    ["--info", "defaults"],
    ["--hydra-help"],
    ["--dry"],
]


@pytest.mark.parametrize("text", RESOLVERS)
def test_no_value_of_the_environment_is_shown(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.chdir(tmp_path)
    files = {
        "defaults": {"defaults": [{"/data": text}]},
        "value": {"seed": text},
        "key": {text: 1},
        "list": {"pictures": [text]},
        "param": {"hydra": {"sweeper": {"params": {"seed": text}}}},
    }
    for name, tree in files.items():
        write(tmp_path / name, "exp/bad.yaml", tree)
    for said in ([f"seed={text}"], [f"+x={text}"], [f"data={text}"], [f"pictures=[{text}]"]):
        assert main([*said, "--cfg", "job", "--resolve"]) == 2
    for name in files:
        for shown in SHOWN if name == "defaults" else SHOWN[3:4]:
            assert main(["+exp=bad", *shown, "--config-dir", name]) == 2
    out, err = capsys.readouterr()
    assert out == "" and CANARY not in err and "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


# -- folders and files of configurations ----------------------------------------------------------


def test_a_name_that_no_file_can_have_is_no_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"+{'a' * 300}=1", "--dry"]) == 2
    assert main(["--config-dir=", "--dry"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"[1, 2]\n", "holds no settings"),
        (b"- seed: 1\n", "holds no settings"),
        (b"just words\n", "holds no settings"),
        (b"seed: !!python/object/apply:os.system [ls]\n", "uses a tag"),
        (b"seed: !!int 3\n", "uses a tag"),
        (b"seed: !mine 3\n", "uses a tag"),
        (b"1: 2\n", "name is not a word"),
        (b"seed: {true: 2}\n", "name is not a word"),
        (b"? [a]\n: 2\n", "name is not a word"),
        (b"<<: {seed: 1}\n", "name is not a word"),
        (b"seed: 1\n---\nseed: 2\n", "not YAML"),
        (b"seed: 2001-99-99\n", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"seed: " + b"9" * 5000, "not YAML"),
        (b"seed\t: 1\n", "not YAML"),  # libyaml takes a tab there
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(
    text: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "bad.yaml").write_bytes(text)
    for said in (["--dry"], ["+exp=bad", "--cfg", "job"]):
        assert main([*said, "--config-dir", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert says in err and "bad.yaml" in err and err.count("\n") == 1


def a_file(place: Path) -> None:
    (place / "dir").write_text("seed: 1")


def wrong_suffix(place: Path) -> None:
    write(place / "dir", "exp/x.yml", {"seed": 1})


def loud_suffix(place: Path) -> None:
    write(place / "dir", "exp/x.YAML", {"seed": 1})


def link_out(place: Path) -> None:
    write(place, "secret.yaml", {"seed": 1})
    (place / "dir").mkdir()
    (place / "dir" / "x.yaml").symlink_to(place / "secret.yaml")


def folder_out(place: Path) -> None:
    write(place / "other", "x.yaml", {"seed": 1})
    (place / "dir").mkdir()
    (place / "dir" / "exp").symlink_to(place / "other")


def too_many(place: Path) -> None:
    (place / "dir").mkdir()
    for index in range(1001):
        (place / "dir" / f"{index}.yaml").write_text("a: 1\n")


def ours_again(place: Path) -> None:
    write(place / "dir", "model/sd15.yaml", {"path": "x"})


def primary_again(place: Path) -> None:
    write(place / "dir", "config.yaml", {"seed": 1})


def own_launcher(place: Path) -> None:
    write(place / "dir", "hydra/launcher/basic.yaml", {TARGET: "os.system"})


def a_pipe(place: Path) -> None:
    (place / "dir").mkdir()
    os.mkfifo(place / "dir" / "x.yaml")


@pytest.mark.parametrize(
    "case",
    [
        lambda place: None,
        a_file,
        wrong_suffix,
        loud_suffix,
        link_out,
        folder_out,
        too_many,
        ours_again,
        primary_again,
        own_launcher,
        a_pipe,
    ],
)
def test_a_folder_that_is_no_folder_of_configurations_is_one_line(
    case: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case(tmp_path)
    assert main(["--config-dir", str(tmp_path / "dir"), "--dry"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1, err


def test_a_folder_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        preflight([], str(tmp_path))
    monkeypatch.undo()
    write(tmp_path, "exp/x.yaml", {"seed": 1})
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        preflight([], str(tmp_path))


def test_a_folder_of_any_name_is_searched(tmp_path: Path) -> None:
    folder = tmp_path / "my, configs [1] ${x} 猫='q'"
    write(folder, "exp/mine.yaml", {"seed": 7})
    assert preflight(["exp=mine"], str(folder)).jobs[0]["seed"] == 7
    with pytest.raises(ConfigError, match="did you mean mine"):
        preflight(["exp=mime"], str(folder))


# -- flags ----------------------------------------------------------------------------------------


def hydra_flags() -> list[str]:
    from hydra._internal.utils import get_args_parser

    return [name for action in get_args_parser()._actions for name in action.option_strings]


KNOWN = {*PLAIN, *WORDS, *VALUES, *SHORT}
REFUSED = [name for name in hydra_flags() if name not in KNOWN]


@pytest.mark.parametrize(
    "flag",
    [
        *REFUSED,
        "--experimental",
        "--conf",
        "--config",
        "--re",
        "-x",
        "--",
        "-",
        "--dry=1",
        "--multi",
        "-mm",
        "--cfg=x",
        "--info=x",
    ],
)
def test_a_flag_that_is_not_listed_is_one_line(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for said in (
        [flag, "x"],
        ["+exp=smoke", flag],
        [f"{flag}=x"],
        ["seed=1", flag, "--cfg", "job"],
    ):
        assert main(said) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir())


def test_the_flag_that_unpickles_is_among_the_refused() -> None:
    assert {"--experimental-rerun", "--config-path", "-cp", "--shell-completion"} <= set(REFUSED)


@pytest.mark.parametrize(
    ("flag", "cure"),
    [
        ("--seed=1", "write seed=1"),
        ("--data.path=a.mp4", "write data.path=a.mp4"),
        ("--negative-prompt=x", "write negative_prompt=x"),
        ("--exp=smoke", "write exp=smoke"),
        ("--sampling.steps", "write sampling.steps=VALUE"),
        ("--dri", "did you mean --dry?"),
    ],
)
def test_a_setting_that_is_written_as_a_flag_gets_its_cure(flag: str, cure: str) -> None:
    with pytest.raises(ConfigError, match=cure.replace("?", r"\?")):
        flags_of([flag])


def test_flags_stand_anywhere() -> None:
    for said in (
        ["+exp=x", "--config-dir", "D", "--dry"],
        ["--dry", "--config-dir=D", "+exp=x"],
        ["-cd", "D", "+exp=x", "--dry", "-m"],
    ):
        flags = flags_of(said)
        assert (flags.overrides, flags.config_dir, flags.dry) == (("+exp=x",), "D", True)


@pytest.mark.parametrize(
    "argument",
    ["hydra.sweeper.params={seed:1}", "hydra.sweeper.params.seed=1,2", "hydra.verbose=true",
     "hydra.searchpath=[file:///etc]", "hydra.job.name=x", "hydra={}", "~hydra", "~hydra.launcher",
     "hydra/sweeper=basic", "hydra/help=default", "hydra.help.template=x", "hydra.launcher={}",
     "hydra/launcher=joblib,ray", "hydra.launcher.jobs=1,2", "hydra/launcher=glob(*)",
     "hydra/launcher@x=joblib", "data@hydra.launcher=demo", "sampler=glob(*)", "metrics=glob(*)",
     "sampler=range(1,3)", "sampler=interval(0,1)", "seed=interval(0,1)", "seed=glob(*)",
     "model=../conf/model/demo", "+exp=/etc/passwd", "flow=[dis]", "control={a:1}", "seed=seed",
     "seed=range(0,100000000)", "seed=1" + "0" * 5000, "seed=" + "[" * 3000, "=x", "x", "", "+",
     "seed=${seed}", "+seed.x=1", "sampling={1:2}", "sampling=3", "data=null", "data={}",
     "out=" + "a" * 300, "out=" + "a/" * 3000, "out=", "data=video,folder", "sampling.steps=[1,2]",
     "name=" + "猫" * 100],
)  # fmt: skip
def test_a_hostile_setting_is_one_line(
    argument: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([argument, "model=tiny", "--dry"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text("seed=data.pth[]{}()'\"\\$,+~:@/ \n*1猫-", max_size=12), max_size=2))
def test_nothing_that_is_typed_is_a_bug_of_ours(arguments: list[str]) -> None:
    try:
        flags = flags_of(arguments)
        jobs_of(Composer(literal(flags.overrides)).sweep().jobs)
    except RerenderError as error:
        assert error.exit_code in (2, 3)


# -- names and paths ------------------------------------------------------------------------------

NAMES = ["猫 (1).mp4", "it's.mp4", "a=b.mp4", "a[1].mp4", "a,b.mp4", "${x}.mp4", "#.mp4", " a.mp4",
         "a.mp4 ", "null", "NULL", "true", "123", "1e5", "a\\.mp4", "\\${x}", '"half.mp4', "'half",
         "it's, it's", "choice(a,b).mp4", "{a: b}", "a\nb\t.mp4", "${oc.env:HOME}", "~b", "%20",
         "a:b", "*.mp4", "-x", "e\u0301", "ends with \\", "[a]", "a@b", "!x", "&x", "-",
         "a;b|c"]  # fmt: skip
LITERAL = sorted(
    {
        f"{place}.{field}" + (".canny" if setting.mapping else "")
        for _, _, place, target in choices()
        for field, setting in settings_of(target).items()
        if setting.kind is not None and setting.kind.literal and target in allowed()
    }
    | {field for field, s in settings_of(JOB).items() if s.kind and s.kind.literal}
)


def test_the_literal_keys_are_those_that_name_files_and_texts() -> None:
    assert {"out", "store", "prompt_file", "prompt", "data.path", "data.prompts", "data.prompt",
            "model.path", "model.vae", "model.controlnets.canny", "flow.weights", "flow.repo",
            "control.hed.path", "metrics.dino.weights", "propagation.program", "tracker.project",
            "hydra.launcher.address"} <= set(LITERAL)  # fmt: skip
    for plain in ("seed", "data.motion", "data.shard", "model.device", "data.frames", "name"):
        assert literal_at(plain) is None, plain


@pytest.mark.parametrize("key", LITERAL)
def test_every_literal_key_takes_any_name_as_it_is_typed(key: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    setting = literal_at(key)
    assert setting is not None
    for name in NAMES:
        (argument,) = literal([f"{key}={name}"])
        value = OverridesParser.create().parse_override(argument).value()
        arrived = OmegaConf.to_container(OmegaConf.create({"v": value}), resolve=True)
        expected = None if name == "null" and setting.optional else name
        assert arrived == {"v": expected}, name


@pytest.mark.parametrize("name", NAMES[:8])
def test_a_file_of_any_name_arrives(name: str) -> None:
    (tree,) = preflight(literal(["data=video", f"data.path={name}", "prompt=x"])).jobs
    assert tree["data"]["path"] == name
    assert str(Job.of(tree).data.path) == name  # type: ignore[attr-defined]


def test_paths_in_quotes_are_a_sweep() -> None:
    said = ["data=video", "prompt=x", "data.path='a, b.mp4','c.mp4'"]
    assert [job["data"]["path"] for job in preflight(literal(said)).jobs] == ["a, b.mp4", "c.mp4"]
    said[2] = 'data.path=choice("a","b")'
    assert [job["data"]["path"] for job in preflight(literal(said)).jobs] == ["a", "b"]


@pytest.mark.parametrize(
    ("typed", "prompts"),
    [
        ('"hello" she said', ['"hello" she said']),
        ("'tis", ["'tis"]),
        ("'a cat','a dog'", ["a cat", "a dog"]),
        ("'a cat', he said", ["'a cat', he said"]),
        ("'a','b' and c", ["'a','b' and c"]),
        ("'a ${x}','b'", ["a ${x}", "b"]),
        ('"quoted"', ["quoted"]),
        ("choice('a','b')", ["a", "b"]),
        ("choice(a, b)", ["choice(a, b)"]),
        ("''", [""]),
    ],
)
def test_quotes_are_a_sweep_only_where_all_is_quoted(typed: str, prompts: list[str]) -> None:
    jobs = preflight(literal([f"prompt={typed}"])).jobs
    assert [job["prompt"] for job in jobs] == prompts


QUOTED = [*NAMES, "'quoted'", '"a","b"', "choice('a','b')", "'a' \\"]


@pytest.mark.parametrize("first", range(0, len(QUOTED), 6))
def test_a_command_repeats_any_path_and_prompt(first: int) -> None:
    prompt, path, weights, vae, net, folder = (QUOTED * 2)[first : first + 6]
    (tree,) = preflight(["data=video", "data.path=x", "prompt=x", "flow=raft", "model=sd15"]).jobs
    tree = {
        **tree,
        "prompt": prompt,
        "data": {**tree["data"], "path": path, "prompt": prompt},
        "flow": {**tree["flow"], "weights": weights},
        "model": {
            **tree["model"],
            "vae": vae,
            "controlnets": {**tree["model"]["controlnets"], "canny": net},
        },
        "store": folder,
    }
    said = command(tree)
    assert said is not None
    (again,) = preflight(literal(shlex.split(said)[3:])).jobs
    assert again == tree


def test_a_home_is_written_out_wherever_a_path_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "prompt.txt").write_text("a cat")
    write(tmp_path / "dir", "exp/mine.yaml", {"data": {"path": "~/in.mp4"}})
    said = ["data=video", "exp=mine", "out=~/out", "store=~/s", "prompt_file=~/prompt.txt"]
    flow = [
        "flow=raft",
        "flow.weights=~/w.pth",
        "model=sd15",
        "model.vae=~/vae",
        "model.controlnets.canny=~/canny",
    ]
    (tree,) = preflight(literal([*said, *flow]), str(tmp_path / "dir")).jobs
    job = Job.of(tree)
    assert job.prompt == "a cat"
    assert (job.out, job.store) == (tmp_path / "out", tmp_path / "s")
    assert job.data.path == tmp_path / "in.mp4"  # type: ignore[attr-defined]
    assert job.parts.flow.weights == tmp_path / "w.pth"  # type: ignore[attr-defined]
    assert job.model.vae == str(tmp_path / "vae")  # type: ignore[attr-defined]
    assert job.model.controlnets["canny"] == str(tmp_path / "canny")  # type: ignore[attr-defined]
    from rerender.store.run_identity import place

    assert place(tree, "x") == tmp_path / "out"
    assert kinds.expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")


# -- sweeps, devices, terminals, caches -----------------------------------------------------------


def test_equal_jobs_are_one() -> None:
    equal = [
        "seed=5,5",
        "seed=5,+5",
        "sampling.strength=0.5,5e-1",
        "constraint=[],[]",
        "prompt='a','a'",
    ]
    for said in ([one] for one in equal):
        sweep = preflight(literal(said))
        assert (len(sweep.jobs), sweep.repeated) == (1, 1), said
    sweep = preflight(["seed=1,2,1"])
    assert [job["seed"] for job in sweep.jobs] == [1, 2] and sweep.repeated == 1


@pytest.mark.parametrize("said", ["tracker=none,wandb", "out=a,./a", "debug=true,false"])
def test_jobs_that_would_share_a_folder_are_refused(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quoted = said.replace("out=a,./a", "out='a','./a'")
    assert main([quoted, "seed=1", "model=tiny", "--dry"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("key", ["model.device", "sampling.keep_device"])
def test_a_device_that_is_not_here_is_refused_first(key: str) -> None:
    (tree,) = preflight([f"{key}=cpu"]).jobs
    check_devices(Job.of(tree))
    part, _, field = key.partition(".")
    for device in ("cuda:9", "tpu", "meta", "cuda:", "cuda:x", "cpu:1", "", "xla"):
        with pytest.raises(ConfigError, match=key):
            check_devices(Job.of({**tree, part: {**tree[part], field: device}}))


def test_every_device_is_found_by_its_kind() -> None:
    names = [
        f"{target}.{field}"
        for target in sorted(allowed())
        for field, setting in settings_of(target).items()
        if "device" in field and setting.kind is not None
    ]
    assert {
        "rerender.model.pretrained.Pretrained.device",
        "rerender.config.sampling.Sampling.keep_device",
    } <= {*names}
    for name in names:
        target, _, field = name.rpartition(".")
        kind = settings_of(target)[field].kind
        assert kind is not None and kind.name == "device", name


def test_a_terminal_that_is_not_utf_8_loses_letters_and_no_run(tmp_path: Path) -> None:
    code = (
        "import sys; from rerender.exits import command, report\n"
        "def run(given): sys.stdout.write('猫 é\\n'); report('猫')\n"
        "sys.exit(command(run, []))\n"
    )
    for encoding in ("ascii", "latin-1:strict", "utf-8"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        assert (b"?" in done.stdout) == (encoding != "utf-8")
        assert done.stderr.startswith(b"error: ")


def test_loops_work_where_their_compiled_form_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from numba.core.caching import CacheImpl

    from rerender import compiled as loops
    from rerender.compiled import compiled, reassociated, warn_unkept

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(loops, "_unkept", [])  # what this process says at its end stays as it was
    assert compiled(lambda number: number + 1)(2) == 3
    assert reassociated(lambda number: number + 1)(2.0) == 3.0
    warn_unkept()
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_prompts_are_told_by_their_names() -> None:
    source = (ROOT / "rerender" / "config" / "job.py").read_text()
    names = {
        node.target.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert set(PROMPTS) <= names


def test_help_and_info_know_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "my, dir", "exp/mine.yaml", {"seed": 77})
    for shown in (["--help"], ["--cfg", "job"], ["--info", "config"]):
        assert main([*shown, "exp=mine", "--config-dir", str(tmp_path / "my, dir")]) == 0
        assert "seed: 77" in capsys.readouterr().out


def test_a_reader_who_goes_away_is_no_bug_of_ours() -> None:
    code, message = failure(BrokenPipeError(32, "Broken pipe"))
    assert code == 5 and message.startswith("output: ")
