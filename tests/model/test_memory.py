"""The estimate of device memory against measured peaks, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.contracts import Checkpoint, MemoryDemand
from rerender.errors import ResourceError
from rerender.jobs.run_job import run_job
from rerender.model import _memory as memory
from rerender.model._located import NetworkFiles
from rerender.model._memory import MIB, MemoryEstimate, NetworkSizes, estimate
from rerender.model._single_file import CONFIGS
from rerender.model._tiling import Tiles
from rerender.model.diffusion import StableDiffusion
from rerender.model.pretrained import Pretrained
from rerender.model.tiny import components
from rerender.store.checkpoint import forget
from tests.device.pretend import DEVICE, Claimed, pretended

# torch.cuda.max_memory_allocated on an H100, MiB: Stable Diffusion 1.5 with a Canny ControlNet,
# float16, all four constraints, 15 of 20 steps; by replayed, width and batch.
MEASURED = {
    (True, 512): {1: 4139, 2: 4441, 4: 5006, 8: 6023},
    (True, 896): {1: 5813, 2: 6349, 4: 7335, 8: 9129},
    (False, 512): {1: 4675, 4: 5330},
    (False, 896): {1: 6056, 4: 7208},
}
ROWS = [(*key, batch, mib) for key, row in MEASURED.items() for batch, mib in row.items()]


@cache
def sizes(family: str) -> NetworkSizes:
    """A family with one ControlNet, which is made like the UNet's encoder."""
    folder = CONFIGS / family
    unet = NetworkFiles("unet", folder / "unet")
    kept: tuple[str, ...] = (
        "in_channels",
        "block_out_channels",
        "down_block_types",
        "layers_per_block",
    )
    kept += ("cross_attention_dim", "attention_head_dim", "use_linear_projection")
    kept += ("transformer_layers_per_block", "addition_embed_type", "addition_time_embed_dim")
    kept += ("projection_class_embeddings_input_dim",)
    config = {key: value for key, value in unet.config().items() if key in kept}
    net = NetworkFiles("controlnet", folder, derived=config)
    roles = [role for role in ("text_encoder", "text_encoder_2") if (folder / role).is_dir()]
    text = [NetworkFiles(role, folder / role) for role in roles]
    return memory.sizes_of(unet, [net], text, NetworkFiles("vae", folder / "vae"), 2)


def sd15(width: int, batch: int, replayed: bool, low: bool = False) -> MemoryEstimate:
    demand = MemoryDemand(width, 512, batch, kept_steps=15)
    return estimate(sizes("sd15"), demand, 2, 2, replayed, low, 512 if low else None)


@pytest.mark.parametrize(("replayed", "width", "batch", "measured"), ROWS)
def test_the_estimate_is_near_what_was_measured(
    replayed: bool, width: int, batch: int, measured: float
) -> None:
    assert sd15(width, batch, replayed).total / MIB == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize(("replayed", "measured"), [(True, 19716), (False, 23943)])
def test_the_larger_model_was_measured_after_the_estimate_was_made(
    replayed: bool, measured: float
) -> None:
    demand = MemoryDemand(1024, 1024, kept_steps=15)
    found = estimate(sizes("sdxl"), demand, 2, 4, replayed, False)
    assert found.total * memory.LEAST_SHARE / MIB < measured < 1.05 * found.total / MIB


def test_weights_are_counted_to_the_byte() -> None:
    made = components(1)
    networks = (made.unet, made.controlnets[0], made.text_encoders[0], made.vae)
    roles = ("unet", "controlnet", "text_encoder", "vae")
    for role, network in zip(roles, networks, strict=True):
        config = network.config.to_dict() if role == "text_encoder" else dict(network.config)
        held = sum(each.nbytes for each in network.half().parameters())
        assert memory.parameters(NetworkFiles(role, CONFIGS, derived=config)) * 2 == held


@pytest.mark.parametrize("replayed", [True, False])
@pytest.mark.parametrize("low", [True, False])
def test_more_pixels_and_larger_batches_need_more(replayed: bool, low: bool) -> None:
    by_batch = [sd15(512, batch, replayed, low).total for batch in range(1, 17)]
    by_width = [sd15(width, 2, replayed, low).total for width in range(256, 2049, 64)]
    for found in (by_batch, by_width):
        assert all(a < b for a, b in pairwise(found))


def test_what_lowers_it() -> None:
    most = sd15(896, 4, True).total
    assert sd15(896, 4, True, low=True).total < most
    demand = MemoryDemand(896, 512, 4, kept_steps=15)
    for less in (
        replace(demand, kept_elsewhere=True),
        replace(demand, guided=False),
        replace(demand, kept_itemsize=1),
        replace(demand, kept_steps=14),
    ):
        assert estimate(sizes("sd15"), less, 2, 2, True, False).total < most
    full = estimate(sizes("sd15"), demand, 4, 4, True, False)
    assert full.weights == 2 * sd15(896, 4, True).weights


def test_a_processor_is_not_asked() -> None:
    assert memory.free_memory(torch.device("cpu")) is None


def levels(full: int, low: int) -> Callable[[bool], MemoryEstimate]:
    return lambda is_low: MemoryEstimate((low if is_low else full) * MIB, 0, 0, 0, 0, 0, is_low)


def test_auto_is_full_where_it_fits_else_low_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert memory.chosen("auto", levels(300, 200), 300 * MIB) == "full"
    assert not caplog.records
    assert memory.chosen("auto", levels(300, 200), 299 * MIB) == "low"
    (record,) = caplog.records
    assert "300 MiB" in record.getMessage() and "299" in record.getMessage()
    assert memory.chosen("low", levels(300, 200), 300 * MIB) == "low"


@pytest.mark.parametrize(("asked", "needed"), [("auto", 200), ("full", 300), ("low", 200)])
def test_what_does_not_fit_is_refused_with_both_numbers_and_the_keys(
    asked: Any, needed: int
) -> None:
    with pytest.raises(ResourceError) as refused:
        memory.chosen(asked, levels(300, 200), 169 * MIB)
    said = str(refused.value)
    assert f"{needed} MiB" in said and "169 MiB" in said and refused.value.exit_code == 5
    keys = ("data.size", "sampling.batch_size", "model.dtype", "sampling.keep_device")
    more = ("model.vae_tiling=on", "model.memory=low") if asked == "full" else ()
    assert all(key in said for key in (*keys, *more))


def test_what_may_just_fit_is_tried_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert memory.chosen("auto", levels(300, 200), 170 * MIB) == "low"
    assert memory.chosen("full", levels(300, 200), 255 * MIB) == "full"
    first, second = (record.getMessage() for record in caplog.records)
    assert "200 MiB" in first and "170" in first and "data.size" in first
    assert "300 MiB" in second and "model.memory=low" in second


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A card that has so many free bytes."""
    monkeypatch.setattr(Pretrained, "_device", lambda self: torch.device("cuda"))
    return lambda free: monkeypatch.setattr(memory, "free_memory", lambda device: free)


def test_a_run_is_refused_before_anything_is_loaded(
    card: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card(MIB)
    monkeypatch.setattr(Pretrained, "load", lambda *_: pytest.fail("it was loaded"))
    tree = preflight(["model=demo", "data.size=64", "data.frames=3"]).jobs[0]
    with pytest.raises(ResourceError, match=r"model\.memory: about \d+ MiB .* 1 MiB are free"):
        run_job(tree, tmp_path / "run", "")


def test_a_refused_run_leaves_its_folder_as_it_was(
    card: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the stage store knows the weights, and nothing else asks for the model; what it
    has whole needs none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pretrained, "_device", lambda self: torch.device("cpu"))
    small = ["model=demo", "data.size=64", "data.frames=2", "sampling.steps=2", "metrics=[]"]
    small += ["tracker=none", "constraint=[]", "propagation=hold", "store=store"]
    tree, other = (preflight([*small, f"seed={seed}"]).jobs[0] for seed in (0, 1))
    run_job(tree, tmp_path / "run", "")
    card(MIB)
    forget()
    with pytest.raises(ResourceError, match=r"model\.memory: about \d+ MiB"):
        run_job(other, tmp_path / "other", "")
    assert not (tmp_path / "other").exists()
    run_job(tree, tmp_path / "again", "")
    assert (tmp_path / "again" / "video.mp4").is_file()


def test_a_checkpoint_takes_the_level_that_fits(card: Callable[[int], None]) -> None:
    demo = demo_model()
    demand = MemoryDemand(1024, 1024, kept_steps=15)
    found = {}
    for free in (0, 1150, 4096):
        card(free * MIB)
        with suppress(ResourceError):
            found[free] = demo.fitted(("canny",), demand).memory  # type: ignore[attr-defined]
    assert list(dict.fromkeys(found.values())) == ["low", "full"]
    assert 0 not in found


def test_with_low_only_networks_at_work_are_on_the_device() -> None:
    seen: list[tuple[str, bool]] = []
    with pretended(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = StableDiffusion(components(1), DEVICE, low=True, capture=refuse)
        vae, text = model.parts.vae, model.parts.text_encoders[0]

        def there(network: Any) -> bool:
            return isinstance(next(network.parameters()).data, Claimed)

        for name, network in (("vae", vae.decoder), ("vae", vae.encoder), ("text", text)):
            network.register_forward_pre_hook(
                lambda *_, name=name: seen.append((name, there({"vae": vae, "text": text}[name])))
            )
        assert there(model.parts.unet) and there(model.parts.controlnets[0])
        assert not there(vae) and not there(text)
        for _ in range(3):
            model.condition("a", "b", [torch.rand(3, 16, 16)], guided=True)
            image = model.decode(model.encode(torch.rand(3, 16, 16)))
            assert isinstance(image, Claimed)
            assert not there(vae) and not there(text)
    # Prompts are embedded once, since they stay the same.
    assert seen == [("text", True), *[("vae", True)] * 6]


def test_with_gradients_the_autoencoder_stays() -> None:
    torch.manual_seed(0)
    model = StableDiffusion(components(0), low=True)
    latent = torch.rand(1, 4, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.decode(latent).sum(), latent)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
    assert model._visits is not None and model.parts.vae in model._visits._stay


def test_levels_give_the_same_bytes() -> None:
    def made(low: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = StableDiffusion(components(1), low=low)
        picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
        told = model.condition("a", "b", [picture], guided=True)
        latent = model.encode(picture)
        return [told.prompt_embeds, latent, model.decode(latent)]

    assert all(torch.equal(a, b) for a, b in zip(made(False), made(True), strict=True))


def test_threads_decode_in_tiles_as_one_does() -> None:
    torch.manual_seed(0)
    model = StableDiffusion(components(0), tiles=Tiles(above=0, side=32, overlap=8))
    latents = [torch.randn(1, 4, 24, 40) for _ in range(6)]
    alone = [model.decode(latent) for latent in latents]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(model.decode, latents))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def refuse(run: Callable[[], None]) -> Callable[[], None]:
    raise AssertionError("a network that is moved was captured")


def demo_model() -> Checkpoint:
    return Job.of(preflight(["model=demo"]).jobs[0]).model


def table() -> list[str]:
    """The memory table of docs/gpu.md."""
    rows = ["| model | size | batch | full | low |", "|---|---|---|---|---|"]
    shown = [("sd15", 512, 512), ("sd15", 896, 512), ("sd15", 768, 768), ("sd21", 768, 768)]
    for family, width, height in (*shown, ("sdxl", 1024, 1024)):
        for batch in (1, 4):
            cells = []
            for low in (False, True):
                found = []
                for elsewhere in (False, True):
                    demand = MemoryDemand(
                        width, height, batch, kept_steps=15, kept_elsewhere=elsewhere
                    )
                    vae = 4 if family == "sdxl" else 2  # which leaves the range of float16
                    tile = 512 if low and max(width, height) > 512 else None
                    made = estimate(sizes(family), demand, 2, vae, True, low, tile)
                    found.append(f"{made.total / MIB:,.0f}")
                cells.append(f"{found[0]} ({found[1]})")
            rows.append(f"| {family} | {height}x{width} | {batch} | {' | '.join(cells)} |")
    return rows


def test_the_table_of_the_docs_is_the_estimate() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
    assert "\n".join(table()) in text
