"""Prompts: a file of them, one a line, and what the text encoder makes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ptqbench.errors import UserError
from ptqbench.roles.model import COND, Conditions
from ptqbench_diffusers.encoders import FAMILIES, Arguments, Encoder
from ptqbench_diffusers.layout import CONFIG, T5, PipelineFolder, Text
from ptqbench_diffusers.networks import prepared

KEPT = 2**30
"""Bytes of encoded prompts that are kept, the latest: 4,500 of Stable Diffusion's, 130 of Flux'. Encoding one anew takes less
than a denoising step."""


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompts in a text file, one a line, empty lines left out. Raises `UserError` if there are none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UserError(f"model.prompts: cannot read {path}: {reason}", "name a text file with one prompt a line") from error
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise UserError(f"model.prompts: {path} holds no prompt", "write one prompt a line")
    return found


@dataclass
class TextContext:
    """Conditions of a denoiser that is told a text: prompt i modulo their number; none in the unconditional branch."""

    folder: PipelineFolder
    prompts: Sequence[str]
    device: torch.device
    dtype: torch.dtype
    kept: dict[str, Arguments] = field(default_factory=dict)

    def __call__(self, ids: Sequence[int], branch: str) -> Conditions:
        """As the denoiser's arguments, each (N, ...)."""
        told = [self.encoded(self.prompts[i % len(self.prompts)] if branch == COND else "") for i in ids]
        return {name: torch.cat([one[name] for one in told]) for name in told[0]}

    @torch.no_grad()
    def encoded(self, prompt: str) -> Arguments:
        """The arguments for a prompt, encoded alone: no other prompt has a part in its last bits."""
        if prompt not in self.kept:
            found = FAMILIES[self.folder.name](self.folder, self._encoders, prompt)
            made = {name: value.float().cpu() for name, value in found.items()}
            # Every prompt takes as much.
            if (len(self.kept) + 1) * sum(value.nbytes for value in made.values()) > KEPT and self.kept:
                del self.kept[next(iter(self.kept))]
            self.kept[prompt] = made
        return self.kept[prompt]

    @cached_property
    def _encoders(self) -> list[Encoder]:
        """The encoders, loaded when a prompt is first asked for."""
        return [_load(text, self.device, self.dtype) for text in self.folder.texts]


def _load(text: Text, device: torch.device, dtype: torch.dtype) -> Encoder:
    transformers, folder = require_transformers(), text.encoder.folder
    name = str(text.encoder.config["architectures"][0])
    kind = "T5Tokenizer" if name == T5 else "CLIPTokenizer"
    try:
        with no_progress_bars(transformers):
            tokenizer = getattr(transformers, kind).from_pretrained(str(text.tokenizer), local_files_only=True)
            encoder = getattr(transformers, name).from_pretrained(
                str(folder), variant=text.encoder.variant or None, use_safetensors=True, local_files_only=True
            )
    except Exception as error:  # transformers raises many kinds for files that do not fit
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"cannot load the text encoder from {folder}: {reason}", "download the pipeline anew") from error
    return Encoder(tokenizer, prepared(encoder, folder, device, dtype), device)


@contextmanager
def no_progress_bars(transformers: Any) -> Iterator[None]:
    """Meanwhile the package draws no bars of its own over those of a run."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def require_transformers() -> Any:
    """The package. Raises `UserError` if it is not installed."""
    try:
        import transformers  # slow to import: only when a prompt is encoded
    except ImportError as error:
        raise UserError(
            "pipelines with a text encoder need the package transformers, which is not installed",
            'install it: pip install "ptqbench[text]"',
        ) from error
    return transformers


def text_context(folder: PipelineFolder, prompts: Path | None, device: torch.device, dtype: torch.dtype) -> TextContext:
    """The context of a pipeline's text encoders, run in `dtype`. Raises `UserError` if there are no prompts, or the encoders do
    not fit the denoiser."""
    if prompts is None:
        raise UserError(
            f"{folder.root} is conditioned on text, and the recipe names no prompts",
            "set model.prompts to a text file with one prompt a line",
        )
    found = read_prompts(prompts)
    _require_widths(folder)
    require_transformers()
    return TextContext(folder, found, device, dtype)


def _require_widths(folder: PipelineFolder) -> None:
    """Raises `UserError` unless texts are as wide as the denoiser takes them."""
    denoiser, texts = folder.denoiser.config, folder.texts
    joint, pooled = denoiser.get("joint_attention_dim"), denoiser.get("pooled_projection_dim")
    if joint is None:
        _agree(texts, "tokens", denoiser.get("caption_channels") or denoiser.get("cross_attention_dim"))
        return
    t5 = [text for text in texts if text.encoder.config["architectures"][0] == T5]
    clips = [text for text in texts if text not in t5]
    _agree(t5, "tokens", joint)
    if len(clips) == 1:
        _agree(clips, "pooled texts", pooled)
    else:  # Stable Diffusion 3 attends to CLIP's tokens too, which zeros fill up
        _agree(clips, "tokens", joint, fill=True)
        _agree(clips, "pooled texts", pooled, "projection_dim")


def _agree(texts: Sequence[Text], what: str, wanted: int | None, key: str = "hidden_size", *, fill: bool = False) -> None:
    configs = [text.encoder.config for text in texts]
    width = sum(int(config.get("d_model") or config.get(key) or 0) for config in configs)
    if texts and width != wanted and not (fill and wanted and width < wanted):
        path = texts[0].encoder.folder / CONFIG
        raise UserError(f"{path} gives {what} of width {width}, the denoiser takes {wanted}", "take both from one pipeline")
