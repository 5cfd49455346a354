"""The documentation: every page is reached from its contents, and every entry there is a page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "docs" / "index.md"


def contents() -> tuple[set[Path], set[Path]]:
    """The pages that stand in the contents at the side, and those that the index links to."""
    text = INDEX.read_text(encoding="utf-8")
    side: set[Path] = set()
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.M | re.S):
        entries = [line for line in block.splitlines() if line and not line.startswith(":")]
        for entry in entries:
            place = INDEX.parent / f"{entry}.md"
            found = list(ROOT.glob(f"{entry[3:]}/*.md")) if "*" in entry else [place]
            assert found, f"{entry}: no page"
            side |= {file.resolve() for file in found}
    links = re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", text)
    return side, {(INDEX.parent / link).resolve() for link in links}


def test_every_page_is_reached_from_the_index() -> None:
    side, linked = contents()
    pages = set(INDEX.parent.rglob("*.md")) - {INDEX}
    assert len(pages) > 20
    assert pages - side == set()
    assert pages - linked == set()
    figures = set((ROOT / "experiments" / "bench").rglob("*.md"))
    assert figures - side == set()


def test_everything_in_the_contents_is_there() -> None:
    side, linked = contents()
    assert [str(page) for page in side | linked if not page.is_file()] == []


def test_every_link_to_a_page_leads_to_one_of_the_site() -> None:
    """What `make docs` would refuse: a page of the repository that is none of the site."""
    side, _ = contents()
    site = {*side, INDEX}
    missing = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in sorted(site)
        for link in re.findall(r"\]\(([^)#:]+\.md)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if (page.parent / link).resolve() not in site
    ]
    assert missing == []


def test_no_two_pages_have_one_title() -> None:
    """The contents at the side show titles alone."""
    side, _ = contents()
    titles = [page.read_text(encoding="utf-8").partition("\n")[0] for page in sorted(side)]
    assert len({*titles}) == len(titles), sorted({t for t in titles if titles.count(t) > 1})


def levels(text: str) -> list[int]:
    """Levels of a page's headings in their order; what stands in a block of code is none."""
    found, fence = [], ""
    for line in text.splitlines():
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
        elif mark:
            fence = mark[1]
        elif heading := re.match(r"(#{1,6}) ", line):
            found.append(len(heading[1]))
    return found


def test_levels_of_headings_follow_each_other() -> None:
    """What `make docs` would refuse: a table that was committed with the heading it has in a folder
    of results, two levels below the title."""
    assert levels("# a\n```\n### b\n```\n````md\n```\n# c\n````\n### d") == [1, 3]
    side, _ = contents()
    wrong = []
    for page in sorted({*side, INDEX}):
        found = levels(page.read_text(encoding="utf-8"))
        steps = [after - before for before, after in zip([0, *found], found, strict=False)]
        if found[:1] != [1] or max(steps) > 1:
            wrong.append(f"{page.relative_to(ROOT)}: {found}")
    assert wrong == []
