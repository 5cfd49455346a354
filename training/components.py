"""The demo model's parts, untrained: the stock classes of Stable Diffusion 1.5, made small.

Needs transformers and diffusers; nothing is downloaded. Word-per-token tokenizer, 8x autoencoder
with 12 latent channels, three-level UNet with attention at the two upper levels, its ControlNet,
a CLIP and a residual network.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    ResNetConfig,
    ResNetForImageClassification,
)

from rerender.demo import captions

TOKENS = 24
LATENT = 12
WIDTHS = (16, 32, 64, 96)  # of the autoencoder, from pixels to latents
_TEXT = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": TOKENS,
    "projection_dim": 64,
}
_VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 128,
    "patch_size": 16,
    "projection_dim": 64,
}


def tokenizer() -> CLIPTokenizer:
    """Byte-level tokenizer in which every word of the demo world is one token."""
    merges, whole = _merges([(*word[:-1], f"{word[-1]}</w>") for word in captions.words()])
    letters = sorted(ByteLevel.alphabet())
    symbols = ["<|startoftext|>", "!", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    # The end token must not be number 2: transformers reads that as "an old file, take argmax".
    symbols = list(dict.fromkeys([*letters, *symbols, *whole]))
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _merges(words: list[tuple[str, ...]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Byte-pair encoding of a word list, until every word is one symbol."""
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in words):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        best = max(sorted(pairs), key=pairs.__getitem__)
        merges.append(best)
        words = [_merged(word, best) for word in words]
    return merges, [first + second for first, second in merges]


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def _special(words: CLIPTokenizer) -> dict[str, int]:
    return {
        "vocab_size": len(words),
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of width 128."""
    return CLIPTextModel(CLIPTextConfig(**_TEXT, **_special(words)))


def clip(words: CLIPTokenizer) -> CLIPModel:
    """Image tower 4 layers, text tower 2 layers, width 128, joint space of 64."""
    return CLIPModel(CLIPConfig(text_config={**_TEXT, **_special(words)}, vision_config=_VISION))


def clip_images() -> CLIPImageProcessor:
    """How frames become CLIP's input: 128 pixels, CLIP's published mean and deviation."""
    side = _VISION["image_size"]
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size=side)


def autoencoder() -> AutoencoderKL:
    """Eight-fold reduction to 12 channels; two normalisation groups, no attention."""
    return AutoencoderKL(
        block_out_channels=WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS),
        up_block_types=("UpDecoderBlock2D",) * len(WIDTHS),
        layers_per_block=1,
        latent_channels=LATENT,
        norm_num_groups=2,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        sample_size=128,
    )


def unet() -> UNet2DConditionModel:
    """Three levels; self- and cross-attention at 1/8 and 1/16 of the frame and in the middle."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT,
        out_channels=LATENT,
        block_out_channels=(48, 96, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=_TEXT["hidden_size"],
        attention_head_dim=4,
        norm_num_groups=16,
    )


def controlnet(of: UNet2DConditionModel) -> ControlNetModel:
    """The trainable copy of the UNet's encoder that reads an edge map."""
    return ControlNetModel.from_unet(
        of, conditioning_embedding_out_channels=(8, 16, 32, 64), load_weights_from_unet=False
    )


def scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.5's schedule, with v-prediction (it learns faster from nothing)."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type="v_prediction",
    )


def backbone(words: tuple[str, ...]) -> ResNetForImageClassification:
    """Four-stage residual network that names the words of a frame: features for lpips_demo."""
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 64, 96],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(words)),
            problem_type="multi_label_classification",
        )
    )
