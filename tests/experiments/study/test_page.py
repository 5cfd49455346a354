"""The page of a study in a browser: a whole study is answered, interrupted, resumed and saved."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

import pytest

from experiments.study.__main__ import main
from experiments.study.build import INVITATIONS, SITE, render
from experiments.study.votes import read
from rerender.run_folder import STUDY
from tests.experiments import browser
from tests.experiments.payloads import PAYLOADS
from tests.experiments.study.making import DATA, LOOKS, key_of, put_results

needs_chromium = pytest.mark.skipif(browser.BINARY is None, reason="chromium is not installed")
HOSTILE = [text for text in PAYLOADS if "/" not in text][:3]


def test_the_page_runs_only_itself_and_knows_no_method(tmp_path: Path) -> None:
    put_results(tmp_path)
    assert main([str(tmp_path), *DATA, "--people", "4", "--trials", "3", "--checks", "1"]) == 0
    page = (tmp_path / STUDY / SITE / "index.html").read_text()
    for name in LOOKS:
        assert name not in page
    for code in key_of(tmp_path).codes:
        assert code not in page
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)
    assert policy is not None and policy[1].startswith("default-src &#39;none&#39;; script-src")
    assert "http" not in policy[1] and not re.search(r'(src|href)="(https?:)?//', page)
    assert re.findall(r"<script[^>]*>", page) == [
        '<script type="application/json" id="data">',
        "<script>",
    ]


def hostile() -> dict[str, object]:
    """Every payload in every place where a text of a stranger stands."""
    person = "0" * 16
    return {
        "study": PAYLOADS[0],
        "format": PAYLOADS[1],
        "title": PAYLOADS[0],
        "note": PAYLOADS[2],
        "questions": [[f"q{n}", text] for n, text in enumerate(PAYLOADS)],
        "films": ["media/none.mp4"],
        "clips": [{"prompt": text, "source": None, "wide": False} for text in PAYLOADS],
        "people": {person: [[n, 0, 0] for n in range(len(PAYLOADS))]},
    }


@pytest.mark.slow
@needs_chromium
def test_hostile_texts_are_inert(tmp_path: Path) -> None:
    data = hostile()
    # The invitation "x" opens the page; its hash is what stands in the page.
    data["people"] = {_person("x"): data["people"]["0" * 16]}  # type: ignore[index]
    (tmp_path / "hostile.html").write_text(render(data))
    with browser.chromium(tmp_path / "profile") as page:
        for width in (1280, 390):
            page.open(tmp_path / "hostile.html", width, 844)
            page.run("localStorage.clear()")
            page.run("code.value = 'x'; invite.requestSubmit()")
            for number in range(len(PAYLOADS)):
                assert (
                    page.run("document.querySelector('#question').textContent") == PAYLOADS[number]
                )
                # What cannot be played cannot be judged: the buttons are opened by hand here.
                page.run("left.disabled = false; left.click()")
            assert page.run("window.owned === undefined")
            assert page.run("document.documentElement.scrollWidth") <= width
        assert page.requests == []


def _person(code: str) -> str:
    from experiments.study.invitations import person_id

    return person_id(code)


@pytest.mark.slow
@needs_chromium
def test_a_study_is_answered_in_a_browser(tmp_path: Path) -> None:
    put_results(tmp_path, HOSTILE)
    asked = ["--people", "6", "--trials", "3", "--checks", "1", "--with-source"]
    assert main([str(tmp_path), *DATA, *asked]) == 0
    folder = tmp_path / STUDY
    lines = (folder / INVITATIONS).read_text().splitlines()[1:]
    codes = [line.split(",")[1] for line in lines]
    saved = tmp_path / "saved"
    saved.mkdir()
    with browser.chromium(tmp_path / "profile") as page:
        page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        for person, width in ((0, 1280), (1, 390)):
            answer_all(page, folder / SITE / "index.html", codes[person], width)
            download(page, saved, person)
        assert (page.errors, page.requests) == ([], [])
    for person, path in enumerate(sorted(saved.iterdir(), key=os.path.getmtime)):
        ballot = read(path, key_of(tmp_path))
        assert ballot.person == person
        # By turns left and right; the answer that was taken back is there once.
        sides = [vote[2] for vote in ballot.votes]
        assert sides == ["left" if n % 2 == 0 else "right" for n in range(4 * 3)]


def answer_all(page: browser.Page, path: Path, code: str, width: int) -> None:
    page.open(path, width, 844)
    shot(page, f"welcome-{width}")
    page.run("code.value = 'abcd-efgh-jkmn'; invite.requestSubmit()")
    assert page.run("!refused.hidden && trial.hidden")
    page.run(f"code.value = '{code.upper()}'; invite.requestSubmit()")
    page.wait("!trial.hidden")
    assert page.run("left.disabled && right.disabled")
    page.key("1", "1")  # nothing is answered before both were watched
    assert page.run("place.textContent") == "1 of 4"
    for number in range(12):
        page.wait("!left.disabled", 20)
        assert page.run("document.documentElement.scrollWidth") <= width
        if number == 0:
            in_step(page)
            shot(page, f"trial-{width}")
        if number == 4:  # close the page in the middle, and go on later
            page.open(path.with_name("index.html"), width, 844)
            page.run(f"code.value = '{code}'; invite.requestSubmit()")
            page.wait("!left.disabled", 20)
            page.key("Backspace")  # the answer to question 3 is given again
            page.click("#right")
        if width == 390 or number % 3 == 0:
            page.click("#left" if number % 2 == 0 else "#right")
        else:
            page.key("ArrowLeft" if number % 2 == 0 else "2")
    page.wait("!done.hidden")
    shot(page, f"done-{width}")


def in_step(page: browser.Page) -> None:
    """Both play at the same time, give or take two frames; a pause stops both."""
    page.wait("a.currentTime > 0.1 && a.currentTime < 0.4")
    assert abs(page.run("a.currentTime - b.currentTime")) < 0.08
    page.run("document.activeElement.blur()")
    page.key(" ", " ")
    assert page.run("a.paused && b.paused && s.paused && play.textContent === 'Play'")
    page.key(" ", " ")
    page.wait("!a.paused && !b.paused")


def download(page: browser.Page, folder: Path, already: int) -> None:
    text = json.loads(page.run("document.getElementById('text').value"))
    page.click("#save")
    page.wait("true")
    for _ in range(200):
        whole = [path for path in folder.iterdir() if path.suffix == ".json"]
        if len(whole) > already:
            break
        page.run("new Promise((done) => setTimeout(done, 50))")
    newest = max(whole, key=os.path.getmtime)
    assert json.loads(newest.read_text()) == text
    assert newest.name == f"votes-{text['study']}-{text['person']}.json"


def shot(page: browser.Page, name: str) -> None:
    """A picture of the page, for those who ask for it: RERENDER_SHOTS=FOLDER."""
    folder = os.environ.get("RERENDER_SHOTS")
    if folder:
        picture = page.send("Page.captureScreenshot", format="png")["data"]
        Path(folder, f"{name}.png").write_bytes(base64.b64decode(picture))
