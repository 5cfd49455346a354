"""Stock video-to-video pipelines as rows: the adapter asks as one would oneself, and writes frames
where tables look."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from eval.results import discover
from experiments.stock_video import main, request
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.errors import ConfigError, WeightsError
from rerender.model._stock_video import KINDS, StockRequest, StockVideo, filled_up, pictures
from rerender.model.tiny import components

if TYPE_CHECKING:
    from pathlib import Path

diffusers: Any = pytest.importorskip("diffusers")
transformers: Any = pytest.importorskip("transformers")


def frames(count: int, side: int = 16) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return list(torch.rand(count, 3, side, side, generator=draw))


def asked(count: int = 3, side: int = 16) -> StockRequest:
    maps = [(each > 0.5).float() for each in frames(count, side)]
    return StockRequest(frames(count, side), maps, "a cat", "blurry", 5, 3, 0.7, 4.0)


def settled(pipe: Any) -> Any:
    """A pipeline as `from_pretrained` leaves it: without dropout."""
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipe


def animated(controlled: bool) -> Any:
    """AnimateDiff video to video in miniature, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = components(1)
        adapter = diffusers.MotionAdapter(
            block_out_channels=(16, 32, 32),
            motion_layers_per_block=1,
            motion_num_attention_heads=2,
            motion_norm_num_groups=8,
            motion_max_seq_length=8,
        )
    common = {
        "vae": parts.vae,
        "text_encoder": parts.text_encoders[0],
        "tokenizer": parts.tokenizers[0],
        "unet": parts.unet,
        "motion_adapter": adapter,
        "scheduler": diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False),
    }
    if not controlled:
        return settled(diffusers.AnimateDiffVideoToVideoPipeline(**common))
    net = parts.controlnets[0]
    return settled(diffusers.AnimateDiffVideoToVideoControlNetPipeline(controlnet=net, **common))


def two_words() -> Any:
    """A tokenizer that knows two words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "cat": 2, "a": 3}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>"
    )


def wan(kind: str) -> Any:
    """Wan in miniature, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKLWan(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        )
        text = transformers.UMT5EncoderModel(
            transformers.UMT5Config(
                vocab_size=8, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2
            )
        )
        shape: dict[str, Any] = {
            "patch_size": (1, 2, 2),
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "in_channels": 16,
            "out_channels": 16,
            "text_dim": 32,
            "freq_dim": 64,
            "ffn_dim": 32,
            "num_layers": 2,
            "rope_max_seq_len": 32,
        }
        if kind == "WanVACEPipeline":
            network = diffusers.WanVACETransformer3DModel(
                **shape, vace_layers=[0], vace_in_channels=96
            )
        else:
            network = diffusers.WanTransformer3DModel(**shape)
    pipe = getattr(diffusers, kind)(
        tokenizer=two_words(),
        text_encoder=text,
        vae=vae,
        transformer=network,
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )
    return settled(pipe)


def ltx() -> Any:
    """LTX in miniature, with random weights: one latent frame more for each two frames."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, False, False, False),
            decoder_spatio_temporal_scaling=(True, False, False, False),
            patch_size=2,
        )
        # A mean and a deviation that leave nothing as it is.
        vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 8))
        vae.latents_std.copy_(torch.linspace(0.5, 2, 8))
        text = transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=8, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2
            )
        )
        network = diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            num_layers=1,
            caption_channels=32,
        )
    pipe = diffusers.LTXConditionPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=text,
        tokenizer=two_words(),
        transformer=network,
    )
    return settled(pipe)


@pytest.mark.parametrize("controlled", [False, True])
def test_animatediff_is_asked_as_its_documentation_says(controlled: bool) -> None:
    pipe, request = animated(controlled), asked()
    ours = StockVideo(pipe).call(request, "latent")
    extra = {"conditioning_frames": pictures(request.controls)} if controlled else {}
    theirs = pipe(
        video=pictures(request.frames),
        prompt="a cat",
        negative_prompt="blurry",
        height=16,
        width=16,
        strength=0.7,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
        **extra,
    ).frames
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert ours.shape[2] == 3


def test_wan_is_asked_as_its_documentation_says_and_gives_as_many_frames_as_there_are() -> None:
    """Four frames more for each latent one: of six, nine are made."""
    pipe, request = wan("WanVideoToVideoPipeline"), asked(6)
    ours = StockVideo(pipe).call(request, "latent")
    nine = [*request.frames, *[request.frames[-1]] * 3]
    theirs = pipe(
        video=pictures(nine),
        prompt="a cat",
        negative_prompt="blurry",
        height=16,
        width=16,
        strength=0.7,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).frames
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert len(StockVideo(pipe).restyle(request)) == 6


def test_vace_follows_the_control() -> None:
    stock, request = StockVideo(wan("WanVACEPipeline")), asked(5)
    one = stock.restyle(request)
    other = stock.restyle(replace(request, controls=[1 - each for each in request.controls]))
    same = stock.restyle(replace(request, frames=[1 - each for each in request.frames]))
    assert [tuple(each.shape) for each in one] == [(3, 16, 16)] * 5
    assert not torch.equal(torch.stack(one), torch.stack(other))
    assert torch.equal(torch.stack(one), torch.stack(same))


def test_ltx_denoises_the_source_from_its_share_of_the_noise_on() -> None:
    """As stock LTX does with latents made by its own normalisation."""
    pipe, request = ltx(), asked(5, 32)
    ours = StockVideo(pipe).call(request, "latent")
    video = pipe.video_processor.preprocess_video(pictures(request.frames), 32, 32)
    with torch.no_grad():
        latents = pipe.vae.encode(video).latent_dist.mode()
    theirs = pipe(
        latents=pipe._normalize_latents(latents, pipe.vae.latents_mean, pipe.vae.latents_std),
        denoise_strength=0.7,
        prompt="a cat",
        negative_prompt="blurry",
        height=32,
        width=32,
        num_frames=5,
        frame_rate=25,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).frames
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_ltx_sees_source_prompt_and_strength_and_gives_as_many_frames_as_there_are() -> None:
    stock, request = StockVideo(ltx()), asked(4, 32)
    made = torch.stack(stock.restyle(request))
    assert made.shape == (4, 3, 32, 32)
    others = [
        replace(request, frames=[1 - each for each in request.frames]),
        replace(request, prompt="a a a"),
        replace(request, strength=0.4),
        replace(request, seed=6),
    ]
    assert not any(torch.equal(made, torch.stack(stock.restyle(other))) for other in others)
    # From noise alone nothing of the source is left.
    free = [
        torch.stack(stock.restyle(replace(each, strength=None))) for each in (request, others[0])
    ]
    assert torch.equal(*free)


def test_frames_are_filled_up_to_what_a_pipeline_takes() -> None:
    for count, ratio, expected in [(1, 4, 1), (2, 4, 5), (5, 4, 5), (6, 8, 9), (7, 1, 7)]:
        filled = filled_up(asked(count), ratio)
        assert len(filled.frames) == len(filled.controls) == expected
        assert torch.equal(filled.frames[-1], asked(count).frames[-1])


def test_every_kind_is_a_class_of_diffusers() -> None:
    assert all(hasattr(diffusers, name) for name in KINDS)


def test_what_a_pipeline_cannot_take_is_refused_with_a_cure() -> None:
    stock = StockVideo(animated(False))
    with pytest.raises(ConfigError, match=r"data\.size: sides must be multiples of 8.*36x16"):
        stock.check((16, 36), 3)
    with pytest.raises(ConfigError, match=r"data\.frames: .*know 8 frames, received 9"):
        stock.check((16, 16), 9)


def test_a_row_lies_where_tables_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, out = tmp_path / "weights", tmp_path / "results"
    animated(True).save_pretrained(weights)
    settings = ["data=demo", "data.size=32", "data.frames=3", "constraint=[]"]
    settings += ["sampling.steps=2", "seed=0,1"]
    named = ["--weights", str(weights), "--method", "animatediff", "--out", str(out)]
    assert main([*named, *settings]) == 0
    found = discover(out)
    assert [(each.method, each.seed, len(each.files())) for each in found] == [
        ("animatediff", 0, 3),
        ("animatediff", 1, 3),
    ]
    assert capsys.readouterr().out.count("3 frames") == 2
    first, second = (each.files()[0].read_bytes() for each in found)
    assert first != second


def test_ready_made_maps_are_those_of_the_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 32), (80 * number, 0, 0)).save(maps / f"{number}.png")
    settings = ["data=demo", "data.size=32", "data.frames=3", "constraint=[]", "control=file"]
    settings += [f"control.file.path={maps}", "control.file.controlnet=canny"]
    job = Job.of(preflight(settings).jobs[0])
    asked = request(job, next(iter(job.data.clips())))
    levels = [round(float(each[0].mean()) * 255) for each in asked.controls]
    assert levels == [0, 80, 160]
    weights = tmp_path / "weights"
    animated(True).save_pretrained(weights)
    named = ["--weights", str(weights), "--method", "animatediff", "--out", str(tmp_path / "out")]
    (maps / "2.png").unlink()
    assert main([*named, *settings]) == 3
    assert "has 2 control maps, the clip has 3 frames" in capsys.readouterr().err


def test_folders_that_are_no_pipeline_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--weights", str(tmp_path), "--method", "x", "--out", str(tmp_path / "out")]
    assert main([*named, "data=demo", "data.frames=2"]) == 4
    assert "model_index.json" in capsys.readouterr().err
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert main([*named, "data=demo", "data.frames=2"]) == 2
    assert "FluxPipeline" in capsys.readouterr().err
    (tmp_path / "model_index.json").write_text('{"vae": ["os", "system"]}')
    with pytest.raises(WeightsError, match="not trusted"):
        StockVideo.load(tmp_path, "WanVACEPipeline", {}, torch.float32)
