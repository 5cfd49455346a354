"""Which networks judge a run: those of the demo world know nothing else.

The default and the experiments name the small CLIP and backbone of the demo world. Where clips or
model are others, the public networks that they stand for take their place: a run whose weights are
not on the machine says n/a and how to get them, and never a number that means nothing. Metrics that
the command line names are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf, open_dict

from rerender.config.paths import CONF

PUBLIC = {
    "clip_demo": "clip",
    "lpips_demo": "lpips",
    "diversity_demo": "diversity",
}
"""Choice of metrics judged by a network of the demo world: the choice that it stands for."""

_WORLD = "rerender.data.demo.Demo"
_MODELS = ("demo", "demo_natural", "tiny")


def judged(composed: DictConfig, said: Sequence[str]) -> DictConfig:
    """A configuration with the judges that fit its clips and its model.

    Args:
        composed: as Hydra composed it; it is changed.
        said: the arguments that it was composed from.
    """
    if any(line.lstrip("+~").startswith("metrics") for line in said):
        return composed
    data = OmegaConf.select(composed, "data._target_")
    if data == _WORLD and composed.hydra.runtime.choices.get("model") in _MODELS:
        return composed
    metrics = composed.get("metrics")
    for demo, public in PUBLIC.items():
        theirs = OmegaConf.load(CONF / "metrics" / f"{demo}.yaml")
        found = [key for key in metrics or () if key in theirs]
        if not found:
            continue
        instead = OmegaConf.load(CONF / "metrics" / f"{public}.yaml")
        assert isinstance(instead, DictConfig)
        ordered = OmegaConf.create({})
        for key in metrics:
            if key == found[0]:
                ordered.merge_with({k: v for k, v in instead.items() if k not in metrics})
            if key not in found:
                ordered[key] = metrics[key]
        metrics = ordered
    with open_dict(composed):
        composed.metrics = metrics
    return composed
