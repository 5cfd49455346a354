"""The model room against diffusers' own pipelines and processors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionControlNetImg2ImgPipeline
from diffusers.models.attention_processor import AttnProcessor2_0

from rerender.contracts import NoiseRequest
from rerender.model._freeu import FreeU, scale_backbone, scale_skip
from rerender.model.tiny import SCHEDULER, components

if TYPE_CHECKING:
    from rerender.model.diffusion import StableDiffusion
    from rerender.scene import Layer

IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
CONTROL = (torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2)) > 0.7).float()


def request(model: StableDiffusion, timestep: int = 500, **changes: Any) -> NoiseRequest:
    condition = model.condition("a cat", "blurry", [CONTROL], guided=True)
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(timestep))
    return NoiseRequest(noisy, timestep, condition, (1.0,))._replace(**changes)


def test_plain_attention_is_diffusers_attention(tiny: StableDiffusion) -> None:
    asked = request(tiny)
    mine = tiny.predict_noise([asked])[0]
    processors = tiny.parts.unet.attn_processors
    try:
        tiny.parts.unet.set_attn_processor(AttnProcessor2_0())
        stock = tiny.predict_noise([asked])[0]
    finally:
        tiny.parts.unet.set_attn_processor(processors)
    assert torch.allclose(mine, stock, atol=1e-6)


def test_attending_to_own_tokens_changes_nothing(tiny: StableDiffusion) -> None:
    plain = tiny.predict_noise([request(tiny)])[0]
    own = tiny.predict_noise([request(tiny, attend=lambda layer, tokens: tokens)])[0]
    assert torch.equal(plain, own)


def test_twice_the_same_tokens_weigh_as_once(tiny: StableDiffusion) -> None:
    plain = tiny.predict_noise([request(tiny)])[0]
    doubled = request(tiny, attend=lambda layer, tokens: torch.cat([tokens, tokens], 1))
    assert torch.allclose(plain, tiny.predict_noise([doubled])[0], atol=1e-5)


def test_a_batch_of_unlike_queries_equals_each_alone(tiny: StableDiffusion) -> None:
    """Different timesteps, control scales and lengths of attended states share one batch."""
    queries = [
        request(tiny, 900),
        request(tiny, 500, attend=lambda layer, tokens: torch.cat([tokens, tokens * 0.5], 1)),
        request(tiny, 100, conditioning_scale=(0.0,)),
    ]
    together = tiny.predict_noise(queries)
    for asked, answer in zip(queries, together, strict=True):
        assert torch.allclose(tiny.predict_noise([asked])[0], answer, atol=1e-5)


def test_control_weight_zero_is_no_control(tiny: StableDiffusion) -> None:
    without = tiny.predict_noise([request(tiny, conditioning_scale=(0.0,))])[0]
    condition = tiny.condition("a cat", "blurry", [CONTROL * 0], guided=True)
    other = tiny.predict_noise([request(tiny, conditioning_scale=(0.0,), condition=condition)])[0]
    assert torch.equal(without, other)
    assert not torch.allclose(without, tiny.predict_noise([request(tiny)])[0], atol=1e-4)


def test_layers_run_from_encoder_to_decoder_coarse_is_zero(tiny: StableDiffusion) -> None:
    places = [(layer.place, layer.level) for layer in tiny.layers()]
    assert places == [
        ("down", 1),
        ("down", 0),
        ("mid", 0),
        ("up", 0),
        ("up", 0),
        ("up", 1),
        ("up", 1),
    ]


def test_every_layer_is_shown(tiny: StableDiffusion) -> None:
    shown: list[str] = []

    def attend(layer: Layer, tokens: torch.Tensor) -> torch.Tensor:
        shown.append(layer.name)
        assert tokens.shape[0] == 2
        return tokens

    tiny.predict_noise([request(tiny, attend=attend)])
    assert shown == [layer.name for layer in tiny.layers()]


def test_autoencoder_ranges(tiny: StableDiffusion) -> None:
    vae = tiny.parts.vae
    latent = tiny.encode(IMAGE)
    stock = vae.encode(IMAGE[None] * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    assert latent.shape == (1, 4, 16, 16)
    assert torch.equal(latent, stock)
    decoded = vae.decode(latent / vae.config.scaling_factor).sample[0]
    assert torch.equal(tiny.decode(latent), (decoded + 1) / 2)


def test_velocity_prediction_becomes_noise(tiny: StableDiffusion) -> None:
    """v = sqrt(a) eps - sqrt(1-a) x0 (Salimans & Ho 2022), so eps = sqrt(a) v + sqrt(1-a) x."""
    asked = request(tiny)
    raw = tiny.predict_noise([asked])[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.parts.scheduler, "prediction_type", "v_prediction")
        noise = tiny.predict_noise([asked])[0]
    alpha = float(tiny.alphas_cumprod[500])
    assert torch.allclose(noise, alpha**0.5 * raw + (1 - alpha) ** 0.5 * asked.noisy, atol=1e-6)


def test_alphas_and_digest(tiny: StableDiffusion) -> None:
    stock = DDIMScheduler.from_config(SCHEDULER).alphas_cumprod
    assert torch.allclose(tiny.alphas_cumprod.float(), stock, atol=1e-6)
    assert len(tiny.digest()) == 16


def test_prompts_are_embedded_once(tiny: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    embed, seen = tiny._text.embed, list[list[str]]()

    def embedding(prompts: list[str]) -> Any:
        seen.append(prompts)
        return embed(prompts)

    monkeypatch.setattr(tiny._text, "embed", embedding)
    first = tiny.condition("once", "bad", [CONTROL], guided=True).prompt_embeds
    again = tiny.condition("once", "bad", [CONTROL], guided=True).prompt_embeds
    other = tiny.condition("once", "bad", [CONTROL], guided=False).prompt_embeds
    assert seen == [["bad", "once"], ["once"]]
    assert torch.equal(first, again)
    assert torch.allclose(first[1:], other, atol=1e-6)


def test_freeu_of_ones_changes_nothing_and_others_do(tiny: StableDiffusion) -> None:
    from rerender.model.diffusion import StableDiffusion

    def answer(freeu: FreeU | None) -> torch.Tensor:
        torch.manual_seed(0)
        model = StableDiffusion(components(1), freeu=freeu)
        return model.predict_noise([request(model)])[0]

    plain = answer(None)
    assert torch.allclose(plain, answer(FreeU()), atol=1e-5)
    assert not torch.allclose(plain, answer(FreeU(b1=1.2, s1=0.5)), atol=1e-4)


def test_freeu_closed_forms() -> None:
    hidden = torch.rand(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    scaled = scale_backbone(hidden, 1.5)
    mean = hidden.mean(1, keepdim=True)
    amount = 1 + 0.5 * (mean - mean.min()) / (mean.max() - mean.min())
    assert torch.allclose(scaled[:, :2], hidden[:, :2] * amount)
    assert torch.equal(scaled[:, 2:], hidden[:, 2:])
    constant = torch.full((1, 1, 8, 8), 3.0)
    assert torch.allclose(scale_skip(constant, 0.5), constant * 0.5, atol=1e-6)


@pytest.mark.parametrize("strength", [0.5, 0.75, 1.0])
def test_no_constraint_is_the_stock_pipeline(
    tiny: StableDiffusion, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty constraint list equals StableDiffusionControlNetImg2ImgPipeline, same noise."""
    from diffusers.pipelines.controlnet import pipeline_controlnet_img2img as stock

    from tests.scenes import SCENE, one_key

    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    mine = one_key(tiny, strength, noise)
    net = tiny.parts.controlnets[0]
    net.controlnet_cond_embedding = tiny._control_encoders[0]
    pipeline = StableDiffusionControlNetImg2ImgPipeline(
        vae=tiny.parts.vae,
        text_encoder=tiny.parts.text_encoders[0],
        tokenizer=tiny.parts.tokenizers[0],
        unet=tiny.parts.unet,
        controlnet=net,
        scheduler=DDIMScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(stock, "randn_tensor", lambda *args, **kwargs: noise)
    monkeypatch.setattr(
        stock, "retrieve_latents", lambda output, generator=None: output.latent_dist.mode()
    )
    try:
        theirs = pipeline(
            prompt=SCENE.prompt,
            negative_prompt=SCENE.negative_prompt,
            image=SCENE.video[0][None],
            control_image=CONTROL[None],
            strength=strength,
            num_inference_steps=10,
            guidance_scale=5.0,
            controlnet_conditioning_scale=1.0,
            output_type="latent",
        ).images
    finally:
        net.controlnet_cond_embedding = torch.nn.Identity()
    assert torch.allclose(mine, theirs, atol=1e-4)


def test_words_that_the_model_never_sees_are_named(
    tiny: StableDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="rerender"):
        tiny.condition("a cat", "", [CONTROL], guided=False)
        assert not caplog.records
        tiny.condition("abcdefghij " * 3 + "end", "", [CONTROL], guided=False)
    (record,) = caplog.records
    assert "longer than the model's 32 tokens, left out: end" in record.getMessage()
