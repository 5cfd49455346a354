"""Collect what training has finished into a weights folder laid out like Stable Diffusion 1.5."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import load_file, save_file
from torch import nn

from rerender.demo import weights
from training import components
from training.learn import load
from training.stages import STAGES

_INDEX = {
    "_class_name": "StableDiffusionControlNetPipeline",
    "controlnet": ["diffusers", "ControlNetModel"],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def export(work: Path, folder: Path) -> None:
    """Write the averaged weights of every stage in ``work`` to ``folder``, in half precision.

    A stage still in training is taken at its last checkpoint, one that has not begun at its
    start. The folder is put in place whole, replacing an older one; its model card stays.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    words = components.tokenizer()
    for name in STAGES:
        for part_name, module in _trained(name, work / name).items():
            target = part / part_name
            stock: Any = module.half()
            stock.save_pretrained(target, safe_serialization=True)
    words.save_pretrained(part / "tokenizer")
    words.save_pretrained(part / "clip")
    components.clip_images().save_pretrained(part / "clip")
    components.scheduler().save_pretrained(part / "scheduler")
    (part / "model_index.json").write_text(
        json.dumps({**_INDEX, "_diffusers_version": diffusers.__version__}, indent=2) + "\n"
    )
    for kept in ("README.md", "figures.json"):
        if (folder / kept).exists():
            shutil.copy(folder / kept, part / kept)
    for file in part.rglob("*.safetensors"):
        file.chmod(0o644)
    write_manifest(part)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def put(folder: Path, files: Sequence[Path]) -> None:
    """Put weights of further training into a weights folder, and write its manifest.

    Args:
        folder: holds a folder for each network.
        files: ``clip.safetensors`` of ``further_judge``, and others with all networks of
            ``further``, each weight's name beginning with that of its network.
    """
    for file in files:
        state = load_file(file)
        names = {"clip"} if file.stem == "clip" else {key.partition(".")[0] for key in state}
        for name in sorted(names):
            (target,) = (folder / name).glob("*.safetensors")
            own = state
            if file.stem != "clip":
                own = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{name}.")}
            if load_file(target).keys() != own.keys():
                raise ValueError(f"{file}: weights of {name} are not those of {target}")
            save_file(own, target, {"format": "pt"})
            target.chmod(0o644)
    write_manifest(folder)


def put_beside(folder: Path, file: Path) -> None:
    """Make a weights folder of further training that shares what was not trained.

    Tokenizer, scheduler and configurations are copies of the shipped ones. The autoencoder is the
    shipped one itself: the manifest lists it, and a configuration names it as ``model.vae``.

    Args:
        folder: lies beside the shipped folder; its model card stays.
        file: ``further.safetensors``, as of `put`.
    """
    for name in ("scheduler", "tokenizer", "text_encoder", "unet", "controlnet"):
        shutil.copytree(weights.FOLDER / name, folder / name, dirs_exist_ok=True)
    shutil.copy(weights.FOLDER / "model_index.json", folder)
    put(folder, [file])
    write_manifest(folder, ("vae",))


def write_manifest(folder: Path, shared: Sequence[str] = ()) -> None:
    """Write the manifest of a finished weights folder, in the format of ``sha256sum``.

    Args:
        folder: of the weights.
        shared: folders of the shipped weights, beside it, that it needs too.
    """
    own = {name: folder / name for name in weights.contents(folder)}
    theirs = {
        f"../{weights.FOLDER.name}/{name}/{file.name}": file
        for name in shared
        for file in sorted((weights.FOLDER / name).iterdir())
    }
    lines = [f"{weights.sha256(file)}  {name}\n" for name, file in {**own, **theirs}.items()]
    (folder / weights.MANIFEST).write_text("".join(lines))


def _trained(name: str, folder: Path) -> nn.ModuleDict:
    modules = STAGES[name](0, 1, "cpu").modules
    if (folder / "final.safetensors").exists():
        load(modules, folder / "final.safetensors")
    elif (folder / "checkpoint.safetensors").exists():
        load(modules, folder / "checkpoint.safetensors", prefix="average.")
    return modules
