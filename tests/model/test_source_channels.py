"""InstructPix2Pix and inpainting: with no constraint the latents of their own stock pipelines, and
what is refused of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers.pipelines.controlnet import pipeline_controlnet_inpaint
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_inpaint
from torch import Tensor

from rerender.config.compatibility import check_model
from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.contracts import FlowEstimator, Mask, guide
from rerender.errors import ConfigError, WeightsError
from rerender.mask.file import MaskFile
from rerender.model._source_channels import masked_source
from rerender.sampler.ddim import DDIM
from rerender.start.null_text import NullText
from rerender.store.run_identity import Identity
from rerender.store.stage_keys import stages_of
from rerender.video import PromptRange, Video
from tests.mask.test_mask import picture
from tests.model.making import NOISE, mean_of, our_latents, ours, save
from tests.scenes import ALL, SCENE, Given, parts, translated

INSTRUCT: dict[str, Any] = {"in_channels": 8, "sample_size": 16}
INPAINTING: dict[str, Any] = {"in_channels": 9, "sample_size": 64}
SIZES = {False: "StableDiffusion", True: "StableDiffusionXL"}


class Left(Mask):
    """A soft-edged region on the left."""

    def regions(self, video: Video, flow: FlowEstimator) -> Iterator[Tensor]:
        region = (torch.linspace(1.2, -0.2, video.size[1]).clamp(0, 1)).expand(1, *video.size)
        return iter([region.clone() for _ in range(len(video))])

    def composite(self, frames: Any, video: Video, flow: FlowEstimator, first: int = 0) -> Any:
        return iter(frames)


LEFT = Left()
MASK = next(iter(LEFT.regions(SCENE.video, parts().flow)))


def check(mine: Tensor, theirs: Tensor) -> None:
    assert mine.shape == theirs.shape
    assert torch.allclose(mine, theirs, atol=1e-4), float((mine - theirs).abs().max())


def stock(name: str, folder: Path, large: bool, **changes: Any) -> Any:
    none = {} if large else {"safety_checker": None, "requires_safety_checker": False}
    pipeline = getattr(diffusers, name).from_pretrained(folder, **none, **changes)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def instructed(pipeline: Any, **changes: Any) -> Tensor:
    told = {
        "prompt": SCENE.prompt,
        "negative_prompt": SCENE.negative_prompt,
        "image": SCENE.video[0][None],
        "num_inference_steps": 10,
        "guidance_scale": 5.0,
        "image_guidance_scale": 1.5,
        "latents": NOISE,
        "output_type": "latent",
    }
    found: Tensor = pipeline(**told | changes).images
    return found


@pytest.mark.parametrize("large", [False, True], ids=["sd", "XL"])
def test_instruct_pix2pix(tmp_path: Path, large: bool) -> None:
    folder = save(tmp_path / "model", unet=INSTRUCT, large=large)
    pipeline = stock(f"{SIZES[large]}InstructPix2PixPipeline", folder, large)
    free: dict[str, Any] = {"strength": None}
    mine = our_latents(ours(folder), (), **free)
    check(mine, instructed(pipeline))
    more = our_latents(ours(folder), (), image_guidance=2.5, guidance=3.0, **free)
    check(more, instructed(pipeline, image_guidance_scale=2.5, guidance_scale=3.0))
    assert not torch.allclose(mine, more, atol=1e-3)
    # One branch: prompt and picture, without guidance.
    alone = our_latents(ours(folder), (), guidance=1.0, **free)
    check(alone, instructed(pipeline, guidance_scale=1.0))


def test_an_instruction_sees_its_own_key_frame(tmp_path: Path) -> None:
    """From the same noise without control, only the picture tells key frames apart."""
    model: Any = ours(save(tmp_path / "model", unet=INSTRUCT)).load(())
    composed = replace(parts(strength=None), control=())
    first, second = translated(model, composed, 2)
    assert not torch.allclose(first.image, second.image, atol=1e-3)
    plain: Any = ours(save(tmp_path / "plain")).load(())
    first, second = translated(plain, composed, 2)
    assert torch.allclose(first.image, second.image, atol=1e-6)


def inpainted(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, mask: Tensor, **changes: Any
) -> Tensor:
    for module in (
        pipeline_stable_diffusion_inpaint,
        pipeline_controlnet_inpaint,
        pipeline_stable_diffusion_xl_inpaint,
    ):
        monkeypatch.setattr(module, "randn_tensor", lambda *args, **more: NOISE)
        monkeypatch.setattr(module, "retrieve_latents", lambda out, generator=None: mean_of(out))
    told = {
        "prompt": SCENE.prompt,
        "negative_prompt": SCENE.negative_prompt,
        "image": SCENE.video[0][None],
        "mask_image": mask[None],
        "height": mask.shape[-2],
        "width": mask.shape[-1],
        "strength": 0.4,
        "num_inference_steps": 10,
        "guidance_scale": 5.0,
        "output_type": "latent",
    }
    found: Tensor = pipeline(**told | changes).images
    return found


@pytest.mark.parametrize("large", [False, True], ids=["sd", "XL"])
@pytest.mark.parametrize("mask", [None, LEFT], ids=["whole frame", "mask"])
def test_inpainting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: Mask | None, large: bool
) -> None:
    folder = save(tmp_path / "model", unet=INPAINTING, large=large)
    pipeline = stock(f"{SIZES[large]}InpaintPipeline", folder, large)
    shown = MASK if mask else torch.ones_like(MASK)
    check(our_latents(ours(folder), (), mask=mask), inpainted(pipeline, monkeypatch, shown))
    if not large:
        noise = our_latents(ours(folder), (), mask=mask, strength=None)
        check(noise, inpainted(pipeline, monkeypatch, shown, strength=1.0))


def test_inpainting_with_a_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "model", unet=INPAINTING)
    net = diffusers.ControlNetModel.from_pretrained(folder / "controlnet")
    name = "StableDiffusionControlNetInpaintPipeline"
    pipeline = stock(name, folder, False, controlnet=net)
    controlled: dict[str, Any] = {"control_image": Given().map(SCENE.video[0])[None]}
    controlled["controlnet_conditioning_scale"] = 1.0
    theirs = inpainted(pipeline, monkeypatch, MASK, **controlled)
    check(our_latents(ours(folder), mask=LEFT), theirs)


def test_masks() -> None:
    """Hard at one half, grey under the mask, nearest in latent cells."""
    source, seen = SCENE.video[0], []

    def encode(image: Tensor) -> Tensor:
        seen.append(image)
        return image[None, :, ::2, ::2]

    found = masked_source(encode, source, MASK)
    (covered,) = seen
    assert torch.equal(covered, torch.where(MASK >= 0.5, torch.tensor(0.5), source))
    assert torch.equal(found[0, :1], (MASK >= 0.5).float()[:, ::2, ::2])
    whole = masked_source(encode, source, None)
    assert torch.equal(whole[0], torch.cat([torch.ones(1, 16, 16), torch.full((3, 16, 16), 0.5)]))
    inside, outside = (MaskFile(Path("x.png"), keep=keep) for keep in ("inside", "outside"))
    assert torch.equal(outside.repainted(MASK), MASK)
    assert torch.equal(inside.repainted(MASK), 1 - MASK)


def test_two_scales_of_guidance() -> None:
    nothing, image, both = torch.randn(3, 1, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    branches = torch.cat([nothing, image, both])
    assert torch.allclose(guide(branches, 1.0, 1.0), both, atol=1e-6)
    assert torch.equal(guide(branches, 0.0, 0.0), nothing)
    assert torch.allclose(guide(branches, 0.0, 1.0), image, atol=1e-6)
    found = guide(branches, 7.0, 2.0)
    assert torch.allclose(found, nothing + 2 * (image - nothing) + 7 * (both - image), atol=1e-6)
    # Without a prompt's own effect it is guidance by the picture alone.
    same = torch.cat([nothing, both, both])
    assert torch.allclose(guide(same, 7.0, 2.0), guide(torch.cat([nothing, both]), 2.0), atol=1e-6)


def test_what_does_not_go_together(tmp_path: Path) -> None:
    instruct = ours(save(tmp_path / "instruct", unet=INSTRUCT))
    inpainting = ours(save(tmp_path / "inpainting", unet=INPAINTING))
    plain = ours(save(tmp_path / "plain"))
    asked = parts(image_guidance=2.0)
    check_model(asked, instruct)
    for chosen, model in (
        (asked, plain),
        (asked, inpainting),
        (parts(image_guidance=2.0, guidance=1.0), instruct),
    ):
        with pytest.raises(ConfigError, match=r"^sampling\.image_guidance: is of InstructPix2Pix"):
            check_model(chosen, model)
    with pytest.raises(ConfigError, match=r"^start\.null_text: .*three"):
        check_model(replace(parts(), start=NullText()), instruct)
    clip = replace(SCENE, ranges=(PromptRange(0, 4, "a dog", ""),))
    masked = replace(parts(), mask=MaskFile(Path("x.png")))
    check_model(masked, inpainting)
    check_model(parts(), inpainting, [clip])
    check_model(masked, plain, [clip])
    with pytest.raises(ConfigError, match=r"^mask: is not known to an inpainting model"):
        check_model(masked, inpainting, [clip])
    (tmp_path / "instruct" / "model_index.json").write_text('{"is_cosxl_edit": true}')
    with pytest.raises(WeightsError, match="CosXL"):
        instruct.check(())


@pytest.mark.parametrize("unet", [INSTRUCT, INPAINTING], ids=["instruct", "inpainting"])
def test_inversion_goes_back(tmp_path: Path, unet: dict[str, Any]) -> None:
    """A start that asks for the positive branch alone, with the picture."""
    from rerender.start.ddim_inversion import DDIMInversion

    model: Any = ours(save(tmp_path / "model", unet=unet)).load(("canny",))
    start = DDIMInversion()
    composed = replace(parts(ALL, sampler=DDIM()), start=start)
    for each in translated(model, composed, 2):
        assert each.image.isfinite().all()


def test_another_mask_makes_other_key_frames_of_an_inpainting_model_alone(tmp_path: Path) -> None:
    loading: Any = SimpleNamespace(size_multiple=8, digest="w")
    for name in ("one", "other"):
        region = torch.zeros(1, 64, 64)
        region[:, : 32 if name == "one" else 48] = 1
        picture(tmp_path / f"{name}.png", region)

    def key(folder: Path, mask: str) -> str:
        said = ["+exp=smoke", "tracker=none", "model=sd15", f"model.path={folder}"]
        said += ["model.vae=null", "mask=file", f"mask.path={tmp_path / mask}.png"]
        (tree,) = preflight(said, None).jobs
        job = Job.of(tree)
        return stages_of(job, tree, Identity.of(tree), job.clips()[0], loading).keys

    inpainting, plain = save(tmp_path / "inpainting", unet=INPAINTING), save(tmp_path / "plain")
    assert key(inpainting, "one") != key(inpainting, "other")
    assert key(plain, "one") == key(plain, "other")  # composited afterwards


@pytest.mark.parametrize("unet", [INSTRUCT, INPAINTING], ids=["instruct", "inpainting"])
def test_a_lora_is_not_trained_without_a_source(tmp_path: Path, unet: dict[str, Any]) -> None:
    from training.lora import _parser, train

    save(tmp_path / "model", unet=unet)
    picture(tmp_path / "look" / "one.png", torch.rand(1, 32, 32))
    line = ["--data", tmp_path / "look", "--word", "toy", "--out", tmp_path / "out"]
    said = [*line, "--model", tmp_path / "model", "--size", "32", "--device", "cpu"]
    with pytest.raises(ConfigError, match=r"^--model: sees a source picture"):
        train(_parser().parse_args([str(each) for each in said]))
    assert not (tmp_path / "out").exists()
