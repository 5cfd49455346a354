"""What RAFT's weights are called: in the authors' release, and in torchvision."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

PLACES = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"(\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(\.layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d?)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"\.convgru\.", ".convgru1."),  # the small network has one only, without a number
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
"""Where the authors' weights stand in torchvision's network; applied one after the other."""

SHORTCUT = re.compile(r"(\.layer\d\.\d)\.norm[34]\.(\w+)$")
"""The normalisation of a block's shortcut, which the release holds twice."""


def torchvision_names(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights under torchvision's names, whichever of the two they come with."""
    if not any(name.startswith("fnet.") for name in state):
        return state
    return {place(name): tensor for name, tensor in state.items() if not doubled(name, state)}


def place(name: str) -> str:
    """Where a weight of the authors' network stands in torchvision's."""
    for pattern, replacement in PLACES:
        name = re.sub(pattern, replacement, name)
    return name


def doubled(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a weight also stands under the name ``downsample.1`` of the same block."""
    return SHORTCUT.sub(r"\1.downsample.1.\2", name) in state.keys() - {name}
