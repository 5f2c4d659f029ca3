"""From a checkpoint of CompVis' latent diffusion to a folder that this plugin reads, mostly by diffusers' own functions."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ptqbench.errors import UserError
from ptqbench_diffusers.random_pipelines import save_embedder

Tensors = dict[str, Tensor]

GROUPS = {"unet": 32, "autoencoder": 32}
"""Groups of the norms, which CompVis' code fixes."""
_ATTENTION = {".norm.": ".group_norm.", ".proj_out.": ".to_out.0."}
"""Names in CompVis' attention block, and in diffusers'."""
_REFUSED = re.compile(r"Unsupported global: GLOBAL (\S+)")
"""How torch names the class or function in a pickle that it does not make without being told to trust it."""
_STRIP = """name a safetensors copy, or one stripped to its tensors, made where you trust the file and have its classes:
checkpoint = torch.load(path, weights_only=False, map_location="cpu")
torch.save({"state_dict": checkpoint["state_dict"]}, "tensors.ckpt")"""
_SCHEDULES = {"linear": "scaled_linear", "sqrt_linear": "linear", "cosine": "squaredcos_cap_v2"}
_PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
"""CompVis' words, and diffusers' for the same."""
_EMBEDDER = "cond_stage_model.embedding.weight"


def convert(checkpoint: Path, config: Path, out: Path, *, trust: bool) -> None:
    """Write the pipeline in a checkpoint, whose architecture is in CompVis' own configuration (YAML), to the folder `out`.

    Averaged weights are taken where there are some. Raises `UserError` for a pickle without `trust`, for files that cannot be
    read, and for a checkpoint that does not fit its configuration.
    """
    tensors = read_checkpoint(checkpoint, trust=trust)
    model = read_config(config)
    hint = f"name the configuration that {checkpoint.name} was trained with"
    try:
        parts = _unet(model, tensors), _autoencoder(model, tensors), _scheduler(model)
        embedder = tensors[_EMBEDDER] if "cross_attention_dim" in parts[0].config and _EMBEDDER in tensors else None
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{checkpoint} does not fit {config}: {type(error).__name__}: {reason}", hint) from error
    if embedder is None and type(parts[0]).__name__ == "UNet2DConditionModel":
        raise UserError(f"{checkpoint} has no {_EMBEDDER}", "only unconditional and class-conditional models are converted")
    import diffusers

    pipeline: Any = diffusers.LDMPipeline(parts[1], parts[0], parts[2])
    pipeline.save_pretrained(out)
    if embedder is not None:
        save_embedder(out, embedder.float(), null=len(embedder) - 1)


def read_checkpoint(path: Path, *, trust: bool) -> Tensors:
    """The tensors in a file by CompVis' names: safetensors, or a pickle of tensors alone for whoever trusts it.

    Raises `UserError` if it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if not trust:
            raise UserError(
                f"{path} is a pickle file, which can run code when it is read",
                "if you trust where it comes from, add --trust; only tensors are read then",
            )
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        if refused := _REFUSED.search(str(error)):
            raise UserError(f"{path} holds {refused[1]}, and reading that could run code", _STRIP) from error
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"cannot read {path}: {reason}", "name a .safetensors or .ckpt file of tensors, complete") from error
    state = found.get("state_dict", found) if isinstance(found, Mapping) else {}
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors by name", "name a checkpoint of CompVis' latent diffusion")
    return tensors


def read_config(path: Path) -> dict[str, Any]:
    """The key `model` of CompVis' YAML file. Raises `UserError` if there is none."""
    import yaml  # comes with huggingface_hub

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        model = config["model"]
        model["params"]["unet_config"]["params"], model["params"]["first_stage_config"]["params"]["ddconfig"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}", "name the YAML file of the model's architecture") from error
    except (KeyError, TypeError) as error:
        hint = "name one such as configs/latent-diffusion/cin256-v2.yaml of CompVis' repository"
        raise UserError(f"{path} describes no latent diffusion: it lacks {error}", hint) from error
    return {"model": model}


def _unet(config: dict[str, Any], tensors: Tensors) -> Any:
    import diffusers
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, create_unet_diffusers_config_from_ldm

    given = config["model"]["params"]["unet_config"]["params"]
    if given.get("use_spatial_transformer"):
        arguments = create_unet_diffusers_config_from_ldm(config, tensors)
        arguments |= {"sample_size": given["image_size"], "norm_num_groups": GROUPS["unet"]}
        unet = diffusers.UNet2DConditionModel(**arguments)
        return _filled(unet, convert_ldm_unet_checkpoint(tensors, arguments, extract_ema=True))
    if given.get("use_new_attention_order"):
        raise ValueError("use_new_attention_order is not followed: queries, keys and values do not lie head by head")
    attends = [2**level in given["attention_resolutions"] for level in range(len(given["channel_mult"]))]
    arguments = {
        "sample_size": given["image_size"],
        "in_channels": given["in_channels"],
        "out_channels": given["out_channels"],
        "layers_per_block": given["num_res_blocks"],
        "block_out_channels": [given["model_channels"] * factor for factor in given["channel_mult"]],
        "down_block_types": ["AttnDownBlock2D" if here else "DownBlock2D" for here in attends],
        "up_block_types": ["AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)],
        "attention_head_dim": given["num_head_channels"],
        "norm_num_groups": GROUPS["unet"],
    }
    renamed = convert_ldm_unet_checkpoint(tensors, arguments, extract_ema=True)
    return _filled(diffusers.UNet2DModel(**arguments), _attention(renamed, given["num_head_channels"]))


def _attention(tensors: Tensors, head: int) -> Tensors:
    """CompVis' attention blocks have one layer for q, k and v, head by head (`head` channels each)."""
    found: Tensors = {}
    for name, value in tensors.items():
        if ".attentions." not in name:
            found[name] = value
        elif ".qkv." in name:
            flat = value.flatten(1) if value.dim() > 1 else value
            split = flat.reshape(-1, 3, head, *flat.shape[1:])
            for place, layer in enumerate(("to_q", "to_k", "to_v")):
                found[name.replace(".qkv.", f".{layer}.")] = split[:, place].flatten(0, 1)
        else:
            for theirs, ours in _ATTENTION.items():
                name = name.replace(theirs, ours)
            found[name] = value.flatten(1) if ".to_out." in name and value.dim() > 1 else value
    return found


def _autoencoder(config: dict[str, Any], tensors: Tensors) -> Any:
    import diffusers
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint, create_vae_diffusers_config_from_ldm

    stage = config["model"]["params"]["first_stage_config"]["params"]
    arguments = create_vae_diffusers_config_from_ldm(config, tensors)
    arguments |= {
        "sample_size": stage["ddconfig"]["resolution"],
        "norm_num_groups": GROUPS["autoencoder"],
        # CompVis multiplies latents where the configuration names a factor, and not with that of Stable Diffusion elsewhere.
        "scaling_factor": _latent_factor(config["model"]["params"], tensors),
    }
    state = convert_ldm_vae_checkpoint(tensors, arguments)
    if "n_embed" not in stage:
        return _filled(diffusers.AutoencoderKL(**arguments), state)
    codes = {"num_vq_embeddings": stage["n_embed"], "vq_embed_dim": stage["embed_dim"]}
    state["quantize.embedding.weight"] = tensors["first_stage_model.quantize.embedding.weight"]
    return _filled(diffusers.VQModel(**arguments, **codes), state)


def _latent_factor(given: Mapping[str, Any], tensors: Tensors) -> float:
    """Where it was measured (`scale_by_std`), the configuration has what it was before, and the checkpoint what it became."""
    return float(tensors["scale_factor"] if given.get("scale_by_std") else given.get("scale_factor", 1.0))


def _scheduler(config: dict[str, Any]) -> Any:
    import diffusers

    given = config["model"]["params"]
    return diffusers.DDIMScheduler(
        num_train_timesteps=given["timesteps"],
        beta_start=given["linear_start"],
        beta_end=given["linear_end"],
        beta_schedule=_known(given, "beta_schedule", "linear", _SCHEDULES),
        prediction_type=_known(given, "parameterization", "eps", _PREDICTIONS),
        clip_sample=False,
        steps_offset=1,
    )


def _known(given: Mapping[str, Any], key: str, default: str, words: Mapping[str, str]) -> str:
    """diffusers' word for a setting. Raises `ValueError` for one that is not known."""
    named = str(given.get(key, default))
    if named not in words:
        raise ValueError(f"{key} {named!r} is not known here; known are {', '.join(words)}")
    return words[named]


def _filled(network: Any, state: Tensors) -> Any:
    """The network with these tensors in float32. Raises `RuntimeError` if they do not fit."""
    network.load_state_dict({name: value.float() for name, value in state.items()}, strict=True)
    return network.eval()
