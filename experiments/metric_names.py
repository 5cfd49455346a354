"""Metrics and units as tables print them: the field's spelling in place of names of code."""

from __future__ import annotations

import re

_NAMES = {
    "anchor_cosine": "cosine to anchor",
    "anchor_style": "anchor's style",
    "color_drift": "colour drift",
    "frame_accuracy": "Fram-Acc",
    "tem_con": "Tem-Con",
    "warp_error_long": "warp error (long)",
    "warp_error_long_last5": "warp error (long, last 5)",
}
_CAPITALS = ("clip", "dino", "dover", "lpips", "mse", "psnr", "ssim", "vae")
_UNITS = {"1": "", "dE": "ΔE"}
_OURS = re.compile(r"[a-z][a-z0-9_]*")


def metric(name: str) -> str:
    """A metric's printed name: ``lpips_demo`` -> "LPIPS (demo)", which is LPIPS with the small
    network of the demo world. What is no name of ours, such as those in papers, stays as it is."""
    if not _OURS.fullmatch(name):
        return name
    plain = re.sub(r"_demo(?=_|$)", "", name)
    spelled = " ".join(w.upper() if w in _CAPITALS else w for w in plain.split("_"))
    return _NAMES.get(plain, spelled) + (" (demo)" if plain != name else "")


def unit(name: str) -> str:
    """A unit as it is printed; "" for none."""
    return _UNITS.get(name, name)
