"""Where attention maps of an inversion wait for the editing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rerender.files import Scratch

Keep = Literal["memory", "disk"]


class StoredMaps:
    """Tensors in half precision, by key, in main memory or in a file that vanishes.

    Args:
        keep: which of the two.
    """

    def __init__(self, keep: Keep) -> None:
        self._scratch = Scratch() if keep == "disk" else None
        self._held: dict[Hashable, Tensor] = {}
        self._places: dict[Hashable, tuple[int, torch.Size]] = {}

    def put(self, key: Hashable, tensor: Tensor) -> None:
        """Keep a tensor, in place of an earlier one of the same key and shape."""
        half = tensor.detach().to("cpu", torch.float16, copy=True)
        if self._scratch is None:
            self._held[key] = half
            return
        place, _ = self._places.get(key, (None, None))
        data = half.contiguous().numpy().tobytes()
        self._places[key] = self._scratch.write(data, place), half.shape

    def get(self, key: Hashable, like: Tensor) -> Tensor:
        """The tensor of a key, in the type and device of ``like``."""
        if self._scratch is None:
            return self._held[key].to(like)
        place, shape = self._places[key]
        data = self._scratch.read(place, 2 * shape.numel())
        return torch.from_numpy(np.frombuffer(data, np.float16).reshape(shape).copy()).to(like)

    def nbytes(self) -> int:
        """What the tensors take, in bytes."""
        sizes = [t.numel() for t in self._held.values()]
        return 2 * sum([*sizes, *(shape.numel() for _, shape in self._places.values())])
