"""Whether IP-Adapters fit a checkpoint and their image encoders, read from the headers of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rerender.data import picture
from rerender.errors import WeightsError
from rerender.model._described import Described, is_whole
from rerender.model._described import unet as described
from rerender.model._files import CONFIG, StoredTensor, header, read, weights_of
from rerender.model._ip_adapter import FAMILY, IPAdapter
from rerender.model._located import Located


def check(adapters: Sequence[IPAdapter], located: Located) -> None:
    """Refuse files that hold no IP-Adapter, or one of another family or for another image encoder,
    by their headers, and pictures that cannot be read.

    Raises:
        WeightsError: with the file.
        InputError: a picture is missing or damaged.
    """
    for adapter in adapters:
        entries = header(adapter.file).tensors
        _check_kind(adapter.file, entries)
        _check_layers(adapter.file, entries, described(located.unet))
        _check_encoder(adapter, entries)
        weights_of(adapter.encoder, "model")
        for file in adapter.pictures:
            picture.read(file)


def _check_kind(file: Path, entries: dict[str, StoredTensor]) -> None:
    if not any(name.startswith("ip_adapter.") for name in entries):
        first = next(iter(entries), "nothing")
        cure = "give the file of an IP-Adapter"
        raise WeightsError(file, f"holds no IP-Adapter (but {first[:80]})", cure)
    faces = ("image_proj.norm.weight", "image_proj.perceiver_resampler.proj_in.weight")
    plain = "image_proj.proj.weight" in entries or "image_proj.proj.3.weight" in entries
    if not plain and any(name in entries for name in faces):
        problem = "is a FaceID adapter, which needs an embedding of a face"
        raise WeightsError(file, problem, "take a plain, plus or full-face IP-Adapter")


def _check_layers(file: Path, entries: dict[str, StoredTensor], unet: Described) -> None:
    """Keys and values ``[C,D]`` for every cross-attention layer, in the order of the UNet."""
    said = [
        entries[name].shape
        for number in range(len(entries))
        if (name := f"ip_adapter.{2 * number + 1}.to_k_ip.weight") in entries
    ]
    depth, wide = unet.levels("cross_attention_dim"), _widths(unet)
    if wide is not None and [shape[0] for shape in said] != wide:
        theirs = _short([(width,) for width in wide])
        problem = (
            f"is for {len(said)} cross-attention layers of width {_short(said)}, "
            f"{unet.file} has {len(wide)} of width {theirs}"
        )
        raise WeightsError(file, problem, FAMILY)
    if any(shape[1] != depth[0] for shape in said):
        problem = f"was trained for text of width {said[0][1]}, this checkpoint has {depth[0]}"
        raise WeightsError(file, problem, FAMILY)


def _short(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(str(width) for width in dict.fromkeys(shape[0] for shape in shapes))


def _widths(unet: Described) -> list[int] | None:
    """Widths of the cross-attention layers in the order of diffusers: encoder, decoder, bottleneck;
    None where blocks differ among themselves."""
    widths, layers = list(unet.get("block_out_channels")), unet.levels("layers_per_block")
    deep = unet.levels("transformer_layers_per_block")
    back = unet.get("reverse_transformer_layers_per_block")
    if back is not None or not all(map(is_whole, (*layers, *deep))):
        return None
    found: list[int] = []
    for kind, width, count, times in zip(
        unet.get("down_block_types"), widths, layers, deep, strict=True
    ):
        found += [width] * count * times if kind.startswith("CrossAttn") else []
    for kind, width, count, times in zip(
        unet.get("up_block_types"), widths[::-1], layers[::-1], deep[::-1], strict=True
    ):
        found += [width] * (count + 1) * times if kind.startswith("CrossAttn") else []
    return [*found, *[widths[-1]] * deep[-1]]


def _check_encoder(adapter: IPAdapter, entries: dict[str, StoredTensor]) -> None:
    """The width of what the adapter reads is that of what the encoder gives."""
    config = read(adapter.encoder / CONFIG)
    inner = config.get("vision_config")
    said = inner if isinstance(inner, dict) else config
    place, axis, key = next(
        found
        for found in (
            ("image_proj.proj.weight", 1, "projection_dim"),
            ("image_proj.proj.0.weight", 1, "hidden_size"),
            ("image_proj.proj_in.weight", 1, "hidden_size"),
            ("", 0, ""),
        )
        if not found[0] or found[0] in entries
    )
    if not place:
        problem = "holds no image projection that is known here"
        raise WeightsError(adapter.file, problem, "take a plain, plus or full-face IP-Adapter")
    found_, wanted = said.get(key), entries[place].shape[axis]
    if found_ != wanted:
        raise WeightsError(
            adapter.encoder / CONFIG,
            f"{key} is {found_}, {adapter.file.name} reads {wanted}",
            "give the image encoder that it was trained with: image_encoder=FOLDER",
        )
