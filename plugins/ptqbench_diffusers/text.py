"""Prompts: a file of them, one a line, and what the text encoder makes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench.roles.model import COND, Conditions
from ptqbench_diffusers.layout import CONFIG, Network, Text
from ptqbench_diffusers.networks import prepared

KEPT = 4096
"""Encoded prompts that are kept, the latest: 1 GB of Stable Diffusion's. Encoding one anew takes less than a denoising step."""


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
    """Conditions of a UNet that attends to text: image i has prompt i modulo their number, none in the unconditional branch."""

    text: Text
    prompts: Sequence[str]
    device: torch.device
    kept: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, ids: Sequence[int], branch: str) -> Conditions:
        """As the denoiser's argument, (N, tokens, D)."""
        wanted = [self.prompts[i % len(self.prompts)] if branch == COND else "" for i in ids]
        return {"encoder_hidden_states": torch.cat([self.encoded(prompt) for prompt in wanted])}

    @torch.no_grad()
    def encoded(self, prompt: str) -> Tensor:
        """The last hidden states (1, tokens, D) of a prompt, encoded alone: no other prompt has a part in its last bits."""
        if prompt not in self.kept:
            if len(self.kept) >= KEPT:
                del self.kept[next(iter(self.kept))]
            tokenizer, encoder = self._parts
            tokens = tokenizer(
                prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
            )
            mask = tokens.attention_mask.to(self.device) if getattr(encoder.config, "use_attention_mask", False) else None
            self.kept[prompt] = encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0].cpu()
        return self.kept[prompt]

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Tokenizer and encoder, loaded when a prompt is first asked for."""
        transformers = require_transformers()
        folder = self.text.encoder.folder
        try:
            with no_progress_bars(transformers):
                tokenizer = transformers.CLIPTokenizer.from_pretrained(str(self.text.tokenizer), local_files_only=True)
                encoder = transformers.CLIPTextModel.from_pretrained(
                    str(folder), variant=self.text.encoder.variant or None, use_safetensors=True, local_files_only=True
                )
        except Exception as error:  # transformers raises many kinds for files that do not fit
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load the text encoder from {folder}: {reason}", "download the pipeline anew") from error
        return tokenizer, prepared(encoder, folder, self.device)


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


def text_context(text: Text, denoiser: Network, prompts: Path | None, device: torch.device) -> TextContext:
    """The context of a pipeline's text encoder. Raises `UserError` if there are no prompts, or the encoder does not fit."""
    if prompts is None:
        raise UserError(
            f"{text.encoder.folder.parent} is conditioned on text, and the recipe names no prompts",
            "set model.prompts to a text file with one prompt a line",
        )
    found, path = read_prompts(prompts), text.encoder.folder / CONFIG
    width, wanted = text.encoder.config.get("hidden_size"), denoiser.config.get("cross_attention_dim")
    if width != wanted:
        raise UserError(
            f"{path} gives tokens of width {width}, the denoiser attends to {wanted}", "take both from one pipeline"
        )
    require_transformers()
    return TextContext(text, found, device)
