"""The report page: whatever is missing or hostile, it stands, says so, runs only its own code."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eval import score_files
from eval.score import main as score_main
from eval.score_files import Score
from experiments import experiment
from experiments.report import build, main, render
from experiments.report_data import Study
from experiments.repro_command import command
from rerender import files
from rerender.codec import encode
from rerender.config.compose import preflight
from rerender.config.job import to_yaml
from rerender.config.table import TableSpec
from rerender.data.demo import Demo
from rerender.errors import InputError
from rerender.run_folder import SCORES
from rerender.video import MemoryVideo
from tests.experiments import browser
from tests.experiments.payloads import PAYLOADS

CLIP = "demo-slow-1000000"
DATA = ("data.frames=12", "data.size=64")
needs_chromium = pytest.mark.skipif(browser.BINARY is None, reason="chromium is not installed")


def demo() -> list[Tensor]:
    (clip,) = Demo(frames=12, size=64).clips()
    return [clip.video[i] for i in range(12)]


def put_video(path: Path, frames: list[Tensor]) -> None:
    with files.writing(path) as file:
        encode(frames, MemoryVideo(frames), file)


def put_run(folder: Path, *settings: str) -> None:
    """A finished run: its configuration, its video, a kept picture."""
    (tree,) = preflight([*DATA, *settings]).jobs
    files.put(folder / "config.yaml", to_yaml(tree).encode())
    put_video(folder / "video.mp4", [1 - frame for frame in demo()])
    files.put(folder / "keys" / "000000.png", files.png(demo()[0]))
    files.put_json(
        folder / "metrics.json", {"seconds": {"load": 1.0, "score": 9.0}, "clips": [{"frames": 10}]}
    )


class Parsed(HTMLParser):
    """Counts what could run or load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.active: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in ("style", "srcdoc", "formaction", "http-equiv"):
                self.active.append(f"{tag} {name}")
            if name in ("src", "href", "action") and not re.match(r"#|media/", value or ""):
                self.active.append(f"{tag} {name}={value}")


def hostile() -> Study:
    """Every payload in every place a text can come from."""
    study = Study([])
    for text in PAYLOADS:
        study.clips.append({"name": text, "prompt": text, "times": [0.0, 0.04], "end": 0.08})
        entry = {"method": text, "clip": text, "seed": 1, "label": text, "floor": False}
        paths: dict[str, object] = {
            "file": None,
            "slice": None,
            "sheet": None,
            "small": True,
            "maps": {},
        }
        study.entries.append({**entry, **paths, "curves": {text: [1.0, 2.0]}})
        study.scores.append(Score(text, text, 1, text, text, 1.0, 1, text, text, text, (1.0, 2.0)))
        study.scores.append(Score(text, text, 1, f"{text}!", text, None, 0, text))
        study.failed.append({"name": text, "reason": text})
        study.runs.append({"name": text, "command": text, "config": text})
    return study


def test_hostile_texts_stay_texts() -> None:
    assert len(set(PAYLOADS)) >= 40
    plain, attacked = Parsed(render(Study([]), "x")), Parsed(render(hostile(), PAYLOADS[0]))
    assert attacked.active == plain.active == ["meta http-equiv"]
    # Only what the page itself repeats for each run, row and clip may be more than before.
    own = {"section", "main", "button", "canvas", "input", "select", "option", "label", "output"}
    assert attacked.tags.count("script") == 3 == plain.tags.count("script")
    for tag in {*attacked.tags} - {*plain.tags} - own:
        assert tag in {"b", "kbd", "small", "pre", "div", "span", "img", "h3"}, tag
    assert not {"iframe", "object", "embed", "base", "form", "svg", "math"} & {*attacked.tags}


def test_hostile_data_is_one_json_block() -> None:
    page = render(hostile(), "x")
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert [clip["name"] for clip in json.loads(block)["clips"]] == list(PAYLOADS)


def test_the_policy_allows_only_the_page_itself() -> None:
    page = render(Study([]), "x")
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    text = policy[1].replace("&#39;", "'")
    assert text.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in text and "http" not in text and "*" not in text
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_an_empty_folder(tmp_path: Path) -> None:
    page = build(tmp_path).read_text()
    assert "no finished videos" in page and "Nothing has been scored" in page
    assert "Published, another protocol: Rerender A Video" in page
    with pytest.raises(InputError, match="is not a folder"):
        build(tmp_path / "none")
    assert main([str(tmp_path / "none")]) == 3


def test_failed_unscored_and_broken_runs_are_listed(tmp_path: Path) -> None:
    put_run(tmp_path / "fine-00000000")
    for name, log in (("stopped", ""), ("failed", "2026 ERROR data.path: is <b>missing</b>\n")):
        (tree,) = preflight(list(DATA)).jobs
        files.put(tmp_path / name / "config.yaml", to_yaml(tree).encode())
        files.put(tmp_path / name / "run.log", log.encode())
    files.put(tmp_path / "rival" / f"{CLIP}.mp4", b"not a video")
    page = build(tmp_path).read_text()
    assert "data.path: is &lt;b&gt;missing&lt;/b&gt;" in page
    assert "not finished; the same command goes on" in page
    assert f"{CLIP}.mp4" in page and "3 failed" in page
    assert "3 videos, 3 methods, 1 clip, 0 scores" in page  # source, truth, fine


def test_methods_stand_as_they_were_swept(tmp_path: Path) -> None:
    for name in ("alpha", "zeta"):
        put_run(tmp_path / f"{name}-00000000", f"name={name}")
    experiment.write(tmp_path, None, ("zeta-00000000", "alpha-00000000"))
    labels = r'"label": ?"(alpha|zeta|source)"'
    assert re.findall(labels, build(tmp_path).read_text()) == ["source", "zeta", "alpha"]


def test_methods_are_called_as_in_the_tables(tmp_path: Path) -> None:
    put_run(tmp_path / "alpha-00000000", "name=alpha")
    table = TableSpec(reference="alpha", primary=("warp_error",), rows={"alpha": "Alpha, K=1"})
    experiment.write(tmp_path, table, ("alpha-00000000",))
    labels = r'"label": ?"([^"]*)"'
    assert re.findall(labels, build(tmp_path).read_text()) == [
        "source",
        "true translation",
        "Alpha, K=1",
    ]


def test_the_trade_off_is_named_as_in_the_tables(tmp_path: Path) -> None:
    """Rows of which none is better in both, in the order of the sweep; metrics as printed."""
    for name in ("zeta", "alpha"):
        put_run(tmp_path / f"{name}-00000000", f"name={name}")
    rows = {"alpha": "Alpha, K=1", "zeta": "Zeta, K=9"}
    table = TableSpec(reference="alpha", primary=("warp_error",), rows=rows)
    experiment.write(tmp_path, table, ("zeta-00000000", "alpha-00000000"))
    values = {"alpha": (0.9, 0.002), "zeta": (0.8, 0.001), "rival": (0.7, 0.003)}
    scores = [
        Score(CLIP, method, 0, metric, "1", value, 12, "", direction)
        for method, both in values.items()
        for metric, direction, value in zip(
            ("clip_score_demo", "warp_error"), ("higher", "lower"), both, strict=True
        )
    ]
    score_files.write(tmp_path / SCORES, scores)
    page = build(tmp_path).read_text()
    assert "(CLIP score (demo), warp error; by means alone): Zeta, K=9; Alpha, K=1." in page
    assert '"label": "CLIP score (demo)"' in page


def test_rivals_without_any_run_of_ours(tmp_path: Path) -> None:
    for index, frame in enumerate(demo()):
        files.put(tmp_path / "rival" / "cat" / f"{index}.png", files.png(frame))
    page = build(tmp_path).read_text()
    assert "1 video, 1 method, 1 clip" in page


def test_hostile_folder_names(tmp_path: Path) -> None:
    names = [text for text in PAYLOADS if "/" not in text and len(text) < 200]
    for text in names[:6]:
        files.put(tmp_path / text / text / "0.png", files.png(demo()[0]))
    parsed = Parsed(build(tmp_path).read_text())
    assert parsed.active == ["meta http-equiv"] and parsed.tags.count("script") == 3
    assert len(list((tmp_path / "report" / "media").iterdir())) == 3  # equal content, one file each


def test_again_is_the_same_page_and_makes_nothing_twice(tmp_path: Path) -> None:
    put_run(tmp_path / "a-00000000")
    page = build(tmp_path)
    first, media = page.read_bytes(), sorted((page.parent / "media").iterdir())
    times = [path.stat().st_mtime_ns for path in media]
    assert build(tmp_path).read_bytes() == first
    assert sorted((page.parent / "media").iterdir()) == media
    assert [path.stat().st_mtime_ns for path in media] == times


def many(count: int) -> Study:
    names = [f"run {index:03d}" for index in range(count)]
    study = Study(
        [Score("c", name, 0, "m", "1", 0.5, 2, "", "lower", "1", (0.4, 0.6)) for name in names]
    )
    study.clips.append({"name": "c", "prompt": "p", "times": [0.0, 0.04], "end": 0.08})
    paths: dict[str, object] = {
        "file": None,
        "slice": None,
        "sheet": None,
        "small": True,
        "maps": {},
    }
    study.entries += [
        {"method": name, "clip": "c", "seed": 0, "label": name, "floor": False, **paths}
        | {"curves": {"m": [0.4, 0.6]}}
        for name in names
    ]
    return study


def test_500_runs() -> None:
    page = render(many(500), "many")
    assert page.count('<th scope="row">run ') == 500 and "500 videos, 500 methods" in page


@needs_chromium
def test_500_runs_and_hostile_names_in_a_browser(tmp_path: Path) -> None:
    (tmp_path / "many.html").write_text(render(many(500), "many"))
    (tmp_path / "hostile.html").write_text(render(hostile(), PAYLOADS[0]))
    with browser.chromium(tmp_path / "profile") as page:
        page.open(tmp_path / "many.html")
        assert page.run("document.querySelectorAll('.chip').length") == 60
        page.run("filter.value = 'run 49'; filter.dispatchEvent(new Event('input'))")
        assert page.run("document.querySelectorAll('.chip').length") == 10
        for width in (1280, 400):
            page.open(tmp_path / "hostile.html", width)
            for number in range(len(PAYLOADS)):
                page.run(f"clip.value = '{number}'; clip.dispatchEvent(new Event('change'))")
            assert page.run("window.owned === undefined")
            assert page.run("document.documentElement.scrollWidth") <= width
        assert (page.errors, page.requests) == ([], [])


@needs_chromium
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    put_run(tmp_path / "ours-00000000")
    for index, frame in enumerate(demo()):
        files.put(tmp_path / "rival" / CLIP / f"{index}.png", files.png(frame.flip(2)))
    files.put(tmp_path / "rival" / CLIP / "notes.txt", b"")
    assert score_main([str(tmp_path), *DATA, "metrics=[warp_error,flicker,structure]"]) == 0
    assert score_files.read(tmp_path / SCORES)
    path = build(tmp_path)
    with browser.chromium(tmp_path / "profile") as page:
        for width in (1280, 400):
            page.open(path, width)
            ready = "[...document.querySelectorAll('#players video')]"
            page.wait(f"{ready}.length === 4 && {ready}.every(v => v.readyState >= 2)")
            assert page.run("document.documentElement.scrollWidth") <= width
            step_and_scrub(page)
            play_and_pause(page)
            compare_and_switch(page)
        assert (page.errors, page.requests) == ([], [])


def frame_at(page: browser.Page) -> str:
    return str(page.run("document.getElementById('at').textContent"))


def together(page: browser.Page, time: float) -> None:
    """All videos stand at a time."""
    page.wait(
        "[...document.querySelectorAll('#players video')]"
        f".every(v => !v.seeking && Math.abs(v.currentTime - {time}) < 0.02)"
    )


def step_and_scrub(page: browser.Page) -> None:
    for key, frame in (("End", 11), ("ArrowLeft", 10), ("Home", 0), ("ArrowRight", 1)):
        page.key(key)
        assert frame_at(page).startswith(f"frame {frame} of 11,")
        together(page, (frame + 0.5) / 25)
    page.run("scrub.value = 6; scrub.dispatchEvent(new Event('input'))")
    assert frame_at(page) == "frame 6 of 11, 0.24 s"
    together(page, 0.26)
    page.click(".u-over")
    assert frame_at(page).startswith(("frame 5 ", "frame 6 "))
    page.click("#next")
    page.click("#back")
    assert page.run("document.querySelector('.slice b').style.top !== ''")


def play_and_pause(page: browser.Page) -> None:
    page.key("Home")
    page.run("speed.value = '0.25'; speed.dispatchEvent(new Event('change'))")
    page.click("#play")
    page.wait("document.getElementById('play').textContent === 'Pause'")
    page.wait("Number(scrub.value) >= 2")
    page.click("#play")
    page.wait("[...document.querySelectorAll('video')].every(v => v.paused)")
    assert page.run("document.getElementById('play').textContent") == "Play"


def compare_and_switch(page: browser.Page) -> None:
    page.key("d", "d")
    assert page.run("[mode.value, document.getElementById('wipe-label').hidden]") == [
        "difference",
        True,
    ]
    page.key("w", "w")
    page.click("#compare")
    assert 400 < page.run("Number(wipe.value)") < 600
    page.run("metric.value = 'flicker'; metric.dispatchEvent(new Event('change'))")
    assert page.run("document.querySelectorAll('#plot canvas').length") == 1
    page.key("1", "1")
    assert page.run("b.selectedOptions[0].textContent") == "source"
    page.click(".chip:nth-child(4)")
    assert page.run("document.querySelectorAll('#players video').length") == 3
    page.click(".chip:nth-child(4)")
    page.wait("document.querySelectorAll('#players video').length === 4")
    assert page.run("document.querySelector('#maps img').getAttribute('src')").startswith("media/")


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["data.frames=7", "seed=3"],
        ["flow=truth", "propagation=hold", "control=[]", "metrics=[warp_error,clip_demo]"],
        ["constraint=[]", "sampling.steps=7", "sampling.strength=null", "model=demo"],
        ["model=demo_natural", "model.clip_skip=1", "data=video", "data.path=x.mp4", "prompt=oil"],
        ["data.seeds=[1000003,1000004]", "metrics.warp_error.span=2.0", "pictures=[keys,flow]"],
    ],
)
def test_the_command_composes_the_same_run(settings: list[str]) -> None:
    (tree,) = preflight(settings).jobs
    said = command(tree)
    assert said is not None and said.startswith("python -m rerender.run")
    assert again(said) == aside(tree)


@pytest.mark.parametrize("text", [PAYLOADS[4], PAYLOADS[33], 'a cat, "sitting"', "'x' ${y}"])
def test_prompts_survive_the_command(text: str) -> None:
    (tree,) = preflight([]).jobs
    tree = {**tree, "prompt": text, "data": {**tree["data"], "prompt": text}}
    said = command(tree)
    assert said is not None and again(said) == aside(tree)


def again(said: str) -> dict[str, object]:
    import shlex

    from rerender.config.compose import literal

    return aside(preflight(literal(shlex.split(said)[3:])).jobs[0])


def aside(tree: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in tree.items() if key not in ("out", "name", "tracker")}


def test_a_configuration_of_another_version_has_no_command() -> None:
    (tree,) = preflight([]).jobs
    assert command({**tree, "sampler": {"_target_": "rerender.sampler.gone.Gone"}}) is None


def test_media_of_an_odd_video(tmp_path: Path) -> None:
    for index in range(2):
        files.put(tmp_path / "m" / "c" / f"{index}.png", files.png(torch.rand(3, 33, 47)))
    build(tmp_path)
    assert len(list((tmp_path / "report" / "media").glob("*.mp4"))) == 1
