"""Every key of a checkpoint's configuration files: honoured, refused, or without effect here.

diffusers ignores what a class does not know, and a scheduler that takes another one's place ignores
half of that one's settings. A key that changes the result is never ignored here:
docs/checkpoints.md has the same tables in words, and a test walks all keys of the libraries.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerender.errors import WeightsError

log = logging.getLogger(__name__)

_BOOKKEEPING = ("_class_name", "_diffusers_version", "_name_or_path", "_use_default_values")


@dataclass(frozen=True)
class Known:
    """What is known of the keys of one kind of configuration file.

    Attributes:
        honoured: read by us, or by the class of diffusers that is built from the file.
        neutral: refused unless it has one of these values; a key that is not there is neutral.
        without_effect: nothing that is computed here depends on it.
        kinds: for messages, what a value that is not neutral stands for.
    """

    honoured: frozenset[str]
    neutral: Mapping[str, tuple[Any, ...]]
    without_effect: frozenset[str]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def check(self, config: Mapping[str, Any], file: Path) -> None:
        """Refuse what would change the result and is not honoured; warn of what nobody knows.

        Raises:
            WeightsError: a key has a value that is not neutral.
        """
        for key, allowed in self.neutral.items():
            if key in config and not any(_same(config[key], value) for value in allowed):
                what = self.kinds.get(key)
                reason = f" ({what})" if what else ""
                raise WeightsError(
                    file,
                    f"{key} must be {_spelled(allowed[0])}, which is all that is supported here, "
                    f"received {_spelled(config[key])}{reason}",
                    "take another checkpoint, or one converted so that it does not need this key"
                    if what
                    else f"set {key} to {_spelled(allowed[0])} in that file, or take another "
                    "checkpoint",
                )
        known = {*self.honoured, *self.neutral, *self.without_effect, *_BOOKKEEPING}
        unknown = sorted(str(key) for key in config if key not in known)
        if unknown:
            log.warning("%s: nothing here reads %s", file, ", ".join(unknown)[:300])


def _same(found: Any, wanted: Any) -> bool:
    """Equality that tells true from 1, and takes lists for tuples."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return list(found) == list(wanted)
    return bool(found == wanted)


def _spelled(value: Any) -> str:
    """A value as JSON spells it, shortened."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"{value!r}"[:80].replace("'", '"')


def _set(names: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(names.split())


NO_LIMIT = (-math.inf, None)

SCHEDULER = Known(
    honoured=_set(
        "num_train_timesteps beta_start beta_end beta_schedule trained_betas prediction_type "
        "timestep_spacing steps_offset set_alpha_to_one rescale_betas_zero_snr "
        "final_sigmas_type"
    ),
    neutral={
        "clip_sample": (False,),
        "thresholding": (False,),
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
        "use_karras_sigmas": (False, None),
        "use_exponential_sigmas": (False, None),
        "use_beta_sigmas": (False, None),
        "use_lu_lambdas": (False, None),
        "use_flow_sigmas": (False, None),
        "use_dynamic_shifting": (False, None),
        "shift_terminal": (None,),
        "sigma_min": (None,),
        "sigma_max": (None,),
        "lambda_min_clipped": NO_LIMIT,
        "timestep_scaling": (10.0,),
        "variance_type": (
            None,
            "fixed_small",
            "fixed_small_log",
            "fixed_large",
            "fixed_large_log",
        ),
    },
    # Of the solver that `sampler` puts in the place of the checkpoint's own, or of a mode above
    # that is refused.
    without_effect=_set(
        "skip_prk_steps solver_order solver_type solver_p algorithm_type lower_order_final "
        "euler_at_final predict_x0 disable_corrector predictor_order corrector_order tau_func "
        "original_inference_steps clip_sample_range sample_max_value dynamic_thresholding_ratio "
        "flow_shift time_shift_type"
    ),
    kinds={"use_flow_sigmas": "a flow-matching model", "variance_type": "a learned variance"},
)

_BLOCKS = _set(
    "in_channels block_out_channels layers_per_block down_block_types downsample_padding "
    "mid_block_scale_factor act_fn norm_num_groups norm_eps cross_attention_dim "
    "transformer_layers_per_block attention_head_dim use_linear_projection flip_sin_to_cos "
    "freq_shift resnet_time_scale_shift addition_time_embed_dim "
    "projection_class_embeddings_input_dim"
)
_EMBEDDINGS: Mapping[str, tuple[Any, ...]] = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "addition_embed_type": (None, "text_time"),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,),
    "only_cross_attention": (False,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
}
_KINDS = {
    "class_embed_type": "embeddings of a class, as in unCLIP and upscalers",
    "num_class_embeds": "embeddings of a class, as in upscalers",
    "addition_embed_type": "additional embeddings, as in Kandinsky",
    "encoder_hid_dim": "a projection of the prompt or an image, as in Kandinsky",
    "encoder_hid_dim_type": "a projection of the prompt or an image, as in Kandinsky",
    "only_cross_attention": "no self-attention, as in upscalers",
    "mid_block_type": "another architecture",
}
_UNUSED_EMBEDDINGS = _set(
    # Sizes of the embeddings that are refused; fused attention takes no account of upcasting.
    "addition_embed_type_num_heads upcast_attention"
)

UNET = Known(
    honoured=_BLOCKS
    | _set(
        "out_channels up_block_types center_input_sample reverse_transformer_layers_per_block "
        "resnet_skip_time_act resnet_out_scale_factor time_embedding_type time_embedding_dim "
        "time_embedding_act_fn timestep_post_act conv_in_kernel conv_out_kernel time_cond_proj_dim"
    ),
    neutral={
        **_EMBEDDINGS,
        "dual_cross_attention": (False,),
        "attention_type": ("default",),
        "cross_attention_norm": (None,),
        "mid_block_only_cross_attention": (None, False),
        "class_embeddings_concat": (False,),
    },
    without_effect=_UNUSED_EMBEDDINGS | frozenset(("sample_size", "dropout")),
    kinds={
        **_KINDS,
        "dual_cross_attention": "two texts at once, as in Versatile Diffusion",
        "attention_type": "grounded boxes, as in GLIGEN",
        "cross_attention_norm": "another architecture",
        "mid_block_only_cross_attention": "another architecture",
        "class_embeddings_concat": "embeddings of a class",
    },
)

CONTROLNET = Known(
    honoured=_BLOCKS | frozenset(("conditioning_embedding_out_channels",)),
    neutral={
        **_EMBEDDINGS,
        "conditioning_channels": (3,),
        "controlnet_conditioning_channel_order": ("rgb",),
        "global_pool_conditions": (False,),
    },
    without_effect=_UNUSED_EMBEDDINGS,
    kinds={
        **_KINDS,
        "conditioning_channels": "a control that is no RGB picture",
        "controlnet_conditioning_channel_order": "a control in another order of colours",
        "global_pool_conditions": "control by a whole picture, as in ControlNet shuffle",
    },
)

UNION = Known(
    honoured=CONTROLNET.honoured
    | _set("num_control_type num_trans_channel num_trans_head num_trans_layer num_proj_channel"),
    neutral=CONTROLNET.neutral,
    without_effect=CONTROLNET.without_effect,
    kinds=CONTROLNET.kinds,
)

T2I = Known(
    honoured=_set("in_channels channels num_res_blocks downscale_factor adapter_type"),
    neutral={},
    without_effect=frozenset(),
)

VAE = Known(
    honoured=_set(
        "block_out_channels down_block_types up_block_types layers_per_block act_fn "
        "latent_channels norm_num_groups scaling_factor shift_factor use_quant_conv "
        "use_post_quant_conv mid_block_add_attention force_upcast"
    ),
    neutral={
        "in_channels": (3,),
        "out_channels": (3,),
        "latents_mean": (None,),
        "latents_std": (None,),
    },
    # Stable Diffusion XL's autoencoder computes in float32 where float16 is asked for and this says
    # so; the pipelines of Stable Diffusion 1 and 2 take no account of it.
    without_effect=frozenset(("sample_size",)),
    kinds={
        "in_channels": "an autoencoder of something else than RGB pictures",
        "out_channels": "an autoencoder of something else than RGB pictures",
        "latents_mean": "latents normalised channel by channel",
        "latents_std": "latents normalised channel by channel",
    },
)

TINY_VAE = Known(
    honoured=_set(
        "encoder_block_out_channels decoder_block_out_channels act_fn upsample_fn latent_channels "
        "upsampling_scaling_factor num_encoder_blocks num_decoder_blocks latent_magnitude "
        "latent_shift scaling_factor shift_factor force_upcast block_out_channels"
    ),
    neutral={"in_channels": (3,), "out_channels": (3,)},
    without_effect=frozenset(),
    kinds={
        "in_channels": "an autoencoder of something else than RGB pictures",
        "out_channels": "an autoencoder of something else than RGB pictures",
    },
)
