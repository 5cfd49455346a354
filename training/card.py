"""The figures of the model card: as a table, and into their place in the card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def write(card: Path, figures: dict[str, Any]) -> None:
    """Replace the table between the card's marks."""
    marks = r"(<!-- figures -->\n).*(<!-- end of figures -->)"
    text = card.read_text()
    card.write_text(re.sub(marks, lambda m: m[1] + table(figures) + m[2], text, flags=re.S))


def table(figures: dict[str, Any]) -> str:
    """The figures against what the model card asks for, as markdown."""
    style, colour, edge = figures["style"], figures["colour"], figures["edges"]
    moved, vae = figures["translation"], figures["vae"]
    rows = [
        ("VAE round trip at 128 px, PSNR", f"{vae['mean']:.1f} dB", "25 dB", "28 dB"),
        (
            "style picked among 8 by the small CLIP, from canny + prompt",
            _percent(style["drawn"]),
            "80 %",
            "95 %",
        ),
        ("the small CLIP's ceiling on true renders", _percent(style["ceiling"]), "95 %", ""),
        (
            "prompted sprite colour obeyed (photo-like styles)",
            _percent(colour["drawn"]),
            "70 %",
            "90 %",
        ),
        ("edge F1 within 2 px against the source", f"{edge['drawn']:.2f}", "0.5", "0.7"),
        ("the same without ControlNet", f"{edge['without_controlnet']:.2f}", "clearly below", ""),
        ("the same for the true translation", f"{edge['truth_itself']:.2f}", "", ""),
        (
            "translated frame nearer to the truth than its source: PSNR and lpips_demo",
            _percent(moved["nearer_both"]),
            "75 %",
            "90 %",
        ),
        (
            "… by PSNR alone / by lpips_demo alone",
            f"{_percent(moved['nearer_psnr'])} / {_percent(moved['nearer_lpips_demo'])}",
            "",
            "",
        ),
    ]
    head = "| figure | measured | must | aim |\n|---|---|---|---|\n"
    warp = "".join(
        f"| {name} | {value:.4f} |\n" for name, value in figures["truth_warp_rmse"].items()
    )
    return (
        head
        + "".join("| " + " | ".join(row) + " |\n" for row in rows)
        + "\n| style | the truth's own warp error (RMSE, visible pixels) |\n|---|---|\n"
        + warp
    )


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
