"""Where frames are looked at: by estimators and annotators of torch on the device of the run, by
those of OpenCV on the processor."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rerender import parts
from rerender.config.parts import Parts
from rerender.contracts import BatchedFlowEstimator, Control, FlowEstimator
from rerender.control.canny import Canny
from rerender.control.depth import Depth
from rerender.control.hed import HED, Network
from rerender.control.imagined import Imagined
from rerender.flow.dis_torch import DisTorch
from rerender.flow.field import Flow
from rerender.flow.gmflow import GmFlow
from rerender.flow.raft import Raft
from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components
from rerender.store.cache import Cache
from rerender.store.network_outputs import kept
from rerender.translate import translate
from rerender.translation.placement import control_map, placed_parts
from rerender.video import Frame
from tests.device.pretend import DEVICE, Claimed, Waits, pretended
from tests.flow.test_networks import FAKE
from tests.scenes import SCENE, moving

KEYS = 3
QUICK = ("model=tiny", "sampling.steps=2")
WAITING = ("read", "shape", "download", "upload")
VIDEO = moving(3)
PAIR = VIDEO.frame(0), VIDEO.frame(1)
PLACES = "rerender/translation/placement.py"
Estimators = dict[str, FlowEstimator]
Annotators = dict[str, Control]


@pytest.fixture(scope="module")
def estimators(tmp_path_factory: pytest.TempPathFactory) -> Estimators:
    """Every estimator that computes with torch; what random weights find is of no interest."""
    from torchvision.models.optical_flow import raft_small

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), folder / "raft.pth")
    code = folder / "code" / "gmflow"
    code.mkdir(parents=True)
    (code / "__init__.py").touch()
    (code / "gmflow.py").write_text(FAKE.replace("assert first.max() > 1", ""))  # a read
    torch.save({"scale": torch.full((1,), 0.25)}, folder / "gmflow.pth")
    return {
        "dis_torch": DisTorch(),
        "raft": Raft("small", folder / "raft.pth", updates=1),
        "gmflow": GmFlow(folder / "code", folder / "gmflow.pth"),
    }


@pytest.fixture(scope="module")
def annotators(tmp_path_factory: pytest.TempPathFactory) -> Annotators:
    """Every annotator that computes with torch."""
    from transformers import DPTConfig, DPTForDepthEstimation

    folder = tmp_path_factory.mktemp("annotators")
    torch.manual_seed(0)
    save_file(Network().state_dict(), folder / "hed.safetensors")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 8, 8],
        "reassemble_factors": [4, 2, 1, 0.5],
        "fusion_hidden_size": 8,
        "is_hybrid": False,
        "readout_type": "ignore",
    }
    DPTForDepthEstimation(DPTConfig(**sizes)).save_pretrained(folder / "dpt")
    hed, depth = HED(path=str(folder / "hed.safetensors")), Depth(path=str(folder / "dpt"))
    return {"hed": hed, "depth": depth}


@dataclass
class Spy(FlowEstimator):
    """Keeps the frames that an estimator is shown."""

    inner: FlowEstimator
    seen: list[Tensor]

    @property
    def on_device(self) -> bool:
        return self.inner.on_device

    def offset(self, target: Frame, source: Frame, start: Tensor | None = None) -> Tensor:
        return self.inner.offset(target, source, start)

    def pair(self, first: Frame, second: Frame) -> tuple[Flow, Flow]:
        self.seen.extend([first.image, second.image])
        return self.inner.pair(first, second)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    with pretended(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return StableDiffusion(components(1), DEVICE)


def translated(chosen: Parts, model: StableDiffusion) -> Waits:
    """What the processor waited for while all frames were translated."""
    clip = replace(SCENE, video=moving(KEYS))
    with pretended() as waits:
        done = list(translate(clip, [range(KEYS)], model, chosen))
        assert all(isinstance(each.trace.latent, Claimed) for each in done)
    return waits


def by_file(waits: Waits, *kinds: str) -> Counter[str]:
    """How often each file copied or waited."""
    files = Counter[str]()
    for (kind, line), count in waits.found.items():
        if kind in kinds:
            files[line.split(":")[0]] += count
    return files


@pytest.mark.parametrize("name", ["dis_torch", "raft", "gmflow", "dis"])
def test_flow_of_torch_between_key_frames_is_estimated_on_the_device(
    model: StableDiffusion, estimators: Estimators, name: str
) -> None:
    chosen = parts(*QUICK, "constraint=[pixel]", "constraint.pixel.start=0")
    flow, seen = estimators.get(name, chosen.flow), list[Tensor]()
    with pretended():  # weights go there
        placed_parts(replace(chosen, flow=flow), DEVICE, back=False).flow.pair(*PAIR)
    waits = translated(replace(chosen, flow=Spy(flow, seen)), model)
    flows = 2 * (KEYS - 1) - 1  # to the anchor and to the frame before
    assert len(seen) == 2 * flows
    assert all(isinstance(image, Claimed) == (name != "dis") for image in seen)
    # Nothing waits but for the picture that comes back; prompts go there.
    found = by_file(waits, *WAITING)
    assert found.pop("rerender/translation/key_frame.py") == KEYS
    assert set(found) <= {"rerender/model/_text.py"}
    # Each frame goes there once, and answers stay there; OpenCV's answers go there. So does noise,
    # of each start and of each constraint.
    assert by_file(waits, "pinned")[PLACES] == KEYS + (KEYS - 1) + (
        2 * flows if name == "dis" else KEYS
    ), waits.found


@pytest.mark.parametrize("name", ["dis_torch", "raft", "gmflow"])
def test_answers_come_back_to_where_frames_lie_and_are_those_of_the_estimator(
    estimators: Estimators, name: str
) -> None:
    flow, (one, two) = estimators[name], PAIR
    start = torch.full((1, 2, 32, 32), 0.5)

    def asked(flow: FlowEstimator) -> list[Tensor]:
        pair, between = flow.pair(one, two), flow.between(two, one)
        both = [part for each in (*pair, between) for part in (each.offset, each.occluded)]
        guessed = [flow.offset(one, two, start), flow.rough().offset(one, two)]
        return [*both, *guessed, *flow.offsets(one, two)]

    expected = asked(flow)
    with pretended() as waits:
        moved = placed_parts(replace(parts(), flow=flow), DEVICE, back=True).flow
        asked(moved)  # weights go there
        waits.found.clear()
        found = asked(moved.open(SCENE))
        assert not any(isinstance(each, Claimed) for each in found)
        assert waits.total("download") == len(found)
        assert waits.total("read", "shape", "upload") == 0, waits.found
    assert all(torch.equal(*both) for both in zip(found, expected, strict=True))


def test_an_estimator_of_many_pairs_is_one_on_the_device_too() -> None:
    chosen = placed_parts(replace(parts(), flow=DisTorch()), DEVICE, back=True)
    again = placed_parts(replace(parts(), flow=DisTorch()), DEVICE, back=True)
    assert isinstance(chosen.flow, BatchedFlowEstimator)
    assert isinstance(chosen.flow.rough(), BatchedFlowEstimator)
    assert chosen.flow == again.flow  # captured work is found by it
    assert hash(chosen.flow) == hash(again.flow)
    both = torch.stack([VIDEO[0], VIDEO[1]])
    expected = DisTorch().estimate(both, both.flip(0), None)
    assert torch.equal(chosen.flow.estimate(both, both.flip(0), None), expected)


@pytest.mark.parametrize("name", ["hed", "depth"])
def test_maps_of_networks_are_made_on_the_device(annotators: Annotators, name: str) -> None:
    plain, frame = annotators[name], VIDEO.frame(0)
    expected = plain.map(frame.image)
    for control in (plain, Imagined(detector=plain)):
        with pretended() as waits:
            control_map(control, frame, DEVICE)  # weights go there
            waits.found.clear()
            found = control_map(control, frame, DEVICE)
            assert isinstance(found, Claimed)
            assert {kind for kind, _ in waits.found} == {"pinned"}, waits.found
            assert torch.allclose(found.cpu(), expected, atol=1e-6)  # attention by another kernel


def test_key_frames_take_maps_from_the_device(
    model: StableDiffusion, annotators: Annotators
) -> None:
    chosen = parts(*QUICK, "constraint=[]")
    waits = translated(replace(chosen, control=(annotators["hed"],)), model)
    # Pictures to encode go there, and frames to make maps of, but no maps.
    found = by_file(waits, "pinned")
    assert found == {"rerender/model/diffusion.py": KEYS, PLACES: 2 * KEYS}


def test_a_map_of_opencv_is_made_on_the_processor() -> None:
    with pretended() as waits:
        assert not isinstance(control_map(Canny(), VIDEO.frame(0), DEVICE), Claimed)
        assert not waits.found


def test_what_is_kept_of_networks_is_kept_by_where_it_was_computed(
    estimators: Estimators, tmp_path: Path
) -> None:
    cache, base = Cache(tmp_path), replace(parts(), flow=estimators["raft"])
    here = kept(base, cache, {}).flow.pair(*PAIR)
    count = len([*cache.root.rglob("*")])
    with pretended():
        flow = placed_parts(kept(base, cache, {}), DEVICE, back=True).flow
        there = flow.pair(*PAIR)
        assert len([*cache.root.rglob("*")]) > count
        assert torch.equal(there[0].offset, here[0].offset)


def test_on_a_processor_nothing_is_wrapped(estimators: Estimators) -> None:
    for flow in estimators.values():
        chosen = replace(parts(), flow=flow)
        assert placed_parts(chosen, "cpu", back=False) is chosen
        assert placed_parts(chosen, "mps", back=True) is chosen
