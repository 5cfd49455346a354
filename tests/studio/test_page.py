"""The page in a browser, as somebody uses it, with real runs of the demo model."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from rerender.run_folder import VIDEO
from tests.codec.making import make, pictures
from tests.experiments import browser

pytest.importorskip("uvicorn", reason="the studio's libraries are not installed")
needs_chromium = pytest.mark.skipif(browser.BINARY is None, reason="chromium is not installed")
NAME = "<img src=x onerror=alert(1)>'.mp4"
PROMPT = "a watercolor, <b>'x'</b> ${oc.env:HOME}"


@contextmanager
def served(place: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A studio of its own process; its address."""
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-m", "rerender.run", "studio", "--port", "0"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def put(page: browser.Page, id: str, value: object) -> None:
    """Type into a field."""
    page.run(
        f"(() => {{ const e = document.getElementById({id!r}); e.value = {json.dumps(value)};"
        " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def state(page: browser.Page, word: str, seconds: float = 60) -> None:
    page.wait(f"document.getElementById('run-state').textContent === {word!r}", seconds)


def drag(page: browser.Page, selector: str, path: list[tuple[float, float]]) -> None:
    """Draw with the mouse over an element, in shares of its sides."""
    box = page.run(
        f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    for number, (x, y) in enumerate([*path, path[-1]]):
        kind = "mousePressed" if not number else "mouseMoved"
        kind = "mouseReleased" if number == len(path) else kind
        page.send(
            "Input.dispatchMouseEvent",
            type=kind,
            x=box[0] + x * box[2],
            y=box[1] + y * box[3],
            button="left",
            buttons=1,
            clickCount=1,
        )


@pytest.mark.slow
@needs_chromium
@pytest.mark.timeout(900)
def test_somebody_restyles_a_clip(tmp_path: Path) -> None:
    place, shots = tmp_path / "place", tmp_path / "shots"
    place.mkdir()
    shots.mkdir()
    film = make(tmp_path / NAME, pictures(21, (96, 160)))
    with browser.chromium(tmp_path / "profile") as page:
        with served(place) as (address, studio):
            first_key_and_cancel(page, address, film, shots)
            goes_on_to_the_end(page, shots)
            line = page.run("document.getElementById('command').textContent")
            kept = page.run("location.hash")
            page.open("about:blank")
            studio.kill()
        with served(place) as (again, _):
            page.open(f"{again}{kept}", 1280, 1000)
            state(page, "Done")  # what was finished is there again
            page.wait("document.getElementById('prompt').value.startsWith('a watercolor')")
            a_change_is_previewed_at_once(page, shots)
            another_prompt_a_mask_and_a_wipe(page, shots)
            a_frame_to_paint_is_said(page, shots)
            one_key_frame_is_mended(page, tmp_path, shots)
            fits_a_phone(page, again, kept, shots)
        hosts = {url for url in page.requests if not url.startswith((address, again, "blob:"))}
        assert not hosts - {"about:blank"}
        assert not [error for error in page.errors if "ERR_CONNECTION_REFUSED" not in error]
    the_command_gives_the_same_bytes(place, line, tmp_path)


def first_key_and_cancel(page: browser.Page, address: str, film: Path, shots: Path) -> None:
    page.open(address, 1280, 1000)
    page.wait("!document.getElementById('start').hidden")
    page.picture(shots / "start.png")
    page.choose("#file", film)
    page.wait("!document.getElementById('work').hidden", 60)
    page.wait("document.querySelectorAll('#strip button').length === 3")
    page.picture(shots / "opened.png")
    assert page.run("document.querySelectorAll('b, img[src=x]').length") == 0
    assert NAME in page.run("document.getElementById('clip-name').textContent")
    put(page, "size", 96)
    put(page, "interval", 4)
    put(page, "prompt", PROMPT)
    page.wait("document.querySelectorAll('#strip button').length === 6")
    page.click("#run")
    page.wait("document.querySelectorAll('#strip .done').length > 0", 120)
    page.click("#cancel")
    state(page, "Stopped", 30)
    page.picture(shots / "stopped.png")
    assert page.run("document.querySelectorAll('#strip .done').length") >= 1  # kept


def goes_on_to_the_end(page: browser.Page, shots: Path) -> None:
    page.click("#resume")
    state(page, "Working", 30)
    time.sleep(1)
    page.picture(shots / "working.png")
    state(page, "Done", 200)
    page.wait("document.getElementById('video').readyState >= 1")
    page.wait("!document.getElementById('wipe').hidden")
    page.click("#copy")
    page.wait("!document.getElementById('command').hidden")
    page.picture(shots / "done.png")
    bold = page.run("[...document.querySelectorAll('b')].map((e) => e.className)")
    assert all(name.endswith("-word") for name in bold)  # of the prompt none


def a_change_is_previewed_at_once(page: browser.Page, shots: Path) -> None:
    shown = "document.getElementById('layer-b').src"
    put(page, "prompt", "a neon sign")
    page.wait("document.getElementById('side-b').value === 'preview'", 60)
    page.wait(f"{shown}.includes('/api/previews/')")
    assert "Preview" in page.run("document.getElementById('tag-b').textContent")
    before = page.run(shown)
    put(page, "strength", 0.5)  # and again with every change
    page.wait(f"{shown}.includes('/api/previews/') && {shown} !== {before!r}", 30)
    page.wait("document.getElementById('live-state').textContent.startsWith('first frame after')")
    page.picture(shots / "preview.png")
    page.click("#live")  # switched off, nothing is drawn
    page.wait("document.getElementById('side-b').value !== 'preview'")
    put(page, "prompt", "a mosaic")
    time.sleep(1)
    assert page.run("document.getElementById('side-b').value") != "preview"
    page.click("#live")
    page.wait(f"{shown}.includes('/api/previews/')", 60)


def a_frame_to_paint_is_said(page: browser.Page, shots: Path) -> None:
    page.click("#suggest")
    page.wait("document.querySelectorAll('#suggested button').length === 4", 60)
    page.click("#suggested button")
    page.wait("document.getElementById('mend-what').textContent.startsWith('Frame ')")
    saved = page.run("document.getElementById('mend-save').href")
    assert "/frames/" in saved and saved.endswith("?whole")
    page.picture(shots / "next.png")


def another_prompt_a_mask_and_a_wipe(page: browser.Page, shots: Path) -> None:
    page.click("#paint")
    page.wait("!document.getElementById('brush').hidden")
    drag(page, "#brush", [(0.2, 0.3), (0.5, 0.5), (0.7, 0.6)])
    page.picture(shots / "brush.png")
    page.click("#brush-use")
    page.wait("!document.getElementById('mask-shown').hidden")
    put(page, "prompt", "a mosaic")
    page.wait("document.getElementById('command').textContent.includes('mask=file')")
    page.click("#run")
    state(page, "Working", 60)
    state(page, "Done", 200)
    page.run(
        "[...document.querySelectorAll('#history button')].find((b, i) => i > 2 && "
        "b.textContent === 'Compare').click()"
    )
    page.wait("document.getElementById('tag-a').textContent.startsWith('a watercolor')")
    page.wait("document.getElementById('layer-a').src.includes('/api/runs/')")
    drag(page, "#wipe", [(0.5, 0.5), (-2.0, 0.5), (-3.0, 0.5)])
    assert page.run("Number(document.getElementById('wipe').getAttribute('aria-valuenow'))") < 50
    page.click("#play")
    before = page.run("document.getElementById('scrub').value")
    page.wait(f"document.getElementById('scrub').value !== {before!r}")
    page.click("#play")
    page.picture(shots / "compare.png")


def one_key_frame_is_mended(page: browser.Page, tmp_path: Path, shots: Path) -> None:
    page.click("#mask-remove")
    page.click("#strip button:nth-child(3)")
    page.wait("!document.getElementById('mend').hidden")
    Image.new("RGB", (160, 96), (0, 200, 0)).save(tmp_path / "mended.png")
    page.choose("#mend-file", tmp_path / "mended.png")
    newest = "document.querySelector('#history li').textContent"
    page.wait(f"{newest}.includes('mended') && {newest}.includes('Done')", 200)
    page.wait("document.querySelectorAll('#history li').length === 3")
    state(page, "Done")
    page.wait("document.getElementById('layer-b').src.includes('/frames/8')")
    page.picture(shots / "mended.png")


def fits_a_phone(page: browser.Page, address: str, kept: str, shots: Path) -> None:
    page.open(f"{address}?phone{kept}", 390, 844)
    state(page, "Done")
    page.wait("document.querySelectorAll('#history li').length === 3")
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    page.picture(shots / "phone.png")


def the_command_gives_the_same_bytes(place: Path, line: str, tmp_path: Path) -> None:
    arguments = shlex.split(line)
    assert arguments[:3] == ["python", "-m", "rerender.run"]
    out = next(each for each in arguments if each.startswith("out="))
    fresh = [f"out={tmp_path / 'again'}" if each == out else each for each in arguments[3:]]
    command = [sys.executable, "-m", "rerender.run", *fresh, f"store={tmp_path / 'other'}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, cwd=place, env=environment, check=True, timeout=300)
    studio = place / out.partition("=")[2] / VIDEO
    assert (tmp_path / "again" / VIDEO).read_bytes() == studio.read_bytes()
