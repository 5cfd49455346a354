"""A closed-form start for the autoencoder: principal components of 8x8 blocks.

A small autoencoder trained from a random start spends most of a CPU hour on luminance. The best
linear code of the demo world is known in closed form instead, so the encoder's skeleton (its
skip connections and stride-2 convolutions) is set to compute it, one 2x2 step at a time, and is
kept; only the decoder is trained. Residual branches start at zero. Group normalisation would
remove the mean and contrast of a whole image: in the two last ones, "pilot" channels of constant
plus and minus ``PILOT`` hold its statistics almost fixed, and a bias keeps SiLU in its linear part.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from training.components import LATENT, WIDTHS

PILOT, LIFT = 12.0, 6.0
_PILOTS = 2  # channels of each sign in every group
_POSTERIOR = -9.0  # log-variance of the code's noise: practically none


@torch.no_grad()
def fit(model: AutoencoderKL, frames: Tensor) -> None:
    """Set the encoder to the principal components of ``frames`` and the decoder to their means.

    Args:
        model: untrained, of ``components.autoencoder``.
        frames: ``[N,3,H,W]`` in -1..1, sides divisible by 8; a few hundred of every style.
    """
    for module in model.modules():
        if type(module).__name__ == "ResnetBlock2D":
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    features = _fit_skeleton(model, frames)
    _fit_code(model, features)
    _fit_decoder(model, frames)
    model.register_to_config(scaling_factor=1.0)


def _fit_skeleton(model: AutoencoderKL, frames: Tensor) -> Tensor:
    """Image -> 2x2 -> 4x4 -> 8x8 components along the skip connections; returns the last ones."""
    encoder = model.encoder
    _only(encoder.conv_in, torch.eye(3), bias=-frames.mean((0, 2, 3)))
    features = frames - frames.mean((0, 2, 3))[:, None, None]
    for level, width in enumerate(WIDTHS[:-1]):
        block = encoder.down_blocks[level]
        if level:
            _only(block.resnets[0].conv_shortcut, torch.eye(features.shape[1]))
        features, basis = _components(features, width)
        conv = block.downsamplers[0].conv
        _only(conv, torch.zeros(0, 0))
        kernel = basis.T.reshape(basis.shape[1], -1, 2, 2)
        conv.weight[: kernel.shape[0], : kernel.shape[1], :2, :2] = kernel
    return features


def _components(features: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The leading ``most`` components of every 2x2 block, and their basis ``[4C,K]``."""
    blocks = torch.nn.functional.pixel_unshuffle(features, 2)
    flat = blocks.transpose(0, 1).flatten(1)
    basis = torch.linalg.eigh(flat @ flat.T / flat.shape[1]).eigenvectors.flip(1)[:, :most]
    return torch.einsum("nchw,ck->nkhw", blocks, basis), basis


def _fit_code(model: AutoencoderKL, features: Tensor) -> None:
    """Whiten, pass the last normalisation and SiLU in their linear range, and scale the code.

    A component of standard deviation s gets s**0.5 in the code: neither drowned in the
    diffusion's noise nor blown up to the weight of the first; the whole code has unit power.
    """
    encoder = model.encoder
    deviation = features.transpose(0, 1).flatten(1).std(1)
    slots = _slots(WIDTHS[-1], len(deviation))
    shortcut = encoder.down_blocks[-1].resnets[0].conv_shortcut
    _only(shortcut, torch.zeros(0, 0))
    for slot, source in zip(slots, range(len(deviation)), strict=True):
        shortcut.weight[slot, source] = 1 / deviation[source]
    _set_pilots(shortcut.bias)
    _linear_norm(encoder.conv_norm_out, len(slots))
    root = deviation[:LATENT].sqrt()
    code = root / root.square().mean().sqrt()
    _only(encoder.conv_out, torch.zeros(0, 0))
    centre = encoder.conv_out.weight[:, :, 1, 1]
    for channel, slot in enumerate(slots[:LATENT]):
        centre[channel, slot] = code[channel]
        encoder.conv_out.bias[channel] = -code[channel] * LIFT
    encoder.conv_out.bias[LATENT:] = _POSTERIOR
    _only(model.quant_conv, torch.eye(2 * LATENT))
    _only(model.post_quant_conv, torch.eye(LATENT))


def _fit_decoder(model: AutoencoderKL, frames: Tensor) -> None:
    """Start the decoder as "every block its mean colour", carried in its first three channels."""
    decoder = model.decoder
    code = model.encode(frames[:64]).latent_dist.mean.transpose(0, 1).flatten(1)
    means = torch.nn.functional.avg_pool2d(frames[:64], 8).transpose(0, 1).flatten(1)
    inputs = torch.cat([code, torch.ones_like(code[:1])]).T
    colour = torch.linalg.lstsq(inputs, means.T).solution.T
    _first(decoder.conv_in, colour[:, :-1], colour[:, -1])
    for block in decoder.up_blocks:
        shortcut = block.resnets[0].conv_shortcut
        if shortcut is not None and block is not decoder.up_blocks[-1]:
            _first(shortcut, torch.eye(3))
        for upsampler in block.upsamplers or ():
            _first(upsampler.conv, torch.eye(3))
    last = decoder.up_blocks[-1].resnets[0].conv_shortcut
    slots = _slots(WIDTHS[0], WIDTHS[0] - 4 * _PILOTS)
    for row in range(WIDTHS[0]):
        last.weight[row] = last.weight[row] * float(row in slots)
    for channel, slot in enumerate(slots[:3]):
        last.weight[slot] = 0
        last.weight[slot, channel] = 1
    last.bias.zero_()
    _set_pilots(last.bias)
    _linear_norm(decoder.conv_norm_out, len(slots))
    decoder.conv_out.weight.mul_(0.1)
    decoder.conv_out.bias.zero_()
    for channel, slot in enumerate(slots[:3]):
        decoder.conv_out.weight[channel, slot] = 0
        decoder.conv_out.weight[channel, slot, 1, 1] = 1
    decoder.conv_out.bias -= decoder.conv_out.weight.sum((1, 2, 3)) * LIFT


def _only(conv: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None) -> None:
    """Make a convolution this matrix at its centre on the leading channels, zero elsewhere."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    _write(conv, matrix, bias)


def _first(conv: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None) -> None:
    """Make the leading output channels this matrix of the leading inputs; leave the others."""
    conv.weight[: matrix.shape[0]] = 0
    _write(conv, matrix, bias)


def _write(conv: nn.Conv2d, matrix: Tensor, bias: Tensor | None) -> None:
    middle = conv.kernel_size[0] // 2
    conv.weight[: matrix.shape[0], : matrix.shape[1], middle, middle] = matrix
    if bias is not None and conv.bias is not None:
        conv.bias[: len(bias)] = bias


def _slots(width: int, wanted: int) -> list[int]:
    """Channels that carry data when each of two groups ends in its pilots, dealt alternately."""
    half = width // 2
    free = [[group * half + i for i in range(half - 2 * _PILOTS)] for group in range(2)]
    return [slot for pair in zip(*free, strict=True) for slot in pair][:wanted]


def _set_pilots(bias: Tensor) -> None:
    for group in bias.view(2, -1):
        group[-2 * _PILOTS : -_PILOTS] = PILOT
        group[-_PILOTS:] = -PILOT


def _linear_norm(norm: nn.GroupNorm, slots: int) -> None:
    """Undo the deviation that pilots and unit-power data give a group, and lift by ``LIFT``."""
    width = norm.num_channels / 2
    deviation = ((2 * _PILOTS * PILOT**2 + slots / 2) / width) ** 0.5
    nn.init.constant_(norm.weight, deviation)
    nn.init.constant_(norm.bias, LIFT)
