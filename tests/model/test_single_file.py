"""Single safetensors files in the names of the original programs: the same model as the folder;
what else a file is, and where it belongs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rerender.errors import WeightsError
from rerender.model import _agreement, _single_file
from rerender.model._loading import load_tokenizer
from rerender.model.pretrained import Pretrained
from tests.model.making import our_latents, ours, save

LAYERS = 1  # resnets of a block
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}


def blocks(levels: int) -> Iterator[tuple[str, str]]:
    """(name of diffusers, original name) of the blocks of a UNet."""
    for i in range(levels):
        for j in range(LAYERS):
            place = f"input_blocks.{(LAYERS + 1) * i + j + 1}"
            yield f"down_blocks.{i}.resnets.{j}", f"{place}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"{place}.1"
        sampler = f"input_blocks.{(LAYERS + 1) * (i + 1)}.0.op"
        yield f"down_blocks.{i}.downsamplers.0.conv", sampler
        for j in range(LAYERS + 1):
            place = f"output_blocks.{(LAYERS + 1) * i + j}"
            yield f"up_blocks.{i}.resnets.{j}", f"{place}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"{place}.1"
        last = f"output_blocks.{(LAYERS + 1) * i + LAYERS}"
        attends = i < levels - 1  # the last block of the decoder has no attention here
        yield f"up_blocks.{i}.upsamplers.0.conv", f"{last}.{2 if attends else 1}.conv"
    for name, number in (("resnets.0", 0), ("attentions.0", 1), ("resnets.1", 2)):
        yield f"mid_block.{name}", f"middle_block.{number}"


def of_unet(weights: dict[str, Any], levels: int = 3) -> dict[str, Any]:
    found = {}
    places = dict(blocks(levels))
    for name, tensor in weights.items():
        block = next((each for each in places if name.startswith(f"{each}.")), None)
        if block is None:
            key = next((k for k in TOP if name.startswith(f"{k}.")), None)
            rest = name.removeprefix("controlnet_down_blocks.")
            if key is not None:
                found[name.replace(key, TOP[key])] = tensor
            elif rest != name:
                number, piece = rest.split(".")
                found[f"zero_convs.{number}.0.{piece}"] = tensor
            elif name.startswith("controlnet_mid_block."):
                found[name.replace("controlnet_mid_block", "middle_block_out.0")] = tensor
            else:
                found[of_hint(name)] = tensor
            continue
        inner = name.removeprefix(f"{block}.")
        if "resnets" in block:
            part, _, piece = inner.partition(".")
            inner = f"{RESNET[part]}.{piece}"
        found[f"{places[block]}.{inner}"] = tensor
    return found


def of_hint(name: str) -> str:
    """The encoder of control maps: a stack of convolutions with activations between them."""
    inner = name.removeprefix("controlnet_cond_embedding.")
    if inner.startswith("blocks."):
        _, number, piece = inner.split(".")
        return f"input_hint_block.{2 * (int(number) + 1)}.{piece}"
    last = {"conv_in": 0, "conv_out": 14}  # where it stands in published files
    part, _, piece = inner.partition(".")
    return f"input_hint_block.{last[part]}.{piece}"


def of_vae(weights: dict[str, Any], levels: int = 2) -> dict[str, Any]:
    def turned(m: re.Match[str]) -> str:
        return f"up.{levels - 1 - int(m[1])}"

    found = {}
    for name, tensor in weights.items():
        key = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
        key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d+)(?=\.resnets)", turned, key).replace("resnets", "block")
        key = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0",
            lambda m: f"{turned(m)}.upsample",
            key,
        )
        key = re.sub(r"mid_block\.block\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
        key = key.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
        key = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "attn_1" in key and "norm" not in key:
            for new, old in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
                key = key.replace(new, old)
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        found[key] = tensor
    return found


def weights(folder: Path) -> dict[str, Any]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def prefixed(prefix: str, found: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor.contiguous() for name, tensor in found.items()}


def whole(folder: Path) -> dict[str, Any]:
    text = {
        f"text_model.{k.removeprefix('text_model.')}": v
        for k, v in weights(folder / "text_encoder").items()
    }
    return {
        **prefixed("model.diffusion_model.", of_unet(weights(folder / "unet"))),
        **prefixed("first_stage_model.", of_vae(weights(folder / "vae"))),
        **prefixed("cond_stage_model.transformer.", text),
        "model_ema.decay": torch.tensor(0.9),
    }


def test_one_file_is_the_folder(tmp_path: Path) -> None:
    folder = save(tmp_path / "sd")
    save_file(whole(folder), tmp_path / "one.safetensors")
    net = prefixed("control_model.", of_unet(weights(folder / "controlnet")))
    save_file(net, tmp_path / "net.safetensors")
    save_file(of_vae(weights(folder / "vae")), tmp_path / "vae.safetensors")
    wanted = our_latents(ours(folder))
    chosen = ours(
        tmp_path / "one.safetensors",
        config=str(folder),
        controlnets={"canny": str(tmp_path / "net.safetensors")},
    )
    assert torch.equal(our_latents(chosen), wanted)
    assert chosen.load(("canny",)).digest() == ours(folder).load(("canny",)).digest()
    beside = ours(folder, vae=str(tmp_path / "vae.safetensors"))
    assert torch.equal(our_latents(beside), wanted)


@pytest.mark.parametrize("channels", [8, 9])
def test_one_file_that_sees_the_source_is_the_folder(tmp_path: Path, channels: int) -> None:
    folder = save(tmp_path / "sd", unet={"in_channels": channels})
    save_file(whole(folder), tmp_path / "one.safetensors")
    net = prefixed("control_model.", of_unet(weights(folder / "controlnet")))
    save_file(net, tmp_path / "net.safetensors")  # it sees latents alone
    controlnets = {"canny": str(tmp_path / "net.safetensors")}
    chosen = ours(tmp_path / "one.safetensors", config=str(folder), controlnets=controlnets)
    assert torch.equal(our_latents(chosen), our_latents(ours(folder)))


@pytest.mark.parametrize("cross", [768, 1024, 2048])
@pytest.mark.parametrize(("channels", "kind"), [(8, "instructed"), (9, "inpaints")])
def test_how_many_channels_is_told_from_the_file(
    tmp_path: Path, cross: int, channels: int, kind: str
) -> None:
    file = sparse(tmp_path / "one.safetensors", published(cross, channels))
    chosen = Pretrained(str(file))
    located = chosen._located((), "nothing")
    _agreement.check(located)
    assert located.unet.config()["in_channels"] == channels
    told = {name for name in ("instructed", "inpaints") if getattr(chosen, name)()}
    assert told == {kind}
    if (cross, channels) == (1024, 9):
        assert located.scheduler()["prediction_type"] == "epsilon"


def test_a_file_without_an_autoencoder_says_so(tmp_path: Path) -> None:
    folder = save(tmp_path / "sd")
    found = {k: v for k, v in whole(folder).items() if not k.startswith("first_stage_model.")}
    save_file(found, tmp_path / "one.safetensors")
    controlnets = {"canny": str(folder / "controlnet")}
    chosen = ours(tmp_path / "one.safetensors", config=str(folder), controlnets=controlnets)
    with pytest.raises(WeightsError, match=r"holds no vae; give one: model\.vae=FILE or FOLDER"):
        chosen.check(())
    vae = str(folder / "vae")
    chosen = ours(
        tmp_path / "one.safetensors", config=str(folder), controlnets=controlnets, vae=vae
    )
    assert torch.equal(our_latents(chosen), our_latents(ours(folder)))


def sparse(file: Path, tensors: dict[str, list[int]], **metadata: str) -> Path:
    """A file of the right size that says what is in it and holds nothing but holes."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in tensors.items():
        size = 2 * int(torch.tensor(shape).prod())
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(8 + len(text) + end)
    return file


def published(cross: int, channels: int = 4, **more: Any) -> dict[str, list[int]]:
    """What tells a published checkpoint, in its sizes."""
    level = 4 if cross == 2048 else 1
    unet = "model.diffusion_model."
    text = "conditioner.embedders.0." if cross == 2048 else "cond_stage_model."
    second = {"conditioner.embedders.1.model.ln_final.weight": [1280]} if cross == 2048 else {}
    return {
        f"{unet}input_blocks.0.0.weight": [320, channels, 3, 3],
        f"{unet}input_blocks.{level}.1.transformer_blocks.0.attn2.to_k.weight": [320, cross],
        "first_stage_model.encoder.conv_in.weight": [128, 3, 3, 3],
        f"{text}x.weight": [1],
        **second,
        **more,
    }


@pytest.mark.parametrize(
    ("cross", "more", "metadata", "family", "predicts"),
    [
        (768, {}, {}, "sd15", "epsilon"),
        (1024, {}, {}, "sd21", "v_prediction"),
        (1024, {}, {"modelspec.prediction_type": "epsilon"}, "sd21", "epsilon"),
        (2048, {}, {}, "sdxl", "epsilon"),
        (2048, {"v_pred": [1], "ztsnr": [1]}, {}, "sdxl", "v_prediction"),
    ],
)
def test_the_family_is_told_from_the_file(
    tmp_path: Path,
    cross: int,
    more: dict[str, Any],
    metadata: dict[str, str],
    family: str,
    predicts: str,
) -> None:
    file = sparse(tmp_path / "one.safetensors", published(cross, **more), **metadata)
    located = Pretrained(str(file))._located((), "nothing")
    assert located.base == _single_file.CONFIGS / family
    _agreement.check(located)
    assert located.scheduler()["prediction_type"] == predicts
    for tokenizer in located.tokenizers:
        tokens = load_tokenizer(tokenizer)("a photo of an astronaut").input_ids
        assert tokens == [49406, 320, 1125, 539, 550, 18376, 49407]


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (
            {"lora_unet_x.lora_down.weight": [1]},
            "is no checkpoint but a LoRA; give it as model.lor",
        ),
        ({"control_model.time_embed.0.weight": [1]}, "but a ControlNet; give it as model.contro"),
        ({"emb_params": [1, 768]}, "but a textual inversion; give it as model.embeddings"),
        ({"encoder.down.0.block.0.conv1.weight": [1]}, "but an autoencoder; give it as model.vae"),
        ({"double_blocks.0.img_attn.qkv.weight": [1]}, "is a FLUX or HunyuanVideo transformer"),
        ({"model.diffusion_model.joint_blocks.0.x": [1]}, "is a Stable Diffusion 3 transformer"),
        ({"down_blocks.0.motion_modules.0.x": [1]}, "is a motion module of AnimateDiff"),
        ({"blocks.0.transformer_blocks.0.x": [1]}, "of a video model or another family"),
        ({"words": [1]}, "is no checkpoint known here (holds words)"),
        (published(1280), "is built like none that is known here (text of width 1280"),
        (published(768, 5), "5 channels"),
    ],
)
def test_what_else_it_is_is_said_in_one_line(
    tmp_path: Path, tensors: dict[str, list[int]], says: str
) -> None:
    file = sparse(tmp_path / "one.safetensors", tensors)
    with pytest.raises(WeightsError) as caught:
        Pretrained(str(file)).check(())
    assert says in str(caught.value)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"PK")
    with pytest.raises(WeightsError, match="is a pickle, which is never opened"):
        Pretrained(str(file)).check(())
