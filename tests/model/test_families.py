"""Checkpoints as people have them, against the stock pipelines of diffusers: with no constraint the
latents are theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from rerender.sampler.lcm import LCM
from rerender.scene import Translation
from rerender.translation.references import References, ResumePoint
from tests.model.making import (
    LARGE,
    NOISE,
    autoencoder,
    backbone,
    lively,
    mean_of,
    our_latents,
    ours,
    save,
    their_latents,
    their_pipeline,
)
from tests.scenes import SCENE, Given, parts

SCHEDULES = {
    "v prediction": {"prediction_type": "v_prediction"},
    "sample prediction": {"prediction_type": "sample"},
    "zero-terminal SNR": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    "trained betas": {"trained_betas": [0.0005 + 0.00001 * i for i in range(1000)]},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "trailing": {"timestep_spacing": "trailing"},
}


def check(ours_: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours_.shape == theirs.shape
    assert torch.allclose(ours_, theirs, atol=1e-4), float((ours_ - theirs).abs().max())


def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "sd")
    check(our_latents(ours(folder)), their_latents(their_pipeline(folder), monkeypatch))


def test_half_precision_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "sd", variant="fp16")
    assert not list(folder.rglob("*model.safetensors"))
    (net,) = (folder / "controlnet").glob("*.safetensors")
    net.rename(net.with_name(net.name.replace(".fp16", "")))  # the stock pipeline is told one only
    theirs = their_latents(their_pipeline(folder, variant="fp16"), monkeypatch)
    check(our_latents(ours(folder)), theirs)


@pytest.mark.parametrize("keys", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("said", ["in its file", "in the configuration"])
def test_schedules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], said: str
) -> None:
    stock = save(tmp_path / "stock", scheduler=keys)
    if said == "in its file":
        mine = our_latents(ours(stock))
    else:
        mine = our_latents(ours(save(tmp_path / "plain"), scheduler=keys))
    check(mine, their_latents(their_pipeline(stock), monkeypatch))


def test_a_tiny_autoencoder_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "sd")
    torch.manual_seed(3)
    vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    vae.save_pretrained(tmp_path / "taesd")
    theirs = their_latents(their_pipeline(folder, vae=vae), monkeypatch)
    check(our_latents(ours(folder, vae=str(tmp_path / "taesd"))), theirs)


def test_another_autoencoder_with_old_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "sd")
    torch.manual_seed(3)
    vae = autoencoder().eval()
    vae.save_pretrained(tmp_path / "vae")
    theirs = their_latents(their_pipeline(folder, vae=vae), monkeypatch)
    (file,) = (tmp_path / "vae").glob("*.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for new, word in old.items():
        weights = {name.replace(f".{new}.", f".{word}."): each for name, each in weights.items()}
    save_file(weights, file)
    check(our_latents(ours(folder, vae=str(tmp_path / "vae"))), theirs)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()  # its own is not needed
    check(our_latents(ours(folder, vae=str(tmp_path / "vae"))), theirs)


def test_clip_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layer before the last, with the last norm, as the pipelines' clip_skip=1 means it."""
    folder = save(tmp_path / "sd")
    pipeline = their_pipeline(folder)
    embeds = []
    for prompt in (SCENE.prompt, SCENE.negative_prompt):
        tokens = pipeline.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
        states = pipeline.text_encoder(tokens, output_hidden_states=True).hidden_states
        embeds.append(pipeline.text_encoder.final_layer_norm(states[-2]))
    told: dict[str, Any] = {"prompt": None, "negative_prompt": None}
    told |= {"prompt_embeds": embeds[0], "negative_prompt_embeds": embeds[1]}
    theirs = their_latents(pipeline, monkeypatch, **told)
    check(our_latents(ours(folder, clip_skip=1)), theirs)
    assert not torch.allclose(our_latents(ours(folder)), theirs, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 3])
def test_textual_inversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    folder = save(tmp_path / "sd")
    vectors = torch.randn(rows, 32, generator=torch.Generator().manual_seed(1))
    file = tmp_path / "cat.safetensors"
    save_file({"emb_params": vectors}, file)
    pipeline = their_pipeline(folder)
    pipeline.load_textual_inversion({"<toy>": vectors if rows > 1 else vectors[0]}, token="<toy>")
    theirs = their_latents(pipeline, monkeypatch, prompt="a <toy>, watercolor")
    mine = ours(folder, embeddings={"<toy>": str(file)})
    check(our_latents(mine, prompt="a <toy>, watercolor"), theirs)
    assert not torch.allclose(our_latents(mine, prompt="a toy, watercolor"), theirs, atol=1e-3)


def test_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "xl", large=True)
    check(our_latents(ours(folder)), their_latents(their_pipeline(folder, True), monkeypatch))


@pytest.mark.parametrize("control", ["canny", "depth"])
def test_a_large_one_with_a_union_of_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: str
) -> None:
    from diffusers.pipelines.controlnet import pipeline_controlnet_union_sd_xl_img2img as stock

    folder = save(tmp_path / "xl", large=True)
    torch.manual_seed(4)
    union = lively(
        diffusers.ControlNetUnionModel(
            **backbone(**LARGE),
            conditioning_embedding_out_channels=(8, 16),
            num_trans_channel=16,
            num_trans_head=2,
            num_proj_channel=16,
        )
    ).eval()
    union.save_pretrained(tmp_path / "union")
    pipeline = diffusers.StableDiffusionXLControlNetUnionImg2ImgPipeline.from_pretrained(
        folder, controlnet=union
    )
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(stock, "randn_tensor", lambda *args, **more: NOISE)
    monkeypatch.setattr(stock, "retrieve_latents", lambda output, generator=None: mean_of(output))
    mode = {"canny": 3, "depth": 1}[control]
    theirs = their_latents(
        pipeline,
        monkeypatch,
        control_mode=[mode],
        control_image=[Given().map(SCENE.video[0])[None]],
    )
    chosen = ours(folder, controlnets={control: str(tmp_path / "union")})
    check(our_latents(chosen, (control,)), theirs)


def test_a_latent_consistency_model_is_told_the_guidance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.pipelines.latent_consistency_models import (
        pipeline_latent_consistency_img2img as stock,
    )
    from diffusers.schedulers import scheduling_lcm

    folder = save(tmp_path / "lcm", unet={"time_cond_proj_dim": 16})
    pipeline = diffusers.LatentConsistencyModelImg2ImgPipeline.from_pretrained(
        folder,
        safety_checker=None,
        requires_safety_checker=False,
        scheduler=diffusers.LCMScheduler.from_pretrained(folder / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    for module in (stock, scheduling_lcm):
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **more: NOISE)
    monkeypatch.setattr(stock, "retrieve_latents", lambda output, generator=None: mean_of(output))
    theirs = pipeline(
        prompt=SCENE.prompt,
        image=SCENE.video[0][None],
        strength=0.5,
        num_inference_steps=4,
        original_inference_steps=50,
        guidance_scale=5.0,
        output_type="latent",
    ).images
    few: dict[str, Any] = {"sampler": LCM(), "steps": 8, "strength": 0.5}
    check(our_latents(ours(folder), (), **few), theirs)
    assert not torch.allclose(our_latents(ours(folder), (), guidance=2.0, **few), theirs, atol=1e-3)


def test_a_unet_alone_takes_the_place_of_its_own(tmp_path: Path) -> None:
    """As the hub has distilled ones: a folder of config.json and weights. The checkpoint's own is
    not needed then."""
    from rerender.errors import WeightsError

    whole = save(tmp_path / "lcm", unet={"time_cond_proj_dim": 16})
    base = save(tmp_path / "sd")
    few: dict[str, Any] = {"sampler": LCM(), "steps": 8, "strength": 0.5}
    nets = {"canny": str(whole / "controlnet")}
    plain = ours(base, controlnets=nets)
    chosen = replace(plain, unet=str(whole / "unet"))
    assert not plain.distilled() and chosen.distilled()
    assert chosen.fingerprint(("canny",)) != plain.fingerprint(("canny",))
    (file,) = (base / "unet").glob("*.safetensors")
    file.unlink()
    found = our_latents(chosen, **few)
    assert torch.equal(found, our_latents(ours(whole), **few))
    alone = next((whole / "unet").glob("*.safetensors"))
    with pytest.raises(WeightsError, match="says not how its network is built"):
        ours(base, unet=str(alone)).check(())
    listed = whole / "unet" / "SHA256SUMS"
    listed.write_text(f"{'0' * 64}  config.json\n")
    with pytest.raises(WeightsError, match="the manifest says"):
        chosen.check(())


class Stopped(ResumePoint):
    """Goes on after the first key frames of another translation."""

    def __init__(self, kept: list[Translation], references: References | None) -> None:
        self.kept, self.references, self.finished = kept, references, len(kept)

    def recall(self, index: int, shot: int) -> Translation:
        return self.kept[index]


class Keeping(ResumePoint):
    """Remembers what the next key frame refers to."""

    def __init__(self) -> None:
        self.seen: list[References | None] = []

    def finish(self, translation: Translation, references: References | None) -> None:
        self.seen.append(references)


def test_a_start_that_needs_an_unconditional_branch_refuses_a_distilled_network(
    tmp_path: Path,
) -> None:
    from rerender.config.compatibility import check_model
    from rerender.errors import ConfigError
    from rerender.start.null_text import NullText

    distilled = ours(save(tmp_path / "lcm", unet={"time_cond_proj_dim": 16}))
    plain = ours(save(tmp_path / "sd"))
    null = replace(parts(), start=NullText())
    check_model(null, plain)
    check_model(parts(), distilled)
    with pytest.raises(ConfigError, match=r"start\.null_text: changes the unconditional branch"):
        check_model(null, distilled)


def test_mappings_are_said_on_the_command_line() -> None:
    from rerender.config.compose import literal, preflight
    from rerender.config.job import Job

    said = [
        "model=sd21",
        "model.scheduler={prediction_type: v_prediction, rescale_betas_zero_snr: true}",
        "model.embeddings={mytoy: './a b.safetensors'}",
        "prompt=a mytoy",
    ]
    (job,) = preflight(literal(said)).jobs
    model: Any = Job.of(job).model
    assert model.scheduler == {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    assert model.words() == ("mytoy",)
    assert model.embeddings == {"mytoy": "./a b.safetensors"}
