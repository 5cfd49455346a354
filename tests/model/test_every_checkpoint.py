"""Every kind of checkpoint with everything: all four constraints, key frames one by one and four in
a batch, a run that goes on, half precision. That each is what its stock pipeline computes, with no
constraint, stands in the other files of this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from rerender.config.compose import preflight
from rerender.config.job import Job
from rerender.config.paths import ROOT
from rerender.errors import ConfigError
from rerender.mask.none import Everywhere
from rerender.sampler.lcm import LCM
from rerender.scene import Translation
from tests.model.making import LARGE, backbone, lively, ours, save
from tests.model.test_families import SCHEDULES, Keeping, Stopped
from tests.model.test_ip_adapter import adapter
from tests.model.test_lora import lora, trained
from tests.model.test_single_file import whole
from tests.model.test_source_channels import INPAINTING, INSTRUCT, LEFT
from tests.model.test_t2i_adapter import EARLY
from tests.model.test_t2i_adapter import adapter as t2i
from tests.scenes import ALL, SCENE, parts, translated

QUICK = ("sd", "InstructPix2Pix XL", "IP-Adapter")
# Mean difference to float32 of pictures in 0..1 whose standard deviation is 0.16. Most kinds differ
# by less than a tenth of it; noise told from a predicted clean latent is less exact.
HALVES = {"float16": 0.01, "bfloat16": 0.08}


class Kind(NamedTuple):
    """A checkpoint, and what is said with it.

    Attributes:
        chosen: the checkpoint, a `Pretrained`.
        control: which control it is given.
        prompt: of the clip.
        mask: of the clip.
        sampling: other than 10 steps of DDIM at strength 0.8.
    """

    chosen: Any
    control: str = "canny"
    prompt: str = SCENE.prompt
    mask: Any = Everywhere()
    sampling: Mapping[str, Any] = MappingProxyType({})


def plain(**changes: Any) -> Callable[[Path], Kind]:
    return lambda at: Kind(ours(save(at / "model", **changes)))


def half_files(at: Path) -> Kind:
    return Kind(ours(save(at / "model", variant="fp16")))


def one_file(at: Path) -> Kind:
    folder = save(at / "model")
    save_file(whole(folder), at / "one.safetensors")
    nets = {"canny": str(folder / "controlnet")}
    return Kind(ours(at / "one.safetensors", config=str(folder), controlnets=nets))


def with_lora(at: Path) -> Kind:
    """One merged into the weights, and one beside them in the first half of the steps."""
    folder = save(at / "model")
    first = lora(trained(folder, at / "one.safetensors"), scale=0.8)
    second = lora(trained(folder, at / "two.safetensors", seed=8), stop=0.5)
    return Kind(ours(folder, loras=(*first, *second)))


def with_words(at: Path) -> Kind:
    rows = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    save_file({"emb_params": rows}, at / "toy.safetensors")
    chosen = ours(save(at / "model"), embeddings={"<toy>": str(at / "toy.safetensors")})
    return Kind(chosen, prompt="a <toy>, watercolor")


def weighed(at: Path) -> Kind:
    chosen = ours(save(at / "model"), prompt_weights=True)
    return Kind(chosen, prompt="a (cat:1.3), [watercolor]")


def with_tiny_autoencoder(at: Path) -> Kind:
    torch.manual_seed(3)
    sizes = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    blocks = {f"num_{side}_blocks": (1, 1) for side in ("encoder", "decoder")}
    diffusers.AutoencoderTiny(**sizes, **blocks).eval().save_pretrained(at / "taesd")
    return Kind(ours(save(at / "model"), vae=str(at / "taesd")))


def with_union(at: Path) -> Kind:
    folder = save(at / "model", large=True)
    torch.manual_seed(4)
    union = lively(
        diffusers.ControlNetUnionModel(
            **backbone(**LARGE),
            conditioning_embedding_out_channels=(8, 16),
            num_trans_channel=16,
            num_trans_head=2,
            num_proj_channel=16,
        )
    )
    union.eval().save_pretrained(at / "union")
    return Kind(ours(folder, controlnets={"depth": str(at / "union")}), control="depth")


def inpainting(at: Path) -> Kind:
    return Kind(ours(save(at / "model", unet=INPAINTING)), mask=LEFT)


def consistent(at: Path) -> Kind:
    few = {"sampler": LCM(), "steps": 8, "strength": 0.75}
    return Kind(ours(save(at / "model", unet={"time_cond_proj_dim": 16})), sampling=few)


def with_picture(kind: str, **changes: Any) -> Callable[[Path], Kind]:
    """One that is shown a picture, in all steps or in the first half of them."""

    def made(at: Path) -> Kind:
        folder = save(at / "model", **changes)
        first = adapter(folder, at / "ip", kind)
        second = adapter(folder, at / "ip", kind, seed=10, stop=0.5)
        return Kind(ours(folder, ip_adapters=(first, second)))

    return made


def with_t2i_adapter(at: Path) -> Kind:
    folder, net = save(at / "model", unet=EARLY), t2i(at / "t2i")
    return Kind(ours(folder, controlnets={"canny": net}))


KINDS: dict[str, Callable[[Path], Kind]] = {
    "sd": plain(),
    "fp16 variant": half_files,
    "single file": one_file,
    "LoRA": with_lora,
    "textual inversion": with_words,
    "prompt weights": weighed,
    "tiny autoencoder": with_tiny_autoencoder,
    "v prediction": plain(scheduler=SCHEDULES["v prediction"]),
    "zero SNR": plain(scheduler=SCHEDULES["zero-terminal SNR"]),
    "sample prediction": plain(scheduler=SCHEDULES["sample prediction"]),
    "turbo spacing": plain(scheduler=SCHEDULES["trailing"]),
    "LCM": consistent,
    "XL": plain(large=True),
    "XL with a union": with_union,
    "InstructPix2Pix": plain(unet=INSTRUCT),
    "InstructPix2Pix XL": plain(unet=INSTRUCT, large=True),
    "inpainting": inpainting,
    "IP-Adapter": with_picture("plain"),
    "IP-Adapter plus XL": with_picture("plus", large=True),
    "T2I-Adapter": with_t2i_adapter,
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in KINDS]
)
def test_all_constraints_batches_resume_and_half_precision(tmp_path: Path, name: str) -> None:
    kind = KINDS[name](tmp_path)
    kind.chosen.check((kind.control,))
    clip = replace(SCENE, prompt=kind.prompt)
    # Those of every day take 4 of 5 steps, in which every constraint acts, the others 8 of 10.
    sampling = {**({"steps": 5} if name in QUICK else {}), **kind.sampling}

    def made(model: Any, constraint: Any = ALL, **more: Any) -> list[Translation]:
        resume = more.pop("resume", None)
        composed = replace(parts(constraint, **sampling, **more), mask=kind.mask)
        return translated(model, composed, clip=clip, resume=resume)

    model: Any = kind.chosen.load((kind.control,))
    keeping = Keeping()
    one = made(model, resume=keeping)
    assert len(one) == 4
    for mine, other in zip(one, made(model, batch_size=4), strict=True):
        assert torch.allclose(mine.image, other.image, atol=1e-4)
    free = made(model, ())
    for each, without in zip(one[1:], free[1:], strict=True):  # they do something
        assert not torch.allclose(each.image, without.image, atol=1e-3)
    for count in (1, 3):
        again = made(model, resume=Stopped(one[:count], keeping.seen[count - 1]))
        assert all(torch.equal(a.image, b.image) for a, b in zip(again, one, strict=True))
    for dtype, slack in HALVES.items():
        half: Any = replace(kind.chosen, dtype=dtype).load((kind.control,))
        assert half.parts.unet.dtype == getattr(torch, dtype)
        for each, exact in zip(made(half), one, strict=True):
            assert float((each.image - exact.image).abs().mean()) < slack  # no NaN either


CONSTRAINTS = sorted(path.stem for path in (ROOT / "conf" / "constraint").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("unet", [INSTRUCT, INPAINTING], ids=["instruct", "inpainting"])
def test_every_constraint_on_networks_that_see_the_source(
    tmp_path: Path, unet: dict[str, Any]
) -> None:
    """Some take latents, maps or control maps apart by branches or lay them side by side."""
    model: Any = ours(save(tmp_path / "model", unet=unet)).load(("canny",))
    clip = replace(SCENE, source_prompt="a photo of a dog")
    free = translated(model, parts(), 3, clip=clip)
    for name in CONSTRAINTS:
        # A gate shares out what others do, and does nothing by itself.
        names = f"{name},flow_fusion" if name == "flow_gate" else name
        line = [f"constraint=[{names}]", "data.frames=2", "data.size=16"]
        try:
            chosen = Job.of(preflight(line, None).jobs[0]).parts
        except ConfigError:  # it compares with an inversion of the source
            line += ["start=ddim_inversion", "sampling.strength=null"]
            chosen = Job.of(preflight(line, None).jobs[0]).parts
        asked = replace(parts(), constraint=chosen.constraint, start=chosen.start)
        found = translated(model, asked, 3, clip=clip)
        assert all(each.image.isfinite().all() for each in found), name
        same = [torch.equal(a.image, b.image) for a, b in zip(found, free, strict=True)]
        assert not all(same), name
