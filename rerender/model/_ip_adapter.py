"""IP-Adapters (Ye et al. 2023, arXiv 2308.06721): a picture beside the words, or instead of them.

Every cross-attention layer attends to the words and, with keys and values of its own, to tokens
that are made of pictures (decoupled cross-attention, equation 5):

    h  =  softmax(Q K^T / sqrt(d)) V  +  scale * softmax(Q K'^T / sqrt(d)) V'

The files are those of the authors, read by diffusers; the tokens are made once, when the model is
loaded, so that the image encoder is not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rerender.contracts import Adapter, require_window
from rerender.data import picture
from rerender.errors import ConfigError, InputError, WeightsError
from rerender.files import suffixes
from rerender.model._files import CONFIG, weights_of
from rerender.model._loading import libraries, unreadable
from rerender.model._tensors import tensors

ENCODER = "image_encoder"  # the folder beside an adapter's file, where the authors put it
FAMILY = "take an IP-Adapter of this checkpoint's family (1.5 and XL differ)"
_TOKENS = 4  # that a plain IP-Adapter makes of a picture


@dataclass(frozen=True, kw_only=True)
class IPAdapter(Adapter):
    """An IP-Adapter and what it is shown.

    Attributes:
        path: its safetensors file.
        image: a picture, or a folder of several, all of which are attended to.
        image_encoder: folder of the CLIP image encoder that it was trained with; None takes
            ``image_encoder`` beside the file.
        scale: weight of the picture against the words; 0 is the checkpoint alone.
        start: first moment it acts, as a share of the steps.
        stop: first moment it does not act any more.
    """

    path: str
    image: str
    image_encoder: str | None = None

    def __post_init__(self) -> None:
        require_window("model.ip_adapters", self.start, self.stop)
        if not -10 <= self.scale <= 10:
            problem = f"a scale must lie in -10..10, received {self.scale}"
            raise ConfigError("model.ip_adapters", problem, "0 to 1 is usual")

    @property
    def file(self) -> Path:
        """The safetensors file.

        Raises:
            WeightsError: there is none, or it is a pickle.
        """
        file = Path(self.path).expanduser()
        cure = "give the .safetensors file of an IP-Adapter"
        if file.suffix in (".bin", ".pt", ".pth", ".ckpt"):
            raise WeightsError(file, "is a pickle, which is never opened", cure)
        if not file.is_file():
            raise WeightsError(self.path, "no such file of an IP-Adapter", cure)
        return file

    @property
    def encoder(self) -> Path:
        """The folder of the image encoder.

        Raises:
            WeightsError: there is none.
        """
        if self.image_encoder is not None:
            folder = Path(self.image_encoder).expanduser()
        else:
            folder = self.file.parent / ENCODER
        if not (folder / CONFIG).is_file():
            cure = "give the folder of its CLIP image encoder: image_encoder=FOLDER"
            raise WeightsError(folder / CONFIG, "is missing", cure)
        return folder

    @property
    def pictures(self) -> Sequence[Path]:
        """The pictures it is shown, in order of their names.

        Raises:
            InputError: there is none.
        """
        place = Path(self.image).expanduser()
        found = sorted(place.iterdir()) if place.is_dir() else [place]
        found = [file for file in found if file.is_file()]
        if place.is_dir():
            found = [file for file in found if file.suffix.lower() in suffixes.PICTURES]
        if not found:
            raise InputError(self.image, "no such picture, or no picture in it", "give one")
        return found

    def files(self) -> Iterator[Path]:
        """All files that decide what it adds."""
        folder = self.encoder
        yield from (self.file, folder / CONFIG)
        yield from (folder / name for name in weights_of(folder, "model").files)
        yield from self.pictures


class Switch(NamedTuple):
    """An IP-Adapter with a window.

    Attributes:
        adapter: what it is.
        number: its place among the loaded ones.
        layers: the cross-attention of a UNet.
    """

    adapter: IPAdapter
    number: int
    layers: Sequence[Any]

    def switch(self, scale: float) -> None:
        """Set how much of it acts in the evaluations that follow."""
        for layer in self.layers:
            layer.scale[self.number] = scale


class ImagePrompt(nn.Module):
    """What the pictures are to a UNet.

    Attributes:
        tokens: ``[2,M,D]``, of no picture and of the pictures; M counts those of all adapters.
        layers: the cross-attention, which holds keys and values of its own for them.
        switches: the adapters that have windows, switched off.
        config: what decides results besides weights.
    """

    tokens: Tensor

    def __init__(self, tokens: Tensor, layers: Sequence[Any], adapters: Sequence[IPAdapter]):
        super().__init__()
        self.register_buffer("tokens", tokens)
        self.layers = nn.ModuleList(layers)
        self.switches = [
            Switch(adapter, number, layers)
            for number, adapter in enumerate(adapters)
            if adapter.windowed
        ]
        self.config = {"scales": [(each.scale, each.start, each.stop) for each in adapters]}

    def embeds(self, branches: int) -> Tensor:
        """The tokens ``[B,M,D]`` of one branch, which sees the pictures, or of several: the
        last one does."""
        return self.tokens[[0] * (branches - 1) + [1]]


class _Split(nn.Module):
    """The tokens of all adapters ``[B,M,D]`` to those of each ``[B,I,T,D]``, as the UNet wants
    them: I pictures of T tokens."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.shapes = shapes

    def forward(self, embeds: Tensor) -> list[Tensor]:
        parts = torch.split(embeds, [count * tokens for count, tokens in self.shapes], 1)
        sizes = zip(parts, self.shapes, strict=True)
        return [part.reshape(len(part), *shape, -1) for part, shape in sizes]


def apply(
    adapters: Sequence[IPAdapter], unet: Any, device: torch.device, dtype: torch.dtype
) -> ImagePrompt | None:
    """Open a UNet's cross-attention for pictures.

    Args:
        adapters: in order; those of scale 0 are left out.
        unet: a ``UNet2DConditionModel``.
        device: of the weights.
        dtype: of the weights.

    Returns:
        What it is shown; None where that is nothing.

    Raises:
        WeightsError: an adapter or image encoder cannot be read, or does not fit.
    """
    adapters = [adapter for adapter in adapters if adapter.scale != 0]
    if not adapters:
        return None
    states = [_state(adapter, device, dtype) for adapter in adapters]
    try:
        libraries()
        # diffusers fills them completely afterwards: random values need no keyed generator.
        with torch.random.fork_rng(devices=[]):
            unet._load_ip_adapter_weights(states, low_cpu_mem_usage=False)
    except Exception as error:  # of the library, which names neither the file nor the layer
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(adapters[0].file, f"fits no layer here ({reason})", FAMILY) from error
    found, shapes = [], []
    for adapter, project in zip(
        adapters, unet.encoder_hid_proj.image_projection_layers, strict=True
    ):
        made = _tokens(adapter, project.eval(), device, dtype)  # [2,I,T,D]
        shapes.append((made.shape[1], made.shape[2]))
        found.append(made.flatten(1, 2))
    unet.encoder_hid_proj = _Split(shapes)
    layers = [each for each in unet.attn_processors.values() if hasattr(each, "to_k_ip")]
    for number, adapter in enumerate(adapters):
        Switch(adapter, number, layers).switch(0.0 if adapter.windowed else adapter.scale)
    return ImagePrompt(torch.cat(found, 1), layers, adapters)


def _state(adapter: IPAdapter, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The weights as diffusers takes them: those of the projection, and of the layers."""
    found: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors([adapter.file], dtype, device):
        part, _, rest = name.partition(".")
        if part in found:
            found[part][rest] = tensor
    return found


@torch.no_grad()
def _tokens(adapter: IPAdapter, project: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Tokens of no picture and of the pictures ``[2,I,T,D]``: no picture is an embedding of zeros
    (plain), or the embedding of a picture of zeros (plus, full face), as in diffusers."""
    from diffusers.models.embeddings import ImageProjection

    _, transformers = libraries()
    try:
        encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(
            adapter.encoder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
    except Exception as error:  # the library raises a dozen kinds and never names the file
        raise unreadable(adapter.encoder, error) from error
    encoder.to(device).eval()
    side = encoder.config.image_size
    prepare = transformers.CLIPImageProcessor(size=side, crop_size=side)
    frames = [(picture.read(file).image * 255).round().byte() for file in adapter.pictures]
    pixels = torch.cat(
        [
            prepare(_pil(frame), return_tensors="pt").pixel_values.to(device, dtype)
            for frame in frames
        ]
    )
    if isinstance(project, ImageProjection):
        seen = encoder(pixels).image_embeds
        unseen = torch.zeros_like(seen)
    else:
        seen, unseen = (
            encoder(each, output_hidden_states=True).hidden_states[-2]
            for each in (pixels, torch.zeros_like(pixels))
        )
    return torch.stack([project(unseen), project(seen)])


def _pil(frame: Tensor) -> Any:
    from PIL import Image

    return Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
