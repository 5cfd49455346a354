"""Edit masks: which pixels of a clip may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.contracts import Trial, UnavailableError
from rerender.data import picture
from rerender.data.names import pictures_of
from rerender.errors import InputError
from rerender.video import Clip

_BLACK = 25 / 255  # values up to this are background: masks of data sets are often JPEG pictures


@dataclass(frozen=True)
class Masks:
    """The masks of one clip.

    Attributes:
        files: one picture for all frames, or one for each.
        first: the picture of the clip's first frame.
        objects: every colour but black is an object, as data sets draw them; otherwise greys are
            shares, white is what may change.
    """

    files: Sequence[Path]
    first: int = 0
    objects: bool = False

    def at(self, index: int, like: Tensor) -> Tensor:
        """``[1,H,W]`` in 0..1 at the size of an image: 1 where frame ``index`` may change."""
        file = self.files[min(self.first + index, len(self.files) - 1)]
        image = picture.read(file).image
        if self.objects:
            mask = (image.amax(0, keepdim=True) > _BLACK).float()[None]
        else:
            rgb = image.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
            levels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
            mask = torch.from_numpy(np.asarray(levels, np.float32) / 255)[None, None]
        return F.interpolate(mask, like.shape[-2:], mode="nearest")[0]


def find_masks(folder: str, trial: Trial) -> Masks:
    """The masks of a clip: ``CLIP.png`` or ``CLIP/*.png`` in a folder, else those that it brings.

    Args:
        folder: of masks; "" for none. Edits of one clip share the masks of its name.
        trial: its clip is meant.

    Raises:
        UnavailableError: there are none.
    """
    clip = trial.clip
    for name in dict.fromkeys((clip.name, clip.source_clip or clip.name)) if folder else ():
        single, many = Path(folder, f"{name}.png"), Path(folder, name)
        files = [single] if single.is_file() else sorted(many.glob("*.png"))
        if files:
            return Masks(files)
    if clip.masks:
        return _brought(clip)
    if folder:
        raise UnavailableError(f"no edit mask for {clip.name} (looked for {single} and {many}/)")
    raise UnavailableError("no edit masks (give a folder: masks=PATH, or a table that names them)")


def _brought(clip: Clip) -> Masks:
    own = Path(clip.masks)
    try:
        files = [own] if own.is_file() else pictures_of(own)
    except InputError as error:
        raise UnavailableError(f"no edit mask for {clip.name} ({error})") from error
    if not files:
        raise UnavailableError(f"no edit mask for {clip.name} ({own} holds no pictures)")
    return Masks(files, clip.first_frame if len(files) > 1 else 0, objects=True)
