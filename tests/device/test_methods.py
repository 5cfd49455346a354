"""Every method on a device that refuses what a device refuses, with a budget of waits.

The budget: none in a network evaluation, and outside at most two for each key frame and constraint
besides those of the model (source, controls and prompts go in, the picture comes out). What is over
it is named in ``OVER``, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rerender import parts
from rerender.config.paths import choices_of
from rerender.contracts import NoiseRequest
from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components
from rerender.translate import translate
from tests.device.pretend import DEVICE, Claimed, Waits, pretended
from tests.scenes import SCENE, moving

KEYS = 3
CLIP = replace(SCENE, video=moving(KEYS), source_prompt="a cat")
WAITING = ("read", "shape", "download", "upload")
OVER = {
    # Attention maps of an inversion are kept in the processor's memory or on disk, since a shot's
    # do not fit a device: one copy there and one back for each.
    "constraint/_stored_maps.py",
    "constraint/self_maps.py",
    # The learning rate is a number in standard deviations of the features: one for each call.
    "constraint/_correspondence.py",
    # Whether a share is 0 or 1 everywhere is asked where it is kept, in the processor's memory.
    "translation/share.py",
    # Whether a step made the loss smaller decides whether it is taken.
    "constraint/feature.py",
    # Whether the embedding is near enough decides how many evaluations follow.
    "start/null_text.py",
    # How many cells are hidden decides a shape: one for each pair of key frames and resolution.
    "constraint/_trajectories.py",
}
MODEL = (
    *("model/diffusion.py", "model/_text.py", "translation/key_frame.py"),
    *("constraint/_backbones.py", "demo/perceptual.py"),  # weights, loaded once in a process
)
STEPS = {"controlvideo": 8, "start_50": 8}  # of which some constraint acts in one, else of 6
CORE = ("rerender", "rerender_joint", "tokenflow", "flatten", "streamv2v", "vidtome")


class Counting(StableDiffusion):
    """Keeps what its network evaluations waited for."""

    waits: Waits
    inside: Counter[tuple[str, str]]

    def predict_noise(self, requests: Sequence[NoiseRequest]) -> list[Tensor]:
        before = self.waits.found.copy()
        answers = super().predict_noise(requests)
        self.inside += self.waits.found - before
        return answers


@pytest.fixture(scope="module")
def model() -> Iterator[Counting]:
    with pretended() as waits, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Counting(components(1), DEVICE)
        made.waits = waits
        yield made


def waited(found: Counter[tuple[str, str]]) -> dict[str, int]:
    """How often the processor waited, by file, without what is excused."""
    files = Counter[str]()
    for (kind, line), count in found.items():
        file = line.split(":")[0].removeprefix("rerender/")
        if kind in WAITING and file not in OVER:
            files[file] += count
    return dict(files)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=() if name in CORE else pytest.mark.slow)
        for name in choices_of("method")
    ],
)
def test_methods_mix_no_devices_and_keep_to_the_budget(model: Counting, method: str) -> None:
    keeps_to_the_budget(model, f"+method={method}", f"sampling.steps={STEPS.get(method, 6)}")


def keeps_to_the_budget(model: Counting, *settings: str) -> None:
    model.waits.found.clear()
    model.inside = Counter()
    chosen = parts("model=tiny", *settings)
    done = list(translate(CLIP, [range(KEYS)], model, chosen))
    assert len(done) == KEYS
    assert all(isinstance(each.trace.latent, Claimed) for each in done)
    assert not waited(model.inside), model.inside
    outside = waited(model.waits.found)
    own = {file: count for file, count in outside.items() if file not in MODEL}
    assert sum(own.values()) <= 2 * KEYS * len(chosen.constraint), own


def test_smoothed_backgrounds_mix_no_devices(model: Counting) -> None:
    window = ("constraint.fresco.smooth_start=0", "constraint.fresco.smooth_stop=1")
    fresco = ("+method=fresco", "constraint.fresco.iterations=0", *window)
    keeps_to_the_budget(model, *fresco, "sampling.steps=2")


INVERTED = ("cross_guidance", "cross_maps", "flatten", "self_maps", "tokenflow")
STARTS = {
    "latent_motion": ("sampling.strength=null",),
    "null_text": ("start.iterations=2",),
}


@pytest.mark.parametrize("sampler", choices_of("sampler"))
def test_samplers_mix_no_devices(model: Counting, sampler: str) -> None:
    few = ("constraint=[color]", "sampling.steps=4")
    keeps_to_the_budget(model, f"sampler={sampler}", *few)


@pytest.mark.slow
@pytest.mark.parametrize("start", choices_of("start"))
def test_starts_mix_no_devices(model: Counting, start: str) -> None:
    few = ("constraint=[color]", "sampling.steps=4", *STARTS.get(start, ()))
    keeps_to_the_budget(model, f"start={start}", *few)


@pytest.mark.slow
@pytest.mark.parametrize("constraint", choices_of("constraint"))
def test_constraints_mix_no_devices(model: Counting, constraint: str) -> None:
    start = "ddim_inversion" if constraint in INVERTED else "noised"
    whole = ("sampling.steps=10", "sampling.strength=1.0")
    keeps_to_the_budget(model, f"constraint=[{constraint}]", f"start={start}", *whole)


def test_the_device_refuses_and_counts() -> None:
    here = torch.arange(3.0)
    with pretended() as waits:
        there = here.to(DEVICE)
        with pytest.raises(RuntimeError, match="of the CPU"):
            there + here
        assert isinstance(there + torch.tensor(1.0), Claimed)  # a number may come from anywhere
        with pytest.raises(TypeError, match=r"Tensor\.cpu"):
            there.numpy()
        assert {kind for kind, _ in waits.found} == {"upload"}
        waits.found.clear()
        assert float(there.sum()) == 3
        assert bool(there[0] == 0)
        assert there.tolist() == [0, 1, 2]
        assert torch.equal((there * 2).cpu(), here * 2)
        assert len(there[there > 0]) == 2
        assert waits.total("read") == 2
        assert waits.total("download") == 2
        assert waits.total("shape") == 1
        here.pin_memory().to(DEVICE, non_blocking=True)
        here.to(DEVICE, non_blocking=True)
        assert waits.total("pinned") == 1
        assert waits.total("upload") == 1
