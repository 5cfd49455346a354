"""Stock diffusers video-to-video pipelines as rows of a comparison: what each is to be told.

A video model is no `Model` of this project: it denoises all frames at once and has no place for
constraints. So its pipeline is called as its documentation says, and its frames are kept.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rerender.errors import ConfigError, WeightsError
from rerender.files import levels

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
PARTS = {"motion_adapter": "MotionAdapter", "controlnet": "ControlNetModel"}
"""Networks that may lie in folders of their own, and their classes."""


@dataclass(frozen=True)
class StockRequest:
    """What a pipeline is asked.

    Attributes:
        frames: the source, ``[3,H,W]`` in 0..1.
        controls: a control map of each, ``[3,H,W]`` in 0..1.
        prompt, negative_prompt: texts.
        seed: of all noise.
        steps: denoising steps of a full run.
        strength: share of them that is executed; None begins with noise alone.
        guidance: scale of classifier-free guidance.
        rate: frames per second.
    """

    frames: Sequence[Tensor]
    controls: Sequence[Tensor]
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    strength: float | None
    guidance: float
    rate: float = 25.0


class StockPipeline(NamedTuple):
    """A pipeline class of diffusers.

    Attributes:
        arguments: ``arguments(request, pipeline)``: what it is called with besides the common
            ones.
        multiple: image sides must be multiples of it, pixels.
        ratio: it takes ``1 + ratio * n`` frames; ``ratio(pipeline)``.
        text: a library without which it cannot read prompts; "" for none.
    """

    arguments: Callable[[StockRequest, Any], dict[str, Any]]
    multiple: int
    ratio: Callable[[Any], int]
    text: str = ""


def _restyled(asked: StockRequest, pipe: Any) -> dict[str, Any]:
    return {"video": pictures(asked.frames), "strength": _share(asked), **_size(asked)}


def _controlled(asked: StockRequest, pipe: Any) -> dict[str, Any]:
    return {**_restyled(asked, pipe), "conditioning_frames": pictures(asked.controls)}


def _vace(asked: StockRequest, pipe: Any) -> dict[str, Any]:
    # Without masks VACE takes its video for a control to follow, all of it to be generated.
    count = len(asked.frames)
    return {"video": pictures(asked.controls), "num_frames": count, **_size(asked)}


def _ltx(asked: StockRequest, pipe: Any) -> dict[str, Any]:
    # Of frames given as its `video` it hears the first alone, and one nested list of them is a
    # condition that is never denoised. What is re-noised, as `strength` asks, are its `latents`.
    shape = {"num_frames": len(asked.frames), "frame_rate": round(asked.rate), **_size(asked)}
    return {"latents": _ltx_latents(asked, pipe), "denoise_strength": _share(asked), **shape}


def _ltx_latents(asked: StockRequest, pipe: Any) -> Tensor:
    """The source as LTX denoises it: ``[1,C,f,h,w]``, of zero mean and unit deviation."""
    vae, size = pipe.vae, _size(asked)
    video = pipe.video_processor.preprocess_video(pictures(asked.frames), **size)
    with torch.no_grad():
        latents = vae.encode(video.to(vae.device, vae.dtype)).latent_dist.mode()
    mean, deviation = (
        each.view(1, -1, 1, 1, 1).to(latents) for each in (vae.latents_mean, vae.latents_std)
    )
    normalised: Tensor = (latents - mean) * vae.config.scaling_factor / deviation
    return normalised


def _size(asked: StockRequest) -> dict[str, int]:
    height, width = asked.frames[0].shape[-2:]
    return {"height": height, "width": width}


def _share(asked: StockRequest) -> float:
    return 1.0 if asked.strength is None else asked.strength


KINDS: Mapping[str, StockPipeline] = {
    "AnimateDiffVideoToVideoPipeline": StockPipeline(_restyled, 8, lambda pipe: 1),
    "AnimateDiffVideoToVideoControlNetPipeline": StockPipeline(_controlled, 8, lambda pipe: 1),
    "WanVideoToVideoPipeline": StockPipeline(
        _restyled, 16, lambda pipe: pipe.vae_scale_factor_temporal, "ftfy"
    ),
    "WanVACEPipeline": StockPipeline(
        _vace, 16, lambda pipe: pipe.vae_scale_factor_temporal, "ftfy"
    ),
    "LTXConditionPipeline": StockPipeline(
        _ltx, 32, lambda pipe: pipe.vae_temporal_compression_ratio
    ),
}


class StockVideo:
    """A pipeline of diffusers, ready to be asked.

    Args:
        pipeline: of one of the classes of `KINDS`.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.kind = pipeline, KINDS[type(pipeline).__name__]

    @classmethod
    def load(
        cls, folder: Path, name: str | None, parts: Mapping[str, Path], dtype: torch.dtype
    ) -> StockVideo:
        """The pipeline of a folder on this disk; nothing is fetched, nothing but safetensors read.

        Args:
            folder: as ``save_pretrained`` writes it.
            name: a class of `KINDS`; None takes the one that the folder names.
            parts: folders of networks that the folder does not have, by the names of `PARTS`.
            dtype: of all networks.

        Raises:
            WeightsError: something is missing, damaged or of another kind.
            ConfigError: a class or part that is not known, or a library that is not installed.
        """
        import diffusers

        index = _index(folder)
        name = name or str(index.get("_class_name"))
        if name not in KINDS:
            problem = f"is no pipeline that is run here, received {name}"
            raise ConfigError("--pipeline", problem, f"one of {', '.join(KINDS)}")
        if (library := KINDS[name].text) and importlib.util.find_spec(library) is None:
            problem = f"{name} reads prompts with {library}, which is not installed"
            raise ConfigError("--pipeline", problem, f"pip install {library}")
        for part in parts:
            if part not in PARTS:
                raise ConfigError("--part", f"no network {part!r}", f"one of {', '.join(PARTS)}")
        settings = {"local_files_only": True, "use_safetensors": True, "dtype": dtype}
        where = folder
        try:
            networks = {}
            for part, where in parts.items():
                networks[part] = getattr(diffusers, PARTS[part]).from_pretrained(where, **settings)
            where = folder
            made = getattr(diffusers, name).from_pretrained(folder, **networks, **settings)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            said = " ".join(str(error).split())[:300]
            cure = "take a folder as save_pretrained of that class writes it"
            raise WeightsError(where, f"is not what {name} needs: {said}", cure) from error
        return cls(made)

    def check(self, size: tuple[int, int], count: int) -> None:
        """Refuse frames of a (height, width) or number that the pipeline cannot take.

        Raises:
            ConfigError: naming the key that mends it.
        """
        if any(side % self.kind.multiple for side in size):
            rule = f"sides must be multiples of {self.kind.multiple}, received {size[1]}x{size[0]}"
            raise ConfigError("data.size", rule, "choose another short side, or cropped clips")
        unet = getattr(self.pipeline, "unet", None)
        limit = getattr(unet.config, "motion_max_seq_length", None) if unet is not None else None
        if limit is not None and count > limit:
            rule = f"the motion modules know {limit} frames, received {count}"
            raise ConfigError("data.frames", rule, f"data.frames={limit}")

    def restyle(self, asked: StockRequest) -> list[Tensor]:
        """As many frames as the request has, ``[3,H,W]`` in 0..1."""
        made = self.call(asked, "np")
        frames = torch.from_numpy(made[0]).permute(0, 3, 1, 2).float().clamp(0, 1)
        return list(frames[: len(asked.frames)])

    def call(self, asked: StockRequest, output_type: str) -> Any:
        """What the pipeline answers, in its own form (``frames``)."""
        asked = filled_up(asked, self.kind.ratio(self.pipeline))
        self.pipeline.set_progress_bar_config(disable=True)
        return self.pipeline(
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            num_inference_steps=asked.steps,
            guidance_scale=asked.guidance,
            generator=torch.Generator().manual_seed(asked.seed),
            output_type=output_type,
            **self.kind.arguments(asked, self.pipeline),
        ).frames


def filled_up(asked: StockRequest, ratio: int) -> StockRequest:
    """The request with its last frame repeated, up to ``1 + ratio * n`` frames."""
    missing = -(len(asked.frames) - 1) % ratio
    frames = [*asked.frames, *[asked.frames[-1]] * missing]
    controls = [*asked.controls, *[asked.controls[-1]] * missing] if asked.controls else ()
    return replace(asked, frames=frames, controls=controls)


def pictures(frames: Sequence[Tensor]) -> list[Any]:
    """Frames as the pictures of 8 bits that pipelines take."""
    from PIL import Image

    return [Image.fromarray(levels(each).permute(1, 2, 0).numpy()) for each in frames]


def _index(folder: Path) -> Mapping[str, Any]:
    """What a folder says it holds: networks of known libraries only."""
    file = folder / INDEX
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        named = {
            key: value[0]
            for key, value in found.items()
            if isinstance(value, list) and value and value[0] is not None
        }
    except (OSError, ValueError, AttributeError) as error:
        cure = "name a folder as save_pretrained writes it"
        raise WeightsError(file, f"cannot be read: {error}", cure) from error
    for key, library in named.items():
        if library not in LIBRARIES:
            problem = f"{key} comes from {library!r}, which is not trusted"
            raise WeightsError(file, problem, f"take networks of {' and '.join(LIBRARIES)}")
    return dict(found)
