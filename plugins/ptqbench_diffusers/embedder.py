"""The class embedder of latent diffusion: a class becomes one token of context, as CompVis' code has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ptqbench.errors import UserError
from ptqbench.roles.model import Conditions
from ptqbench_diffusers.labels import ClassLabels, Labels, choose_labels
from ptqbench_diffusers.layout import CONFIG, Network
from ptqbench_diffusers.networks import prepared


@dataclass(frozen=True)
class ClassContext:
    """Conditions of a UNet that attends to a class: `table` (classes, D) has a token for each."""

    labels: ClassLabels
    table: Tensor

    def __call__(self, ids: Sequence[int], branch: str) -> Conditions:
        """As the denoiser's argument, (N, 1, D)."""
        return {"encoder_hidden_states": self.table[self.labels.of(ids, branch)][:, None]}


def class_context(embedder: Network, denoiser: Network, null: int | None, labels: Labels) -> ClassContext:
    """The context in a class_embedder folder, whose configuration has n_classes, embed_dim and perhaps null_class.

    Raises `UserError` if it does not fit the denoiser, or its weights not its configuration.
    """
    path, config = embedder.folder / CONFIG, embedder.config
    classes, width = config.get("n_classes"), config.get("embed_dim")
    if not isinstance(classes, int) or not isinstance(width, int):
        raise UserError(f"{path} does not state n_classes and embed_dim", "write them there, e.g. 1001 and 512")
    own = config.get("null_class")
    if own is not None and (not isinstance(own, int) or isinstance(own, bool) or own < 0):
        raise UserError(f"{path}: null_class is {own!r}", f"write the class that stands for none, 0..{classes - 1}")
    wanted = denoiser.config.get("cross_attention_dim")
    if wanted != width:
        raise UserError(
            f"{path} has tokens of width {width}, the denoiser attends to {wanted}", "take both from one checkpoint"
        )
    chosen = choose_labels(embedder, classes, config.get("null_class") if null is None else null, labels)
    table = nn.Embedding(classes, width, dtype=torch.float32, device="cpu")
    try:
        table.load_state_dict({name.rpartition(".")[2]: value for name, value in load_file(embedder.weights[0]).items()})
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{embedder.weights[0]} does not fit {path}: {reason}", "convert the embedder again") from error
    return ClassContext(chosen, prepared(table, embedder.folder, torch.device("cpu")).get_parameter("weight"))
