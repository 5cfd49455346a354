"""The contact sheet: source and result (and truth) above each other at a few moments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rerender.fitting import resize
from rerender.video import Truth, Video

_LABEL, _GAP, _SIDE = 18, 4, 320  # label height, gap, and longest side of a picture, in pixels


def sheet(source: Video, result: Video, truth: Truth | None = None, count: int = 6) -> Tensor:
    """A picture that shows at a glance what a run did.

    Args:
        source: the video that went in.
        result: the video that came out, as many frames.
        truth: where the true translation is known, a third row shows it.
        count: frames to show, evenly spaced from the first to the last.

    Returns:
        ``[3,H,W]`` RGB in 0..1: one column for each frame under its number, one labelled row for
        each video.
    """
    indices = moments(len(result), count)
    rows = {"source": [source[i] for i in indices], "result": [result[i] for i in indices]}
    if truth is not None:
        true = [truth.translation(i) for i in indices]
        if all(image is not None for image in true):
            rows["truth"] = [image for image in true if image is not None]
    return _grid(rows, indices, _cell(result.size))


def gallery(images: Sequence[Tensor], captions: Sequence[str], columns: int = 4) -> Tensor:
    """Pictures ``[3,H,W]`` of one size under their captions, row after row, as one picture."""
    cell = _cell((images[0].shape[-2], images[0].shape[-1]))
    step_y, step_x = cell[0] + _LABEL + _GAP, max(cell[1], 120) + _GAP
    rows, columns = -(-len(images) // columns), min(columns, len(images))
    page = Image.new("RGB", (step_x * columns + _GAP, step_y * rows + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = _GAP + place % columns * step_x, _GAP + place // columns * step_y
        draw.text((left, top), caption, fill="black", font=font)
        page.paste(_picture(resize(image, cell)), (left, top + _LABEL))
    return torch.from_numpy(np.array(page)).permute(2, 0, 1).float().div(255)


def moments(length: int, count: int) -> list[int]:
    """At most ``count`` different indices, evenly spaced from 0 to ``length - 1``."""
    count = min(count, length)
    return [round(i * (length - 1) / max(count - 1, 1)) for i in range(count)]


def _cell(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _SIDE / max(size))
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _grid(rows: dict[str, list[Tensor]], indices: Sequence[int], cell: tuple[int, int]) -> Tensor:
    step_y, step_x = cell[0] + _LABEL + _GAP, max(cell[1], 90) + _GAP
    page = Image.new("RGB", (step_x * len(indices) + _GAP, step_y * len(rows) + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for row, (name, images) in enumerate(rows.items()):
        for column, (index, image) in enumerate(zip(indices, images, strict=True)):
            left, top = _GAP + column * step_x, _GAP + row * step_y
            draw.text((left, top), f"{name} {index}", fill="black", font=font)
            page.paste(_picture(resize(image, cell)), (left, top + _LABEL))
    pixels = torch.from_numpy(np.array(page)).permute(2, 0, 1)
    return pixels.float().div(255)


def _picture(image: Tensor) -> Image.Image:
    levels = image.detach().cpu().clamp(0, 1).mul(255).round().byte()
    return Image.fromarray(levels.permute(1, 2, 0).numpy())
