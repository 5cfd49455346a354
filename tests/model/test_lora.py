"""LoRAs in the formats of diffusers and kohya: the stock pipeline's result, exactly the base at
scale 0, the same merged and beside the weights, switched with the steps, refused where they fit
nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from rerender.errors import ConfigError, WeightsError
from rerender.model._lora import Lora
from tests.model.making import NOISE, our_latents, ours, save, their_latents, their_pipeline
from tests.scenes import parts, translated

UNET_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.2", "proj_in")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("plain") / "sd")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("large") / "xl", large=True)


def trained(folder: Path, file: Path, large: bool = False, seed: int = 7) -> Path:
    """A LoRA of UNet and text encoder as diffusers saves it, with random weights."""
    from diffusers.training_utils import cast_training_params
    from peft.utils import get_peft_model_state_dict

    pipeline = their_pipeline(folder, large)
    torch.manual_seed(seed)
    layers: dict[str, Any] = {}
    for name in ("unet", "text_encoder", *(("text_encoder_2",) if large else ())):
        network = getattr(pipeline, name)
        modules = (
            list(UNET_LAYERS) if name == "unet" else ["q_proj", "k_proj", "v_proj", "out_proj"]
        )
        network.add_adapter(
            LoraConfig(r=2, lora_alpha=4, init_lora_weights="gaussian", target_modules=modules)
        )
        cast_training_params(network)
        for key, value in network.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(value, std=0.1)
        layers[f"{name}_lora_layers"] = get_peft_model_state_dict(network)
    type(pipeline).save_lora_weights(file.parent, weight_name=file.name, **layers)
    return file


def as_kohya(file: Path, out: Path) -> Path:
    """The same LoRA under kohya's names, with its alpha written out."""
    found = {}
    for name, tensor in load_file(file).items():
        module, _, piece = (
            name.replace(".lora_A.", ".lora_down.")
            .replace(".lora_B.", ".lora_up.")
            .partition(".lora_")
        )
        module = module.replace("unet.", "lora_unet_").replace("text_encoder.", "lora_te_")
        module = module.replace("lora_te_encoder", "lora_te_text_model_encoder")
        module = module.replace(".", "_")
        found[f"{module}.lora_{piece}"] = tensor
        found[f"{module}.alpha"] = torch.tensor(2.0)
    save_file(found, out)
    return out


def lora(file: Path, **changes: Any) -> tuple[Lora, ...]:
    return (Lora(path=str(file), **changes),)


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_of_diffusers_is_the_stock_pipelines(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = trained(folder, tmp_path / "a.safetensors")
    pipeline = their_pipeline(folder)
    pipeline.load_lora_weights(str(file))
    pipeline.fuse_lora(lora_scale=scale)
    theirs = their_latents(pipeline, monkeypatch)
    found = our_latents(ours(folder, loras=lora(file, scale=scale)))
    assert torch.allclose(found, theirs, atol=1e-4)
    assert not torch.allclose(found, our_latents(ours(folder)), atol=1e-3)
    assert "are not in this checkpoint" not in caplog.text


def test_of_kohya_is_the_stock_pipelines(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = as_kohya(trained(folder, tmp_path / "a.safetensors"), tmp_path / "kohya.safetensors")
    pipeline = their_pipeline(folder)
    pipeline.load_lora_weights(str(file))
    theirs = their_latents(pipeline, monkeypatch)
    assert torch.allclose(our_latents(ours(folder, loras=lora(file))), theirs, atol=1e-4)
    assert "are not in this checkpoint" not in caplog.text


def test_of_a_large_one_is_the_stock_pipelines(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = trained(large, tmp_path / "a.safetensors", large=True)
    pipeline = their_pipeline(large, True)
    pipeline.load_lora_weights(str(file))
    theirs = their_latents(pipeline, monkeypatch)
    assert torch.allclose(our_latents(ours(large, loras=lora(file))), theirs, atol=1e-4)


def test_scale_0_is_the_base(folder: Path, tmp_path: Path) -> None:
    file = trained(folder, tmp_path / "a.safetensors")
    base = our_latents(ours(folder))
    assert torch.equal(our_latents(ours(folder, loras=lora(file, scale=0.0))), base)


def test_merged_is_unmerged(folder: Path, tmp_path: Path) -> None:
    """A window that leaves out nothing that is executed: (0, 0.99) of 4 steps is all of them."""
    file = trained(folder, tmp_path / "a.safetensors")
    merged = our_latents(ours(folder, loras=lora(file)))
    beside = our_latents(ours(folder, loras=lora(file, stop=0.99)))
    assert torch.allclose(merged, beside, atol=1e-5)


def test_two_add_up_in_any_order(folder: Path, tmp_path: Path) -> None:
    one = lora(trained(folder, tmp_path / "a.safetensors"))
    two = lora(trained(folder, tmp_path / "b.safetensors", seed=8), scale=0.5)
    both = our_latents(ours(folder, loras=one + two))
    assert torch.allclose(both, our_latents(ours(folder, loras=two + one)), atol=1e-5)
    assert not torch.allclose(both, our_latents(ours(folder, loras=one)), atol=1e-3)
    windowed = lora(tmp_path / "b.safetensors", scale=0.5, stop=0.99)
    assert torch.allclose(both, our_latents(ours(folder, loras=one + windowed)), atol=1e-5)


def test_a_window_switches_it_with_the_steps(folder: Path, tmp_path: Path) -> None:
    file = trained(folder, tmp_path / "a.safetensors")
    weights = {k: v for k, v in load_file(file).items() if k.startswith("unet.")}
    save_file(weights, file)  # what it adds to the text encoder acts always
    half = ours(folder, loras=lora(file, start=0.5)).load(("canny",))
    without, with_it = (
        ours(folder).load(("canny",)),
        ours(folder, loras=lora(file)).load(("canny",)),
    )

    def clean(model: Any) -> dict[int, torch.Tensor]:
        draw = lambda key: lambda role, step: NOISE  # noqa: E731
        chosen = parts(steps=10, strength=0.4)
        return translated(model, chosen, 1, draw=draw)[0].trace.clean

    mine, base, full = clean(half), clean(without), clean(with_it)
    assert all(torch.equal(mine[step], base[step]) for step in (0, 1))
    assert not torch.allclose(mine[2], base[2], atol=1e-4)
    assert not torch.allclose(mine[2], full[2], atol=1e-4)


def test_key_frames_of_a_batch_at_other_steps_keep_their_own(folder: Path, tmp_path: Path) -> None:
    """With cross-frame attention key frames run a step behind each other: a window divides them."""
    from tests.scenes import ALL

    file = trained(folder, tmp_path / "a.safetensors")
    model: Any = ours(folder, loras=lora(file, start=0.5)).load(("canny",))
    alone, together = (translated(model, parts(ALL, batch_size=size), 4) for size in (1, 4))
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one.image, other.image, atol=1e-4)


def test_the_fingerprint_covers_it(folder: Path, tmp_path: Path) -> None:
    file = trained(folder, tmp_path / "a.safetensors")
    chosen = ours(folder, loras=lora(file))
    before = chosen.fingerprint(("canny",))
    assert before != ours(folder).fingerprint(("canny",))
    trained(folder, file, seed=9)
    assert chosen.fingerprint(("canny",)) != before
    assert chosen.load(("canny",)).digest() != ours(folder).load(("canny",)).digest()


def test_what_fits_nothing_is_refused(folder: Path, large: Path, tmp_path: Path) -> None:
    def refusal(file: Path) -> str:
        chosen = ours(folder, loras=lora(file))
        with pytest.raises(WeightsError) as caught:
            chosen.check(("canny",))
            chosen.load(("canny",))
        assert caught.value.exit_code == 4
        return str(caught.value)

    other = trained(large, tmp_path / "xl.safetensors", large=True)
    assert "was trained for text of width 56, this checkpoint has 32" in refusal(other)
    plain = tmp_path / "plain.safetensors"
    save_file({"weight": torch.zeros(2)}, plain)
    assert "holds no LoRA" in refusal(plain)
    nowhere = tmp_path / "nowhere.safetensors"
    pair = {"unet.elsewhere.to_q.lora_A.weight": torch.zeros(2, 4)}
    save_file({**pair, "unet.elsewhere.to_q.lora_B.weight": torch.zeros(4, 2)}, nowhere)
    assert "layer" in refusal(nowhere)
    dora = tmp_path / "dora.safetensors"
    save_file({**load_file(nowhere), "lora_unet_x.dora_scale": torch.zeros(1)}, dora)
    assert "is a DoRA" in refusal(dora)
    loha = tmp_path / "loha.safetensors"
    save_file({"lora_unet_x.hada_w1_a": torch.zeros(1)}, loha)
    assert "LyCORIS" in refusal(loha)
    assert "no such LoRA" in refusal(tmp_path / "absent.safetensors")


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.loras"):
        Lora(path="x", scale=11)
    with pytest.raises(ConfigError, match=r"model\.loras"):
        Lora(path="x", start=0.6, stop=0.5)


def test_it_is_said_on_the_command_line_and_swept(folder: Path, tmp_path: Path) -> None:
    from rerender.config.compose import literal, preflight
    from rerender.config.job import Job

    file = tmp_path / "a, b (c).safetensors"
    trained(folder, file)
    said = [f"model.loras=[{{path: '{file}', scale: 0.5}}]", "model.loras.0.scale=0,0.5,1"]
    jobs = preflight(literal([*said, "prompt=x"])).jobs
    scales = [Job.of(job).model.loras[0].scale for job in jobs]  # type: ignore[attr-defined]
    assert scales == [0, 0.5, 1]
    assert Job.of(jobs[0]).model.loras[0].path == str(file)  # type: ignore[attr-defined]
