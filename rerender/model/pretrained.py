"""Checkpoints in the folder layout of diffusers: on disk, or by hub id where it is reachable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rerender.contracts import Checkpoint
from rerender.errors import ConfigError, WeightsError
from rerender.kinds import Device, HubModel
from rerender.model.freeu import FreeU
from rerender.video import sha256_file, sha256_of

if TYPE_CHECKING:
    import torch

    from rerender.contracts import Model

MANIFEST = "SHA256SUMS"
ROOT = Path(__file__).resolve().parents[2]
NETWORKS = ("text_encoder", "vae", "unet")
_READ = (".json", ".txt", ".safetensors")


@dataclass(frozen=True)
class Pretrained(Checkpoint):
    """A Stable Diffusion 1.5-family checkpoint with ControlNets.

    Attributes:
        path: folder in diffusers layout, or a hub id such as ``owner/name``. A relative folder is
            looked for in the working directory, then in the project.
        controlnets: folder or hub id of the ControlNet for each control name; relative folders
            are looked for inside ``path`` first.
        vae: another autoencoder (folder or hub id); None takes the checkpoint's own.
        dtype: what the networks compute in; auto is float32 on the CPU, float16 elsewhere.
        device: auto takes the first GPU where there is one.
        freeu: FreeU strengths; None leaves the network as it is.
        suits: values that suit it, which other keys of the configuration take by default:
            size, guidance, and low, high and blur of Canny edges.
    """

    path: HubModel
    controlnets: Mapping[str, HubModel] = field(default_factory=dict)
    vae: HubModel | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Device = "auto"
    freeu: FreeU | None = None
    suits: Mapping[str, float] = field(default_factory=dict)

    def check(self, controls: Sequence[str]) -> None:
        """Refuse what is missing or damaged on disk.

        Raises:
            ConfigError: a control has no ControlNet in ``model.controlnets``.
            WeightsError: a folder or file is missing, or differs from its manifest.
        """
        for control in controls:
            if control not in self.controlnets:
                raise ConfigError(
                    "control",
                    f"this model has no ControlNet for {control!r}, "
                    f"only for {', '.join(self.controlnets) or 'none'}",
                    "choose another control or add it to model.controlnets",
                )
        base = _local(self.path)
        if base is not None:
            _check_files(base, ["model_index.json", "tokenizer", "scheduler"])
            _check_manifest(base)
            for name in NETWORKS:
                if name != "vae" or self.vae is None:
                    _check_network(base / name)
        for source in self._nets(controls):
            folder = _local(source)
            if folder is not None:
                _check_network(folder)

    def fingerprint(self, controls: Sequence[str]) -> str | None:
        """A hash of all files on disk; None where one of the networks is named by a hub id."""
        sources = [self.path, *([self.vae] if self.vae else []), *self._nets(controls)]
        folders = [_local(source) for source in sources]
        if None in folders:
            return None
        return sha256_of(*(_content(folder).encode() for folder in folders if folder))

    def load(self, controls: Sequence[str]) -> Model:
        """Read all networks from safetensors files; pickles are never opened.

        Raises:
            WeightsError: a file is unreadable, of another architecture, or not finite.
        """
        from rerender.model.diffusion import Components, StableDiffusion

        base = _source(self.path)
        diffusers, transformers = _libraries()
        text = transformers.CLIPTextModel
        autoencoder = diffusers.AutoencoderKL
        vae = (autoencoder, _source(self.vae), None) if self.vae else (autoencoder, base, "vae")
        parts = Components(
            tokenizer=_plain(transformers.CLIPTokenizer.from_pretrained, base, "tokenizer"),
            scheduler=dict(_plain(diffusers.DDIMScheduler.load_config, base, "scheduler")),
            text_encoder=_network(text, base, "text_encoder"),
            vae=_network(*vae),
            unet=_network(diffusers.UNet2DConditionModel, base, "unet"),
            controlnets=tuple(
                _network(diffusers.ControlNetModel, _source(source), None)
                for source in self._nets(controls)
            ),
        )
        device = self._device()
        return StableDiffusion(parts, device, self._dtype(device), self.freeu)

    def _nets(self, controls: Sequence[str]) -> list[str]:
        base = _local(self.path)
        nets = [self.controlnets[control] for control in controls]
        if base is None:
            return nets
        return [str(base / net) if (base / net).is_dir() else net for net in nets]

    def _device(self) -> torch.device:
        import torch

        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                "model.device", f"cannot compute on {self.device!r} ({error})", "use cpu or auto"
            ) from None
        return device

    def _dtype(self, device: torch.device) -> torch.dtype:
        import torch

        if self.dtype == "auto":
            return torch.float32 if device.type == "cpu" else torch.float16
        chosen: torch.dtype = getattr(torch, self.dtype)
        return chosen


def _local(path: str) -> Path | None:
    """The folder that a path names, or None where it is a hub id.

    Raises:
        WeightsError: it looks like a folder but there is none.
    """
    for candidate in (Path(path).expanduser(), ROOT / path):
        if candidate.is_dir():
            return candidate
    if path.startswith(("/", ".", "~")) or path.count("/") != 1 or Path(path).is_file():
        raise WeightsError(
            path,
            "no such folder of model weights",
            "give a folder in diffusers layout, or a hub id such as owner/name",
        )
    return None


def _content(folder: Path) -> str:
    """A hash of the files of a checkpoint's folder, names and contents."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in _READ and file.is_file():
            found.update(f"{file.relative_to(folder).as_posix()}\0{sha256_file(file)}\0".encode())
    return found.hexdigest()


def _source(path: str) -> str:
    return str(_local(path) or path)


def _check_files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if not (folder / name).exists():
            raise WeightsError(
                folder / name,
                "is missing from the checkpoint",
                "download or copy the folder again, complete",
            )


def _check_network(folder: Path) -> None:
    """A network's folder holds its configuration and weights in safetensors format."""
    _check_files(folder, ["config.json"])
    if not any(folder.glob("*.safetensors")):
        raise WeightsError(
            folder,
            "holds no .safetensors file (pickled weights are not opened)",
            "convert the weights to safetensors",
        )


def _check_manifest(folder: Path) -> None:
    """Compare every file with the folder's list of sha256 sums, where it has one."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return
    for line in manifest.read_text().splitlines():
        expected, _, name = line.partition("  ")
        _check_files(folder, [name])
        found = sha256_file(folder / name)
        if found != expected:
            raise WeightsError(
                folder / name,
                f"sha256 is {found[:12]}, the manifest says {expected[:12]}",
                "the file is damaged: restore it",
            )


def _libraries() -> tuple[Any, Any]:
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers, transformers


def _where(source: str, subfolder: str | None) -> str:
    return f"{source}/{subfolder}" if subfolder else source


def _plain(read: Any, source: str, subfolder: str) -> Any:
    """A tokenizer or configuration, with errors that name its folder."""
    try:
        return read(source, subfolder=subfolder)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise _unreadable(source, subfolder, error) from error


def _network(kind: Any, source: str, subfolder: str | None) -> Any:
    """One network with finite weights that fill it completely."""
    place = {"subfolder": subfolder} if subfolder else {}
    try:
        network, report = kind.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, **place
        )
    except Exception as error:  # the libraries raise a dozen kinds and never name the file
        raise _unreadable(source, subfolder, error) from error
    missing = sorted(report["missing_keys"])
    if missing:
        total = len(network.state_dict())
        raise WeightsError(
            _where(source, subfolder),
            f"matches {total - len(missing)} of {total} tensors (first missing: {missing[0]})",
            f"it is not a {kind.__name__} checkpoint of this architecture",
        )
    _check_finite(network, _where(source, subfolder))
    return network


def _check_finite(network: Any, where: str) -> None:
    for name, weight in network.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise WeightsError(where, f"tensor {name} holds NaN or infinity", "restore the file")


def _unreadable(source: str, subfolder: str | None, error: Exception) -> WeightsError:
    reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
    return WeightsError(
        _where(source, subfolder),
        f"cannot be read ({reason})",
        "check the folder; where no hub is reachable, give a local one",
    )
