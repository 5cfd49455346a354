"""What configuration files tell: other families, parts that do not fit, keys that would be ignored;
weights under every name that is in use, and damaged ones named."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rerender.demo.weights import FOLDER
from rerender.errors import ConfigError, WeightsError
from rerender.model import _described, _noising, _stored
from rerender.model._files import header, read, weights_of
from rerender.model._keys import CONTROLNET, SCHEDULER, T2I, TINY_VAE, UNET, UNION, VAE, Known
from rerender.model._located import NetworkFiles
from rerender.model.pretrained import Pretrained

SCHEDULER_FILE = "scheduler/scheduler_config.json"
UNET_FILE, VAE_FILE, NET_FILE = "unet/config.json", "vae/config.json", "controlnet/config.json"
TEXT_FILE, TOKENS_FILE = "text_encoder/config.json", "tokenizer/tokenizer_config.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo checkpoint with its own configuration files; weights are links."""
    for file in FOLDER.rglob("*"):
        target = tmp_path / "weights" / file.relative_to(FOLDER)
        if file.name in ("SHA256SUMS", "figures.json") or not file.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            target.symlink_to(file)
        else:
            shutil.copyfile(file, target)
    return tmp_path / "weights"


def change(folder: Path, file: str, **keys: Any) -> None:
    """Set keys of a configuration file; ``...`` removes one."""
    found = json.loads((folder / file).read_text())
    for key, value in keys.items():
        if value is ...:
            found.pop(key, None)
        else:
            found[key] = value
    (folder / file).write_text(json.dumps(found))


def checkpoint(folder: Path, **changes: Any) -> Pretrained:
    return Pretrained(
        str(folder), {"canny": "controlnet"}, **{"dtype": "float32", "device": "cpu", **changes}
    )


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(WeightsError) as caught:
        checkpoint(folder, **changes).check(("canny",))
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.cure
    return message


# -- parts that do not fit, and other families ----------------------------------------------------

MISFITS = [
    (UNET_FILE, {"in_channels": 7}, "in_channels is 7, out_channels is 12: an upscaler"),
    (UNET_FILE, {"in_channels": 9}, "takes or gives more than latents"),
    (UNET_FILE, {"in_channels": 9, "out_channels": 4}, "latent_channels is 12, out_channels of"),
    (UNET_FILE, {"in_channels": 4, "out_channels": 4}, "latent_channels is 12, in_channels of"),
    (UNET_FILE, {"cross_attention_dim": 768}, "hidden_size is 128, cross_attention_dim"),
    (UNET_FILE, {"cross_attention_dim": [128, 64, 128]}, "hidden_size is 128"),
    (UNET_FILE, {"block_out_channels": [32, 64]}, "down_block_types must have 2 entries"),
    (UNET_FILE, {"block_out_channels": "wide"}, "must be a list of whole numbers"),
    (UNET_FILE, {"in_channels": "four"}, "in_channels must be a whole number"),
    (UNET_FILE, {"_class_name": "UNet3DConditionModel"}, "_class_name must be UNet2DCondition"),
    (UNET_FILE, {"down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"]}, "Attn"),
    (UNET_FILE, {"addition_embed_type": "text_time"}, "as in Stable Diffusion XL"),
    (UNET_FILE, {"class_embed_type": "projection"}, "embeddings of a class"),
    (UNET_FILE, {"num_class_embeds": 1000}, "embeddings of a class"),
    (UNET_FILE, {"encoder_hid_dim": 1024}, "Kandinsky"),
    (UNET_FILE, {"attention_type": "gated"}, "GLIGEN"),
    (UNET_FILE, {"layers_per_block": 10**9}, "layers_per_block must be whole numbers in 0..1000"),
    (
        UNET_FILE,
        {"transformer_layers_per_block": [1, [2, -1]]},
        "transformer_layers_per_block must",
    ),
    (UNET_FILE, {"block_out_channels": [-32, 64]}, "block_out_channels must be a list of whole"),
    (VAE_FILE, {"down_block_types": ...}, "down_block_types must have 4 entries"),
    (VAE_FILE, {"up_block_types": []}, "up_block_types must have 4 entries"),
    (VAE_FILE, {"up_block_types": ["UpBlock2D"] * 4}, "up_block_types must be of UpDecoderBlock2D"),
    (VAE_FILE, {"layers_per_block": 10**9}, "layers_per_block must be whole numbers"),
    (TEXT_FILE, {"num_hidden_layers": -1}, "num_hidden_layers must be whole numbers in 1..1000"),
    (TEXT_FILE, {"num_attention_heads": 0}, "num_attention_heads must be whole numbers"),
    (VAE_FILE, {"latent_channels": 16}, "latent_channels is 16"),
    (VAE_FILE, {"_class_name": "VQModel"}, "_class_name must be AutoencoderKL or AutoencoderTiny"),
    (VAE_FILE, {"scaling_factor": ...}, "has no scaling_factor for its 12"),
    (VAE_FILE, {"scaling_factor": None}, "scaling_factor must be a number"),
    (VAE_FILE, {"scaling_factor": 0}, "scaling_factor must be a number"),
    (VAE_FILE, {"shift_factor": "x"}, "shift_factor must be a number"),
    (VAE_FILE, {"latents_mean": [0.1] * 12}, "channel by channel"),
    (VAE_FILE, {"in_channels": 4}, "in_channels must be 3"),
    (TEXT_FILE, {"hidden_size": 1024}, "hidden_size is 1024"),
    (TEXT_FILE, {"vocab_size": 500}, "has 616 tokens, vocab_size of"),
    (TEXT_FILE, {"model_type": "t5"}, "model_type must be clip_text_model"),
    (TEXT_FILE, {"max_position_embeddings": 16}, "max_position_embeddings"),
    (TOKENS_FILE, {"model_max_length": ...}, "has no model_max_length"),
    (TOKENS_FILE, {"pad_token": "<pad>"}, 'pad_token is "<pad>", which is no word of'),
    (TOKENS_FILE, {"unk_token": {"content": "<unk>"}}, 'unk_token is "<unk>"'),
    (TOKENS_FILE, {"bos_token": 3}, "bos_token is 3"),
    (TOKENS_FILE, {"model_max_length": 77}, "model_max_length is 77"),
    (TOKENS_FILE, {"model_max_length": 1e30}, "model_max_length is 1e+30"),
    (NET_FILE, {"cross_attention_dim": 768}, "cross_attention_dim is 768, that of"),
    (NET_FILE, {"block_out_channels": [32, 64, 128]}, "block_out_channels is [32"),
    (NET_FILE, {"layers_per_block": 2}, "layers_per_block is 2"),
    (NET_FILE, {"attention_head_dim": 8}, "attention_head_dim is 8"),
    (NET_FILE, {"in_channels": 4}, "in_channels is 4"),
    (NET_FILE, {"_class_name": "MotionAdapter"}, "_class_name must be ControlNetModel"),
    (NET_FILE, {"_class_name": "UNet2DConditionModel"}, "_class_name must be ControlNetModel"),
    (NET_FILE, {"conditioning_channels": 1}, "no RGB picture"),
    (NET_FILE, {"conditioning_embedding_out_channels": [8, 16]}, "must have 4 entries"),
    (NET_FILE, {"controlnet_conditioning_channel_order": "bgr"}, "order of colours"),
    (NET_FILE, {"global_pool_conditions": True}, "shuffle"),
    ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "another family"),
    ("model_index.json", {"_class_name": "FluxPipeline"}, "FLUX, a flow-matching"),
    ("model_index.json", {"_class_name": "WanPipeline"}, "another family: a video model"),
    (
        "model_index.json",
        {"text_encoder_2": ["transformers", "T5EncoderModel"]},
        "text_encoder_2 must",
    ),
    ("model_index.json", {"transformer": ["diffusers", "X"]}, "has a transformer"),
    ("model_index.json", {"text_encoder": ["x", "RobertaModel"]}, "must be a CLIPTextModel"),
    ("model_index.json", {"unet": ["diffusers", "UNetMotionModel"]}, "unet must be a UNet2D"),
    (SCHEDULER_FILE, {"num_train_timesteps": ...}, "has no num_train_timesteps"),
    (SCHEDULER_FILE, {"num_train_timesteps": "1000"}, "must be a whole number"),
    (SCHEDULER_FILE, {"beta_start": ...}, "has no beta_start"),
    (SCHEDULER_FILE, {"beta_end": -1}, "beta_end must be a number in 0..1"),
    (SCHEDULER_FILE, {"beta_schedule": ...}, "has no beta_schedule"),
    (SCHEDULER_FILE, {"beta_schedule": "sigmoid"}, "beta_schedule must be linear"),
    (SCHEDULER_FILE, {"prediction_type": "flow_prediction"}, "prediction_type must be epsilon"),
    (SCHEDULER_FILE, {"timestep_spacing": "random"}, "timestep_spacing must be leading"),
    (SCHEDULER_FILE, {"steps_offset": 1000}, "steps_offset must be a whole number"),
    (SCHEDULER_FILE, {"steps_offset": -1}, "steps_offset must be a whole number"),
    (SCHEDULER_FILE, {"set_alpha_to_one": 1}, "must be true or false"),
    (SCHEDULER_FILE, {"trained_betas": [0.1, 0.2]}, "num_train_timesteps=1000 numbers, received 2"),
    (SCHEDULER_FILE, {"trained_betas": [2.0] * 1000}, "must lie in 0..1"),
    (SCHEDULER_FILE, {"trained_betas": "x"}, "must be a list of numbers"),
    (SCHEDULER_FILE, {"clip_sample": True}, "clip_sample must be false"),
    (SCHEDULER_FILE, {"thresholding": True}, "thresholding must be false"),
    (SCHEDULER_FILE, {"use_karras_sigmas": True}, "use_karras_sigmas must be false"),
    (SCHEDULER_FILE, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "another family"),
    (
        SCHEDULER_FILE,
        {"prediction_type": "epsilon", "rescale_betas_zero_snr": True},
        "needs prediction_type v_prediction",
    ),
]


@pytest.mark.parametrize(("file", "keys", "says"), MISFITS)
def test_what_does_not_fit_is_told_by_file_and_key(
    folder: Path, file: str, keys: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretrained, "load", lambda *args: pytest.fail("weights were loaded"))
    change(folder, file, **keys)
    message = refusal(folder)
    assert says in message
    assert ".json" in message


@pytest.mark.parametrize(
    ("role", "key"),
    [
        (role, key)
        for role, sizes in _stored._SIZES.items()
        for name, _, key in sizes
        if name != _stored._ADDED and role != "text_encoder_2"  # the shipped one has neither
    ],
)
def test_weights_of_another_size_are_told_by_their_headers(
    folder: Path, role: str, key: str
) -> None:
    network = NetworkFiles(role, folder / role)
    _stored.check(network)
    said = json.loads((folder / role / "config.json").read_text()).get(key)
    change(folder, f"{role}/config.json", **{key: 16 if said is None else said + 1})
    with pytest.raises(WeightsError, match=rf"{role}/config\.json: {key} is \d+, .*weight"):
        _stored.check(network)


def test_a_distilled_network_says_so_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the key its guidance would not be told to it."""
    monkeypatch.setattr(Pretrained, "load", lambda *args: pytest.fail("weights were loaded"))
    file = own(folder, "unet")
    weights = load_file(file)
    save_file({**weights, "time_embedding.cond_proj.weight": torch.zeros(48, 16)}, file)
    message = refusal(folder)
    assert "time_cond_proj_dim is null, its weights hold time_embedding.cond_proj" in message
    change(folder, UNET_FILE, time_cond_proj_dim=16)
    checkpoint(folder).check(("canny",))
    save_file(weights, file)
    message = refusal(folder)
    assert "time_cond_proj_dim is 16, its weights do not hold" in message


@pytest.mark.parametrize(
    "text", ["", "[]", "[1, 2]", "null", '"x"', "{", "\x00", '{"a": 1}}', "[" * 100_000]
)
@pytest.mark.parametrize("file", ["model_index.json", SCHEDULER_FILE, UNET_FILE, TOKENS_FILE])
def test_damaged_configurations_are_named(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)
    assert file in refusal(folder)


@pytest.mark.parametrize("dtype", [["float32"], "float7"])
def test_a_type_of_numbers_that_is_none_is_named(folder: Path, dtype: object) -> None:
    change(folder, TEXT_FILE, dtype=dtype)
    with pytest.raises(WeightsError, match=TEXT_FILE):
        checkpoint(folder).load(("canny",))


def configurations() -> list[str]:
    names = [SCHEDULER_FILE, UNET_FILE, VAE_FILE, NET_FILE, TEXT_FILE, TOKENS_FILE]
    return ["model_index.json", "tokenizer/tokenizer.json", *names]


@pytest.mark.parametrize("file", configurations())
def test_missing_configurations_are_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    named = "vocab.json" if file.endswith("tokenizer.json") else file
    assert named in refusal(folder)


@pytest.mark.parametrize("file", configurations())
def test_a_pipe_in_place_of_a_configuration_is_not_waited_for(folder: Path, file: str) -> None:
    (folder / file).unlink()
    os.mkfifo(folder / file)
    named = "vocab.json" if file.endswith("tokenizer.json") else file
    assert named in refusal(folder)


def test_the_demo_checkpoint_is_of_the_family(folder: Path) -> None:
    checkpoint(folder).check(("canny",))
    change(folder, "model_index.json", _class_name="StableDiffusionPipeline", controlnet=...)
    checkpoint(folder).check(("canny",))


# -- every key of the libraries -------------------------------------------------------------------


def parameters(name: str) -> dict[str, Any]:
    import diffusers

    signature = inspect.signature(getattr(diffusers, name).__init__)
    return {key: each.default for key, each in signature.parameters.items() if key != "self"}


def scheduler_names() -> list[str]:
    """The schedulers of diffusers that can stand in a Stable Diffusion checkpoint."""
    from diffusers.schedulers import KarrasDiffusionSchedulers

    names = [each.name for each in KarrasDiffusionSchedulers]
    names = [name for name in names if not name.startswith(_noising.OTHER_FAMILIES)]
    return [*names, "LCMScheduler", "TCDScheduler", "SASolverScheduler"]


KINDS = [
    *((name, SCHEDULER) for name in scheduler_names()),
    ("UNet2DConditionModel", UNET),
    ("ControlNetModel", CONTROLNET),
    ("ControlNetUnionModel", UNION),
    ("T2IAdapter", T2I),
    ("AutoencoderKL", VAE),
    ("AutoencoderTiny", TINY_VAE),
]


@pytest.mark.parametrize(("name", "known"), KINDS, ids=[name for name, _ in KINDS])
def test_every_key_is_honoured_refused_or_without_effect(name: str, known: Known) -> None:
    keys = set(parameters(name)) - {"args", "kwargs", "noise_sampler_seed"}
    listed = [known.honoured, frozenset(known.neutral), known.without_effect]
    for key in keys:
        assert sum(key in group for group in listed) == 1, key


@pytest.mark.parametrize(("name", "known"), KINDS, ids=[name for name, _ in KINDS])
def test_neutral_is_what_the_class_does_by_itself(name: str, known: Known) -> None:
    for key, default in parameters(name).items():
        if key in known.neutral and key != "clip_sample":  # which pipelines set to false
            known.check({key: default}, Path("config.json"))


@pytest.mark.parametrize(
    ("known", "key"),
    [
        (known, key)
        for known in (SCHEDULER, UNET, CONTROLNET, VAE, TINY_VAE)
        for key in known.neutral
    ],
)
def test_every_other_value_is_refused(known: Known, key: str) -> None:
    with pytest.raises(WeightsError, match=key):
        known.check({key: "something else"}, Path("config.json"))


def test_the_tables_of_the_docs_name_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    for known in (SCHEDULER, UNET, CONTROLNET, UNION, T2I, VAE, TINY_VAE):
        for key in {*known.honoured, *known.neutral, *known.without_effect}:
            assert f"`{key}`" in text, key


def test_what_nobody_reads_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    change(folder, UNET_FILE, novelty=1)
    with caplog.at_level(logging.WARNING, logger="rerender"):
        checkpoint(folder).check(("canny",))
    assert "unet/config.json: nothing here reads novelty" in caplog.text


@pytest.mark.parametrize("name", scheduler_names())
def test_gaps_are_filled_as_the_class_that_wrote_the_file_fills_them(name: str) -> None:
    theirs, ours = parameters(name), _noising.defaults(name)
    for key in ours.keys() & theirs.keys():
        assert ours[key] == theirs[key], key


def test_defaults_of_networks_are_those_of_their_classes() -> None:
    for name, ours in (
        ("UNet2DConditionModel", _described.BACKBONE),
        ("ControlNetModel", _described.BACKBONE),
        ("ControlNetUnionModel", _described.UNION_BACKBONE),
        ("T2IAdapter", _described.T2I_ADAPTER),
        ("AutoencoderKL", _described.AUTOENCODER),
        ("AutoencoderTiny", _described.TINY_AUTOENCODER),
    ):
        theirs = parameters(name)
        for key in ours.keys() & theirs.keys():
            found = list(theirs[key]) if isinstance(theirs[key], tuple) else theirs[key]
            assert found == ours[key], key


# -- the noise schedule ---------------------------------------------------------------------------

BASE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"beta_schedule": "linear", "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"rescale_betas_zero_snr": True},
        {"rescale_betas_zero_snr": True, "beta_schedule": "linear"},
        {"trained_betas": [0.001 + 0.00001 * i for i in range(1000)]},
        {"num_train_timesteps": 500},
    ],
)
def test_the_noise_schedule_is_diffusers(keys: dict[str, Any]) -> None:
    from diffusers import DDIMScheduler

    config = _noising.checked({**BASE, **keys}, Path("scheduler_config.json"))
    ours = _noising.alphas_of(config)
    theirs = DDIMScheduler.from_config({**BASE, **keys}).alphas_cumprod
    assert torch.allclose(ours.float(), theirs, atol=2e-6)
    assert (ours > 0).all()


# -- weights under every name ---------------------------------------------------------------------


def own(folder: Path, network: str) -> Path:
    """A network's folder with weights of its own instead of a link; returns the file."""
    (file,) = (folder / network).glob("*.safetensors")
    source = file.resolve()
    file.unlink()
    shutil.copyfile(source, file)
    return file


def sharded(file: Path, variant: str = "") -> None:
    """Split weights in two, with an index."""
    weights = load_file(file)
    names, stem, extra = sorted(weights), file.name.partition(".")[0], f".{variant}" * bool(variant)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"{stem}{extra}-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, file.parent / shard, {"format": "pt"})
        index.update(dict.fromkeys(part, shard))
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": index})
    (file.parent / f"{stem}.safetensors.index{extra}.json").write_text(text)
    file.unlink()


def half_named(folder: Path) -> None:
    for network in ("text_encoder", "vae", "unet", "controlnet"):
        (file,) = (folder / network).glob("*.safetensors")
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))


def in_shards(folder: Path) -> None:
    for network in ("text_encoder", "unet", "controlnet"):
        sharded(own(folder, network))


def half_in_shards(folder: Path) -> None:
    for network in ("text_encoder", "unet"):
        sharded(own(folder, network), "fp16")


@pytest.mark.parametrize("rename", [half_named, in_shards, half_in_shards])
def test_weights_load_under_every_name(folder: Path, rename: Callable[[Path], None]) -> None:
    before = checkpoint(FOLDER).load(("canny",)).digest()
    rename(folder)
    chosen = checkpoint(folder)
    chosen.check(("canny",))
    assert chosen.fingerprint(("canny",)) is not None
    assert chosen.load(("canny",)).digest() == before


def test_the_digest_is_that_of_the_model_not_of_its_weights_alone(folder: Path) -> None:
    before = checkpoint(folder).load(("canny",)).digest()
    change(folder, SCHEDULER_FILE, rescale_betas_zero_snr=True)
    assert checkpoint(folder).load(("canny",)).digest() != before


def test_a_missing_shard_is_named(folder: Path) -> None:
    in_shards(folder)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    assert "unet/diffusion_pytorch_model-00002-of-00002.safetensors: is missing" in refusal(folder)


def test_only_pickles_are_refused(folder: Path) -> None:
    (file,) = (folder / "unet").glob("*.safetensors")
    file.rename(file.with_suffix(".bin"))
    assert "only diffusion_pytorch_model.bin (pickled weights are not opened)" in refusal(folder)


def test_several_variants_are_refused(folder: Path) -> None:
    (file,) = (folder / "unet").glob("*.safetensors")
    for variant in ("non_ema", "bf16"):
        shutil.copyfile(file, file.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    file.unlink()
    assert "several variants" in refusal(folder)
    (folder / "unet" / "diffusion_pytorch_model.bf16.safetensors").unlink()
    assert weights_of(folder / "unet", "diffusion_pytorch_model").variant == "non_ema"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a whole safetensors file"),
        (b"<!DOCTYPE html><html>", "is not a whole safetensors file (21 bytes, begins with '<!DO"),
        (b"version https://git-lfs", "begins with 'version"),
        (struct.pack("<Q", 2**63) + b"{}", "is not a whole safetensors file"),
        (struct.pack("<Q", 10**8 - 1) + b"{}", "is not a whole safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "damaged safetensors header"),
        (struct.pack("<Q", 2) + b"{]", "damaged safetensors header"),
        (struct.pack("<Q", 9) + b'{"a": {}}', "damaged safetensors header"),
        (struct.pack("<Q", 2) + b"{}" + b"more", "is cut off or damaged"),
    ],
)
def test_damaged_weights_are_named(folder: Path, content: bytes, says: str) -> None:
    file = own(folder, "unet")
    file.write_bytes(content)
    message = refusal(folder)
    assert message.startswith(str(file)) and says in message


def test_weights_that_are_cut_off_are_named(folder: Path) -> None:
    file = own(folder, "vae")
    file.write_bytes(file.read_bytes()[:-100])
    assert f"{file}: is cut off" in refusal(folder)
    with pytest.raises(WeightsError, match="is cut off"):
        header(file)


def test_weights_that_are_no_numbers_are_named_by_tensor(folder: Path) -> None:
    file = own(folder, "vae")
    weights = load_file(file)
    weights["encoder.conv_in.bias"][0] = float("nan")
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"safetensors: tensor encoder\.conv_in\.bias holds NaN"):
        checkpoint(folder).load(("canny",))


def test_a_file_that_is_none(folder: Path, tmp_path: Path) -> None:
    single = tmp_path / "model.safetensors"
    single.write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"is not a whole safetensors file"):
        Pretrained(str(single)).check(())
    assert "is not a whole safetensors file" in refusal(folder, vae=str(single))


def test_names_in_other_scripts(folder: Path) -> None:
    other = folder.with_name("模型 é")
    folder.rename(other)
    checkpoint(other).check(("canny",))
    change(other, UNET_FILE, in_channels=9)
    assert "模型 é/unet/config.json" in refusal(other)


def test_a_control_without_a_net_is_a_mistake_of_the_configuration(folder: Path) -> None:
    with pytest.raises(ConfigError, match="no ControlNet for 'hed'"):
        checkpoint(folder).check(("hed",))


def test_a_bom_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('\ufeff{"a": 1}', encoding="utf-8")
    assert read(tmp_path / "config.json") == {"a": 1}
