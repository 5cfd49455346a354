"""What a run asks of the memory of a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryDemand:
    """What decides how much memory a model needs besides its weights.

    Attributes:
        width: of the largest pictures, pixels.
        height: of the largest pictures, pixels.
        batch_size: key frames denoised side by side.
        guided: whether the unconditional branch is evaluated.
        kept_steps: steps in which hidden states of decoder self-attention are kept for later key
            frames.
        kept_itemsize: bytes of a number of them; None is the type of the network.
        kept_elsewhere: whether they are kept on another device.
    """

    width: int
    height: int
    batch_size: int = 1
    guided: bool = True
    kept_steps: int = 0
    kept_itemsize: int | None = None
    kept_elsewhere: bool = False
