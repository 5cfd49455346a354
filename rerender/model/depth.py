"""Depth-estimation networks of transformers, behind one call."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rerender.errors import WeightsError


class DepthNetwork:
    """A depth-estimation model from a local folder, with its own image normalisation.

    Args:
        folder: in transformers layout, weights in safetensors.

    Raises:
        WeightsError: the folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        import transformers

        try:
            self.network = transformers.AutoModelForDepthEstimation.from_pretrained(
                folder, use_safetensors=True, local_files_only=True
            ).eval()
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().split("\n")[0]
            raise WeightsError(folder, f"cannot be read ({reason})", "check the folder") from error
        config = getattr(self.network.config, "backbone_config", None) or self.network.config
        self.patch = int(getattr(config, "patch_size", 16))

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Inverse depth ``[1,H,W]``, any scale, of ``[3,H,W]`` in 0..1."""
        size = image.shape[-2:]
        # ImageNet statistics, which all published checkpoints of these families use.
        mean = image.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = image.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        fitted = [max(round(side / self.patch), 1) * self.patch for side in size]
        pixels = F.interpolate(((image - mean) / std)[None], fitted, mode="bicubic")
        depth = self.network(pixel_values=pixels).predicted_depth[:, None].float()
        return F.interpolate(depth, size, mode="bilinear", align_corners=False)[0]
