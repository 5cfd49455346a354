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

        kind = transformers.AutoModelForDepthEstimation
        try:
            network, report = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        except Exception as error:  # the libraries raise a dozen kinds and never name the file
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise WeightsError(folder, f"cannot be read ({reason})", "check the folder") from error
        missing = sorted(report["missing_keys"])
        if missing:
            problem = f"lacks {len(missing)} tensors of its architecture ({missing[0]} first)"
            raise WeightsError(folder, problem, "restore the folder")
        self.network = network.eval()
        config = getattr(self.network.config, "backbone_config", None) or self.network.config
        self.patch = int(getattr(config, "patch_size", 16))
        # ImageNet statistics, which all published checkpoints of these families use.
        self.mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        self.std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Inverse depth ``[1,H,W]``, any scale, of ``[3,H,W]`` in 0..1, on the image's device."""
        size = image.shape[-2:]
        self.network.to(image.device)
        self.mean, self.std = self.mean.to(image), self.std.to(image)  # moved once
        fitted = [max(round(side / self.patch), 1) * self.patch for side in size]
        pixels = F.interpolate(((image - self.mean) / self.std)[None], fitted, mode="bicubic")
        depth = self.network(pixel_values=pixels).predicted_depth[:, None].float()
        return F.interpolate(depth, size, mode="bilinear", align_corners=False)[0]
