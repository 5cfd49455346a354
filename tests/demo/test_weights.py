"""The shipped weights: complete, unchanged, stock classes, and able to do their work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rerender.demo import weights
from rerender.demo.captions import STYLES, words
from rerender.demo.world import HELD_OUT, World
from rerender.errors import WeightsError
from rerender.model.pretrained import Pretrained
from training import data
from training.export import write_manifest

FOLDERS = (weights.FOLDER, weights.NATURAL, weights.VAE_MSE)
PARTS = ("text_encoder", "vae", "unet", "controlnet", "clip", "lpips_demo")


def copied(tmp_path: Path) -> Path:
    """A small weights folder to damage."""
    folder = tmp_path / "weights"
    shutil.copytree(weights.FOLDER / "tokenizer", folder / "tokenizer")
    shutil.copytree(weights.FOLDER / "text_encoder", folder / "text_encoder")
    write_manifest(folder)
    weights.verify(folder)
    return folder


def test_the_shipped_folder_is_what_was_shipped() -> None:
    weights.verify()
    names = weights.contents(weights.FOLDER)
    assert sum((weights.FOLDER / name).stat().st_size for name in names) <= 30_000_000
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
    assert (weights.FOLDER / "README.md").is_file()


def test_the_folder_for_natural_pictures_shares_the_autoencoder() -> None:
    weights.verify(weights.NATURAL)
    names = weights.contents(weights.NATURAL)
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
    assert not [name for name in names if name.startswith("vae/")]
    listed = (weights.NATURAL / weights.MANIFEST).read_text()
    own = (weights.FOLDER / weights.MANIFEST).read_text()
    for name in ("vae/config.json", "vae/diffusion_pytorch_model.safetensors"):
        (digest,) = (line.split()[0] for line in own.splitlines() if line.endswith(f" {name}"))
        assert f"{digest}  ../weights/{name}\n" in listed
    every = [folder / n for folder in FOLDERS for n in weights.contents(folder)]
    assert sum(file.stat().st_size for file in every) <= 60_000_000
    assert (weights.NATURAL / "README.md").is_file()


def test_the_second_autoencoder_encodes_alike_and_decodes_otherwise() -> None:
    weights.verify(weights.VAE_MSE)
    (own, other) = (
        load_file(folder / "diffusion_pytorch_model.safetensors")
        for folder in (weights.FOLDER / "vae", weights.VAE_MSE)
    )
    assert own.keys() == other.keys()
    kept = [name for name in own if name.startswith(("encoder.", "quant_conv."))]
    assert kept and all(torch.equal(own[name], other[name]) for name in kept)
    assert any(not torch.equal(own[name], other[name]) for name in own)
    config, said = (
        json.loads((folder / "config.json").read_text())
        for folder in (weights.FOLDER / "vae", weights.VAE_MSE)
    )
    assert config == said


def test_a_damaged_autoencoder_stops_the_model_that_shares_it(tmp_path: Path) -> None:
    """Its own folder is whole; what is broken lies in the other one."""
    for folder in FOLDERS:
        shutil.copytree(folder, tmp_path / folder.name)
    file = tmp_path / "weights" / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    model = Pretrained(
        str(tmp_path / "weights_natural"), {"canny": "controlnet"}, vae=str(file.parent)
    )
    with pytest.raises(WeightsError, match=r"vae/diffusion_pytorch_model.safetensors: sha256 is"):
        model.check(["canny"])


def test_one_wrong_byte_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    file = folder / "text_encoder" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        WeightsError, match=r"text_encoder/model.safetensors: sha256 is \w{12}…, not"
    ):
        weights.verify(folder)


@pytest.mark.parametrize("name", ["text_encoder/model.safetensors", weights.MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path)
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=f"{name}: is missing"):
        weights.verify(folder)


def test_a_file_that_was_never_shipped_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "unet.bin").write_bytes(b"pickle")
    with pytest.raises(WeightsError, match=r"unet.bin: is not listed"):
        weights.verify(folder)


def test_every_word_is_one_token() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(weights.FOLDER / "tokenizer")
    for word in words():
        assert len(tokenizer(word).input_ids) == 3, word
    longest = "a red ball, a blue fish, a green star and a white car over the sea, gold statue"
    ids = tokenizer(longest, padding="max_length", truncation=False).input_ids
    assert len(ids) == tokenizer.model_max_length
    assert len(tokenizer("an unknown wörd, 東京 and 👍").input_ids) > 5


def test_the_folder_loads_as_stable_diffusion_does() -> None:
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    control = ControlNetModel.from_pretrained(weights.FOLDER / "controlnet", local_files_only=True)
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        weights.FOLDER, controlnet=control, dtype=torch.float32, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    kinds = {name: type(part).__name__ for name, part in pipe.components.items() if part}
    assert kinds == {
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "unet": "UNet2DConditionModel",
        "controlnet": "ControlNetModel",
        "scheduler": "DDIMScheduler",
    }
    layers = [name for name in pipe.unet.attn_processors if "up_blocks" in name and "attn1" in name]
    assert len({name.split(".")[1] for name in layers}) >= 2, "attention at several resolutions"
    world = World(HELD_OUT + 5)
    edge = data.edges(world.frame(0))[None].expand(-1, 3, -1, -1)

    def draw(style: str) -> Any:
        generator = torch.Generator().manual_seed(0)
        return pipe(
            world.prompt(style),
            image=edge,
            num_inference_steps=4,
            generator=generator,
            guidance_scale=2.0,
            output_type="np",
        ).images[0]

    night, paper = draw("neon"), draw("pencil")
    assert night.shape == (128, 128, 3)
    assert night.mean() + 0.2 < paper.mean(), "neon is dark, pencil is on white paper"


def test_the_autoencoder_keeps_a_frame() -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(
        weights.FOLDER / "vae", dtype=torch.float32, local_files_only=True
    )
    frames = torch.stack([World(HELD_OUT + 900 + i).frame(0, s) for i, s in enumerate(STYLES)])
    with torch.no_grad():
        code = vae.encode(frames * 2 - 1).latent_dist.mean
        back = vae.decode(code).sample / 2 + 0.5
    assert 0.5 < code.std() * vae.config.scaling_factor < 2, "codes of about unit power"
    assert -10 * torch.log10((back - frames).square().mean()) > 25


def test_the_small_clip_knows_the_styles() -> None:
    from transformers import CLIPModel, CLIPTokenizer

    clip = CLIPModel.from_pretrained(weights.FOLDER / "clip", local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(weights.FOLDER / "clip")
    right = 0
    for seed in range(4):
        world = World(HELD_OUT + 700 + seed)
        frames = torch.stack([world.frame(0, style) for style in STYLES])
        prompts = [world.prompt(style) for style in STYLES]
        tokens = tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            logits = clip.float()(tokens, data.pixel_values(frames)).logits_per_image
        right += int((logits.argmax(1) == torch.arange(len(STYLES))).sum())
    assert right >= 0.9 * 4 * len(STYLES)


def test_the_configurations_say_what_the_house_relies_on() -> None:
    scheduler = json.loads((weights.FOLDER / "scheduler" / "scheduler_config.json").read_text())
    asked = {
        "_class_name": "DDIMScheduler",
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "beta_schedule": "scaled_linear",
    }
    assert asked.items() <= scheduler.items()
