"""Key frames that are translated less outside of a region than inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch.nn.functional as F
from torch import Tensor

from rerender.config.parts import Parts
from rerender.contracts import Edits
from rerender.scene import State
from rerender.translation.denoise import BoundEdits, DenoisingTask
from rerender.video import Clip, KeyFrame


class Region:
    """The region of a clip, and what translation does outside of it.

    Outside, the first steps are given back the noised source, as many as leave the last
    ``steps * rest_strength`` to be executed: strength is a map (Levin and Fried, "Differential
    Diffusion", 2023). Controls are as faint there as ``rest_control`` says.

    Args:
        masks: the region ``[1,H,W]`` in 0..1 of each frame of the clip.
        rest_strength: share of the full schedule that is executed outside; None is as inside.
        rest_control: share of the control maps outside.
        steps: of the full schedule.
    """

    def __init__(
        self,
        masks: Iterable[Tensor],
        rest_strength: float | None,
        rest_control: float,
        steps: int,
    ) -> None:
        self._masks, self._control = enumerate(masks), rest_control
        self._last: tuple[int, Tensor] | None = None
        self._rest = None if rest_strength is None else int(steps * rest_strength + 1e-6)

    @classmethod
    def of(cls, clip: Clip, parts: Parts) -> Region:
        """The region that a run's mask says."""
        mask, steps = parts.mask, parts.sampling.steps
        masks = mask.regions(clip.video, parts.flow)
        return cls(masks, mask.rest_strength, mask.rest_control, steps)

    def at(self, index: int) -> Tensor:
        """The region of a frame. Frames are asked for in order; the last one also again."""
        while self._last is None or self._last[0] < index:
            self._last = next(self._masks)
        assert self._last[0] == index
        return self._last[1]

    def controls(self, region: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Control maps ``[3,H,W]``, fainter outside of a region ``[1,H,W]``."""
        share = region + self._control * (1 - region)
        return tuple(map_ if self._control == 1 else share.to(map_) * map_ for map_ in maps)

    def edits(self, key: KeyFrame, latent: Tensor, task: DenoisingTask) -> list[BoundEdits]:
        """What gives the noised source back outside of the region.

        Args:
            key: the key frame.
            latent: its source ``[1,C,h,w]``.
            task: its denoising.
        """
        executed = len(task.schedule)
        if self._rest is None or self._rest >= executed:
            return []
        assert key.region is not None
        cells = (latent.shape[-2], latent.shape[-1])
        inside = F.adaptive_avg_pool2d(key.region[None], cells).to(latent)

        def noisy(state: State) -> Tensor:
            fixed = task.noise("start", 0).to(latent)
            source = state.alpha_bar**0.5 * latent + (1 - state.alpha_bar) ** 0.5 * fixed
            blended: Tensor = inside * state.noisy + (1 - inside) * source
            return blended

        return [BoundEdits(range(executed - self._rest), Edits(noisy=noisy))]
