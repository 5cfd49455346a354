"""From high dynamic range and wide gamuts to BT.709, by one stated rule.

PQ (SMPTE ST 2084) and HLG (ARIB STD-B67, shown on a display of 1000 cd/m2 with the system gamma
1.2) become light in units of 203 cd/m2, the reference white of ITU-R BT.2408. Primaries become
those of BT.709; what lies outside is clipped. The largest of the three channels then goes through a
curve that keeps light up to 0.5 and rolls off to 1 at 1000 cd/m2, the others in proportion, so that
hues stay; reference white comes out at 0.76, as a signal 0.89. The signal is the inverse of
BT.1886.

Standard range with the primaries of BT.2020 or P3 only changes primaries, in BT.1886's light: greys
stay as they are. Other primaries (those of 601 differ by a few levels) are taken as BT.709.
"""

from __future__ import annotations

import torch
from torch import Tensor

PQ, HLG = 16, 18  # H.273 TransferCharacteristics
_GAMMA = 2.4  # BT.1886
_WHITE, _PEAK = 203.0, 1000.0  # cd/m2
_KNEE = 0.5
# Rows take linear light to that of BT.709: from BT.2020 (ITU-R BT.2407) and P3 (SMPTE RP 431-2 and
# EG 432-1), by H.273 number.
_BT2020 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
_P3_D65 = ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979))
_P3_DCI = ((1.1575, -0.1550, -0.0025), (-0.0415, 1.0456, -0.0042), (-0.0180, -0.0786, 1.0966))
_PRIMARIES = {9: ("BT.2020", _BT2020), 11: ("DCI-P3", _P3_DCI), 12: ("Display P3", _P3_D65)}
_UNTAGGED = 2


def said(transfer: int, primaries: int) -> str | None:
    """What of a video's colours is changed in reading, in words; None where nothing is.

    Args:
        transfer: H.273 number of the transfer curve.
        primaries: H.273 number of the primaries.
    """
    if transfer in (PQ, HLG):
        name = "PQ" if transfer == PQ else "HLG"
        return f"its high dynamic range ({name}) is tone-mapped to BT.709"
    if primaries in _PRIMARIES:
        return f"its wide gamut ({_PRIMARIES[primaries][0]}) is brought to BT.709"
    return None


def to_bt709(image: Tensor, transfer: int, primaries: int) -> Tensor:
    """A signal ``[3,H,W]`` in 0..1 with the curve and primaries of its tags as one of BT.709."""
    if said(transfer, primaries) is None:
        return image
    if transfer in (PQ, HLG) and primaries == _UNTAGGED:
        primaries = 9
    light = _light(image, transfer)
    if primaries in _PRIMARIES:
        rows = torch.tensor(_PRIMARIES[primaries][1], dtype=torch.float64)
        rows = (rows / rows.sum(1, keepdim=True)).float()  # rounded: white stays white exactly
        light = (rows @ light.reshape(3, -1)).reshape(light.shape)
    light = light.clamp_(min=0)
    if transfer in (PQ, HLG):
        light = _rolled_off(light)
    return light.clamp_(max=1) ** (1 / _GAMMA)


def _light(image: Tensor, transfer: int) -> Tensor:
    """Light shown, 1 being the white of standard range or the reference white of high range."""
    if transfer == PQ:
        m1, m2 = 2610 / 16384, 2523 / 32
        c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
        power = image ** (1 / m2)
        return ((power - c1).clamp(min=0) / (c2 - c3 * power)) ** (1 / m1) * (10_000 / _WHITE)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = torch.where(image <= 0.5, image**2 / 3, (((image - c) / a).exp() + b) / 12)
        luminance = torch.tensor([0.2627, 0.6780, 0.0593]) @ scene.reshape(3, -1)
        return scene * luminance.reshape(scene.shape[1:]) ** 0.2 * (_PEAK / _WHITE)
    return image**_GAMMA


def _rolled_off(light: Tensor) -> Tensor:
    """Highlights compressed: identity up to the knee, then Reinhard's curve to 1 at the peak."""
    most = light.amax(0, keepdim=True)
    over = (most - _KNEE) / (1 - _KNEE)
    peak = (_PEAK / _WHITE - _KNEE) / (1 - _KNEE)
    curve = _KNEE + (1 - _KNEE) * over * (1 + over / peak**2) / (1 + over)
    return torch.where(most > _KNEE, light * (curve / most.clamp(min=_KNEE)), light)
