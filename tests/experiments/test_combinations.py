"""The page of combinations is what the rule of a run says."""

from __future__ import annotations

from experiments.combinations import page
from rerender.config.paths import ROOT


def test_the_page_is_what_the_rule_says() -> None:
    shown = (ROOT / "docs" / "combinations.md").read_text(encoding="utf-8")
    assert page() == shown, "python -m experiments.combinations > docs/combinations.md"
    assert "| pixel | yes |" in shown
