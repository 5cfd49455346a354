"""A random model of the right shape, built in code: for tests and dry runs, not for pictures."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rerender.contracts import Checkpoint

WIDTHS = (16, 32, 32)


@dataclass(frozen=True)
class Tiny(Checkpoint):
    """Stable Diffusion 1.5 with ControlNets in miniature, with random weights.

    Attributes:
        seed: seed of the weights.
        recommended: values that other keys of the configuration take by default.
    """

    seed: int = 0
    recommended: Mapping[str, float] = field(default_factory=dict)

    def check(self, controls: Sequence[str]) -> None:
        """Nothing to find, nothing to refuse."""

    def fingerprint(self, controls: Sequence[str], digest: object = None) -> str:
        """The seed and the number of ControlNets decide all weights."""
        return f"{self.seed}, {len(controls)}"

    def load(self, controls: Sequence[str]) -> Any:
        """A ``StableDiffusion`` on the CPU in float32; images must be multiples of 8."""
        import torch

        from rerender.model.diffusion import StableDiffusion

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return StableDiffusion(components(len(controls)))


def components(controlnets: int) -> Any:
    """Fresh random networks, drawn from torch's global generator."""
    import diffusers
    import transformers

    from rerender.model._components import Components

    tokenizer = _tokenizer(transformers)
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    unet = diffusers.UNet2DConditionModel(
        **_backbone(),
        out_channels=4,
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )
    nets = tuple(_controlnet(diffusers) for _ in range(controlnets))
    return Components(
        tokenizers=(tokenizer,),
        text_encoders=(transformers.CLIPTextModel(text),),
        vae=_vae(diffusers),
        unet=unet,
        controlnets=nets,
        scheduler=SCHEDULER,
    )


SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "prediction_type": "epsilon",
}


def _backbone() -> dict[str, Any]:
    return {
        "in_channels": 4,
        "block_out_channels": WIDTHS,
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }


def _controlnet(diffusers: Any) -> Any:
    """A ControlNet whose zero convolutions are not zero, so that control has an effect."""
    import torch

    net = diffusers.ControlNetModel(**_backbone(), conditioning_embedding_out_channels=(8, 16))
    for block in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        torch.nn.init.normal_(block.weight, std=0.2)
    torch.nn.init.normal_(net.controlnet_cond_embedding.conv_out.weight, std=0.2)
    return net


def _vae(diffusers: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=1.0,
    )


def _tokenizer(transformers: Any) -> Any:
    """A tokenizer that spells: one token for each printable character."""
    words = ["<|startoftext|>", "<|endoftext|>"]
    letters = sorted(set(string.printable.lower()) - set(string.whitespace))
    words += [letter + end for letter in letters for end in ("", "</w>")]
    vocabulary = {word: index for index, word in enumerate(words)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32)
