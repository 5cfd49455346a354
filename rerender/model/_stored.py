"""Whether weights are those of the network that a configuration describes, told by the headers of
their files: no weight is read and no network is built, which takes seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rerender.errors import WeightsError
from rerender.model import _described
from rerender.model._described import Described
from rerender.model._files import StoredTensor, header
from rerender.model._located import NetworkFiles

_ADDED = "add_embedding.linear_1.weight"
_CONDITION = "time_embedding.cond_proj.weight"
_PRESENT = {_CONDITION: "time_cond_proj_dim", _ADDED: "addition_embed_type"}
"""Tensors that are there where a key of the configuration is not null, and only there."""
_TEXTS = (
    ("embeddings.token_embedding.weight", 0, "vocab_size"),
    ("embeddings.token_embedding.weight", 1, "hidden_size"),
    ("embeddings.position_embedding.weight", 0, "max_position_embeddings"),
)
_SIZES: Mapping[str, tuple[tuple[str, int, str], ...]] = {
    "unet": (
        ("conv_in.weight", 1, "in_channels"),
        ("conv_out.weight", 0, "out_channels"),
        (_CONDITION, 1, "time_cond_proj_dim"),
        (_ADDED, 1, "projection_class_embeddings_input_dim"),
    ),
    "controlnet": (
        ("conv_in.weight", 1, "in_channels"),
        (_ADDED, 1, "projection_class_embeddings_input_dim"),
    ),
    "vae": (("decoder.conv_in.weight", 1, "latent_channels"),),
    "text_encoder": _TEXTS,
    "text_encoder_2": _TEXTS,
}
"""(tensor, axis, key): of each kind of network, which key says a size of a tensor. A tensor under
another name, as older versions have some, is left to the loading."""


def check(network: NetworkFiles) -> None:
    """Read the headers of a network's weights and hold them against its configuration.

    Raises:
        WeightsError: a file is damaged, or is of a network of another size.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in network.files():
        if file.suffix == ".safetensors":
            tensors |= header(file).tensors
    if network.single is not None or _described.is_t2i_adapter(network.config()):
        return  # names of another layout
    found = _configuration(network)
    shapes = {name.removeprefix("text_model."): each.shape for name, each in tensors.items()}
    if network.role == "unet":
        for name, key in _PRESENT.items():
            if (name in shapes) != (found.get(key) is not None):
                there = "hold" if name in shapes else "do not hold"
                raise _differs(network, key, found.get(key), f"its weights {there} {name}")
    for name, axis, key in _SIZES[network.role]:
        wanted = found.get(key)
        if name in shapes and (len(shapes[name]) <= axis or shapes[name][axis] != wanted):
            raise _differs(network, key, wanted, f"{name} has sizes {[*shapes[name]]}")


def _configuration(network: NetworkFiles) -> Described:
    role = network.role.removesuffix("_2")
    reading: Any = getattr(_described, role)
    found: Described = reading(network)
    return found


def _differs(network: NetworkFiles, key: str, value: object, but: str) -> WeightsError:
    problem = f"{key} is {json.dumps(value)[:100]}, {but}"
    cure = "restore the file, or the weights beside it, from where the checkpoint came from"
    return WeightsError(network.file, problem, cure)
