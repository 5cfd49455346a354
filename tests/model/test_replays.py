"""Evaluations that are replayed: on the CPU by calling them on their static buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rerender import parts
from rerender.contracts import NoiseRequest
from rerender.model._replays import CudaGraphs, Named, Replays
from rerender.model.diffusion import StableDiffusion
from rerender.model.tiny import components
from rerender.scene import Translation
from rerender.translate import translate
from tests.device.pretend import DEVICE, pretended
from tests.model.test_diffusion import request
from tests.scenes import SCENE, moving

KEYS = 4


class Called:
    """In place of a CUDA graph: replaying calls the function on its static buffers."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            run()

        return replay


def made(capture: Called | None, device: torch.device | None = None) -> StableDiffusion:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return StableDiffusion(components(1), device, capture=capture)


def translated(model: StableDiffusion, *settings: str) -> list[Translation]:
    clip = replace(SCENE, video=moving(KEYS), source_prompt="a cat")
    chosen = parts("model=tiny", *settings)
    return list(translate(clip, [range(KEYS)], model, chosen))


def total(inputs: Named) -> Named:
    return {"out": sum(inputs.values())}  # type: ignore[dict-item]


def test_the_second_call_of_a_kind_is_captured_and_later_ones_are_replayed() -> None:
    capture = Called()
    replays = Replays(capture)
    counts = []
    for number in range(4):
        found = replays("sum", {"a": torch.full((2,), float(number)), "b": torch.ones(2)}, total)
        assert found["out"].tolist() == [number + 1.0] * 2
        counts.append((capture.captured, capture.replayed))
    assert counts == [(0, 0), (1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize(
    ("key", "inputs"),
    [
        ("other", {"a": torch.ones(2)}),
        ("sum", {"b": torch.ones(2)}),
        ("sum", {"a": torch.ones(3)}),
        ("sum", {"a": torch.ones(2).double()}),
        ("sum", {"a": torch.ones(2), "b": torch.ones(2)}),
    ],
)
def test_whatever_decides_kernels_is_a_kind_of_its_own(key: str, inputs: Named) -> None:
    capture = Called()
    replays = Replays(capture)
    for _ in range(2):
        replays("sum", {"a": torch.ones(2)}, total)
    assert torch.equal(replays(key, inputs, total)["out"], total(inputs)["out"])
    assert (capture.captured, capture.replayed) == (1, 1)


def test_kinds_used_last_are_kept() -> None:
    capture = Called()
    replays = Replays(capture, limit=2)

    def captured(keys: str) -> int:
        before = capture.captured
        for key in keys:
            replays(key, {"x": torch.ones(1)}, total)
        return capture.captured - before

    assert captured("aabb") == 2
    assert captured("a") == 0
    assert captured("cc") == 1  # in place of b, which was used before a
    assert captured("a") == 0
    assert captured("bb") == 1


def test_kinds_share_buffers() -> None:
    replays = Replays(Called())
    for key in "aabb":
        found = replays(key, {"x": torch.ones(1)}, total)["out"]
    assert replays("a", {"x": torch.ones(1)}, total)["out"] is found


def test_what_cannot_be_captured_is_an_error_or_called_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(run: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    strict, lenient = Replays(refuse), Replays(refuse, strict=False)
    inputs = {"x": torch.ones(1)}
    strict("a", inputs, total)
    with pytest.raises(RuntimeError, match="capturing"):
        strict("a", inputs, total)
    for key in "aaabbb":
        assert lenient(key, inputs, total)["out"].item() == 1
    (warning,) = caplog.messages
    assert "stream is capturing), so" in warning and "model.compile=eager" in warning


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("method", ["rerender", "text2video_zero_source", "per_frame"])
def test_results_are_those_of_calling_to_the_bit(method: str, batch_size: int) -> None:
    settings = (f"+method={method}", "sampling.steps=6", f"sampling.batch_size={batch_size}")
    capture = Called()
    for own, expected in zip(
        translated(made(capture), *settings), translated(made(None), *settings), strict=True
    ):
        assert torch.equal(own.image, expected.image)
        assert own.trace.hidden_states.keys() == expected.trace.hidden_states.keys()
        for place, kept in expected.trace.hidden_states.items():
            assert torch.equal(own.trace.hidden_states[place], kept)
    assert capture.replayed > 2 * capture.captured > 0


def test_what_decides_itself_while_the_network_runs_is_called() -> None:
    capture = Called()
    model, plain = made(capture), made(None)
    shown: list[int] = []

    def attend(layer: object, hidden_states: Tensor) -> Tensor:
        shown.append(1)
        return hidden_states

    traced = request(model)._replace(noisy=request(model).noisy.requires_grad_())
    for asked in (request(model)._replace(attend=attend), traced):
        for _ in range(3):
            (found,), (expected,) = (m.predict_noise([asked]) for m in (model, plain))
            assert torch.equal(found, expected)
    assert len(shown) == 6 * len(model.layers()) and capture.captured == 0


def test_answers_outlast_the_next_replay() -> None:
    model, plain = made(Called()), made(None)
    asked = [request(model)._replace(timestep=step) for step in (900, 800, 700, 600)]
    answers = [model.predict_noise([each])[0] for each in asked]
    expected = [plain.predict_noise([each])[0] for each in asked]
    assert all(map(torch.equal, answers, expected))
    images = [torch.full((3, 16, 16), level) for level in (0.1, 0.2, 0.3, 0.4)]
    latents = [model.encode(image) for image in images]
    assert all(map(torch.equal, latents, map(plain.encode, images)))
    found = [model.decode(latent) for latent in latents]
    assert all(map(torch.equal, found, map(plain.decode, latents)))


def test_a_replayed_key_frame_waits_for_nothing_in_its_evaluations() -> None:
    with pretended() as waits:
        capture = Called()
        model = made(capture, DEVICE)
        inside = 0

        class Counting(StableDiffusion):
            def predict_noise(self, requests: list[NoiseRequest]) -> list[Tensor]:  # type: ignore[override]
                nonlocal inside
                before = waits.total("read", "shape", "download", "upload")
                answers = super().predict_noise(requests)
                inside += waits.total("read", "shape", "download", "upload") - before
                return answers

        model.__class__ = Counting
        assert len(translated(model, "+method=rerender", "sampling.steps=8")) == KEYS
    assert capture.replayed > 0 and inside == 0


@pytest.mark.gpu
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_graphs_of_a_device_are_what_is_called_there(
    dtype: torch.dtype, channels_last: bool
) -> None:
    device = torch.device("cuda")
    settings = ("+method=rerender", "sampling.steps=8", "sampling.batch_size=2")
    found = []
    for capture, turned in ((CudaGraphs(device), channels_last), (None, False)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = StableDiffusion(
                components(1), device, dtype, capture=capture, channels_last=turned
            )
        found.append(torch.stack([each.image for each in translated(model, *settings)]))
    error = (found[0] - found[1]).square().mean()
    assert error < (1e-5 if channels_last else 1e-10)
