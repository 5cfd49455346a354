"""Run key-frame translation on recorded tensors; compare with what another program made of them.

    python examples/recorded_tensors.py RECORDING.npz MODEL preset=published sampling.strength=0.95

Arrays of a recording, N key frames of H x W pixels, latents of C x h x w:

    frames            uint8 [N,H,W,3]
    control           uint8 [N,H,W,3], the map that the ControlNet sees
    flow_A_B          float32 [2,H,W], pixels (x, y): frame B at p + flow is frame A at p
    noise/N/start     float32 [1,C,h,w], the noise that the source latent of frame N is mixed with
    noise/N/pixel/S   the same for executed step S of pixel fusion, where that acts
    noise/N/vae/K     the same for the draw of the K-th image of frame N that is encoded (0: the
                      frame; 1, 2: the overlay of pixel fusion, and the same decoded and overlaid);
                      without it the mean of the autoencoder's distribution is taken
    latents           float32 [N,1,C,h,w], the last latents of the other program
    prompt, negative_prompt

All of it is computed on the processor in float32. What is printed is max |ours - theirs| of the
last latent of each key frame; 1e-4 is what the order of additions may change.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerender import Clip, load_model, parts
from rerender.config.parts import Parts
from rerender.contracts import Control, FlowEstimator, Model
from rerender.scene import Noise
from rerender.translate import translate
from rerender.video import Frame, KeyFrame, MemoryVideo


class Recording:
    """The arrays of a file, as tensors in the project's own conventions."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self.arrays: dict[str, Any] = dict(arrays)
        self.frames, self.controls = self._images("frames"), self._images("control")

    def _images(self, name: str) -> list[Tensor]:
        """RGB, float32, 0..1, ``[3,H,W]`` each."""
        return [torch.from_numpy(each).permute(2, 0, 1).float() / 255 for each in self.arrays[name]]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def number(self, image: Tensor) -> int | None:
        """Which frame an image is; None where it is none."""
        same = (index for index, frame in enumerate(self.frames) if torch.equal(frame, image))
        return next(same, None)

    def noise(self, key: KeyFrame) -> Noise:
        """The draws of one key frame, by role and executed step."""

        def draw(role: str, step: int) -> Tensor:
            name = f"noise/{key.index}/{role}"
            return self.tensor(name if role == "start" else f"{name}/{step}")

        return draw


class RecordedControl(Control):
    name = "canny"  # the checkpoint's ControlNet of this name is run

    def __init__(self, recording: Recording, weight: float) -> None:
        super().__init__(weight=weight)
        self.recording = recording

    def map(self, image: Tensor) -> Tensor:
        index = self.recording.number(image)
        assert index is not None, "control maps are made of frames"
        return self.recording.controls[index]


class RecordedFlow(FlowEstimator):
    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return self.recording.tensor(f"flow_{target.index}_{source.index}")[None]


def with_posterior(model: Any, recording: Recording) -> Model:
    """The same model; what it encodes is drawn from the autoencoder's distribution with recorded
    noise. Frames come first: what follows belongs to the same key frame (``batch_size=1``)."""
    plain, at = model.encode, {"frame": 0, "count": 0}

    def encode(image: Tensor) -> Tensor:
        index = recording.number(image)
        at.update(frame=index, count=0) if index is not None else at.update(count=at["count"] + 1)
        name = f"noise/{at['frame']}/vae/{at['count']}"
        if name not in recording.arrays:
            return plain(image)  # type: ignore[no-any-return]
        config = model.parts.vae.config
        with torch.no_grad():
            distribution = model.parts.vae.encode(image[None] * 2 - 1).latent_dist
        drawn: Tensor = distribution.mean + distribution.std * recording.tensor(name)
        return (drawn - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor

    model.encode = encode
    return model  # type: ignore[no-any-return]


def differences(recording: Recording, model: Any, chosen: Parts) -> list[float]:
    """max |ours - theirs| of the last latent of each key frame; all are of one shot."""
    clip = Clip(
        "recording",
        MemoryVideo(recording.frames),
        str(recording.arrays["prompt"]),
        negative_prompt=str(recording.arrays["negative_prompt"]),
    )
    shot = range(len(recording.frames))
    made = translate(clip, [shot], model, chosen, draw=recording.noise)
    latents = [each.trace.latent for each in made]
    return [
        float((ours - theirs).abs().max())
        for ours, theirs in zip(latents, recording.tensor("latents"), strict=True)
        if ours is not None
    ]


def main(words: Sequence[str] | None = None) -> list[float]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("model", help="a diffusers folder, or demo, or tiny")
    parser.add_argument("settings", nargs="*", help="key=value, as on the command line")
    parser.add_argument("--weight", type=float, default=0.7, help="of the ControlNet")
    asked = parser.parse_args(words)
    recording = Recording(asked.recording)
    network = [word for word in asked.settings if word.startswith("model.")]
    others = [word for word in asked.settings if word not in network]
    chosen = replace(
        parts("keyframes=uniform", "keyframes.interval=1", *others),
        control=(RecordedControl(recording, asked.weight),),
        flow=RecordedFlow(recording),
    )
    model = load_model(asked.model, ("canny",), *network)
    model = with_posterior(model, recording)
    found = differences(recording, model, chosen)
    for index, value in enumerate(found):
        print(f"key frame {index}: {value:.2e}")
    return found


if __name__ == "__main__":
    main()
