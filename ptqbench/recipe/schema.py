"""What a recipe may say: one strict model per section. Component names and options are checked apart from these."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

WeightBits = Literal[2, 3, 4, 5, 6, 7, 8, 32]
ActivationBits = Literal[2, 3, 4, 5, 6, 7, 8, 16, 32]
WEIGHT_BITS: tuple[int, ...] = get_args(WeightBits)
ACTIVATION_BITS: tuple[int, ...] = get_args(ActivationBits)

NAME_PATTERN = r"[a-z0-9][a-z0-9._+-]*"
NAME_RULE = "lower-case letters, digits and . _ + - only, starting with a letter or digit"

_LABEL = re.compile(r"W([1-9]\d?)A([1-9]\d?)")


def parse_bits(label: str) -> tuple[int, int]:
    """Weight and activation bits of a label such as "W4A8". Raises pydantic's custom error if it is none."""
    match = _LABEL.fullmatch(label)
    if not match:
        raise PydanticCustomError("bits", 'must be a label such as "W4A8"')
    weights, activations = int(match[1]), int(match[2])
    if weights not in WEIGHT_BITS:
        raise PydanticCustomError("bits", "weights cannot have {b} bits: 2 to 8, or 32 for none", {"b": weights})
    if activations not in ACTIVATION_BITS:
        words = "activations cannot have {b} bits: 2 to 8, 16, or 32 for none"
        raise PydanticCustomError("bits", words, {"b": activations})
    return weights, activations


def _label(label: str) -> str:
    parse_bits(label)
    return label


def _name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        raise PydanticCustomError("name", "is no name: {rule}", {"rule": NAME_RULE})
    return name


def _reference(value: object) -> object:
    if isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("use"), str)):
        return value
    raise PydanticCustomError("reference", 'must be a component\'s name or a table { use = "name", ... }')


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "must be a number")
    return value


Name = Annotated[str, AfterValidator(_name)]
BitsLabel = Annotated[str, AfterValidator(_label)]
Reference = Annotated[Any, BeforeValidator(_reference)]
Number = Annotated[float, BeforeValidator(_number)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(ge=1, le=100_000_000)]


class Section(BaseModel):
    """Base of all sections: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RecipeSection(Section):
    """[recipe]: what is compared, and against what."""

    name: Name = Field(description="a short name for files and folders")
    title: str = Field("", description="a headline for tables; the name if left out")
    paper: str = Field("", description="where the comparison comes from")
    baseline: str = Field(description='the method that all others are compared with, or "full-precision"')
    plugins: tuple[str, ...] = Field((), description="paths of single-file plugins, relative to the recipe")


class SamplingSection(Section):
    """[sampling]: how images are generated."""

    solver: Reference = Field("ddim", description="how a prediction becomes the next latent")
    grid: Literal["uniform", "quad", "leading", "trailing", "linspace"] | None = Field(
        None, description="spacing of the timesteps, of those that the solver knows; its usual one if left out"
    )
    steps: Annotated[int, Field(ge=1, le=1000)] = Field(description="number of sampling steps, 1 to 1000")
    eta: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="DDIM's eta: 0 is deterministic, 1 is DDPM")
    guidance: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="scale of classifier-free guidance, uncond + scale (cond - uncond); none if left out, or 1; a model "
        "that is told its scale needs one",
    )
    images: Annotated[int, Field(ge=2, le=10_000_000)] = Field(description="images per cell, at least 2")
    seed: Seed = Field(0, description="seed of the noise that every method starts from")
    batch: Count = Field(128, description="images generated at a time")


class CalibrationSection(Section):
    """[calibration]: the budget that every method gets."""

    trajectories: Count = Field(description="full-precision trajectories to draw calibration samples from")
    samples: Count = Field(description="calibration samples, training and validation together")
    batch: Count = Field(64, description="trajectories or samples run at a time")
    branches: Annotated[tuple[Literal["cond", "uncond"], ...], Field(min_length=1)] | None = Field(
        None,
        description="branches of a guided model that each chosen state is taken in, one sample (denoiser call) each; all if "
        "left out",
    )

    @field_validator("branches")
    @classmethod
    def _once(cls, branches: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if branches is not None and len(set(branches)) < len(branches):
            raise PydanticCustomError("branches", "must name each branch once")
        return branches


class EvaluationSection(Section):
    """[evaluation]: what is measured."""

    features: Reference | None = Field(None, description="the feature extractor; needed if a metric reads features")
    metrics: Annotated[tuple[Reference, ...], Field(min_length=1)] = Field(description="the metrics, at least one")
    probes: Count | None = Field(
        None, description="held-out trajectories for noise predictions; as many as images if left out, at most 64"
    )
    reference: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="real images for numbers @data, instead of those that the model brings: a folder of png files, "
        "or an .npz file with arr_0 or with mu and sigma; relative to the recipe",
    )


class Site(Section):
    """What weights and activations have in common."""

    symmetric: bool = Field(False, description="a grid symmetric around zero")
    quantizer: Reference
    range: Reference


class WeightSite(Site):
    """methods.NAME.weights."""

    bits: WeightBits = Field(8, description="2 to 8, or 32 for none")
    per: Literal["tensor", "channel"] = Field("channel", description="one scale per tensor or per channel")


class ActivationSite(Site):
    """methods.NAME.activations."""

    bits: ActivationBits = Field(8, description="2 to 8, 16, or 32 for none")
    per: Literal["tensor", "channel"] = Field("tensor", description="one scale per tensor or per channel")
    steps: Steps | Literal["each"] = Field(
        1, description='step groups with parameters of their own: 1 to 1000, or "each" for one per sampling step'
    )


class MethodSection(Section):
    """[methods.NAME] after `extends`, `method` and the defaults have been applied."""

    extends: str | None = Field(None, description="the method of this recipe to start from")
    method: str | None = Field(None, description="the preset to start from")
    sampler: Reference
    weighter: Reference
    reconstruction: Reference
    losses: Annotated[tuple[Reference, ...], Field(min_length=1)] = Field(description="the terms of the loss, at least one")
    weights: WeightSite
    activations: ActivationSite
    passes: tuple[Reference, ...] = Field(description="plan passes, in order")
    hooks: tuple[Reference, ...] = Field(description="corrections while sampling, in order")
    partitioner: Reference | None = None
    network: Reference | None = Field(
        None,
        description="a library that quantizes the whole network to the bits; beside it a method says sampler and bits alone",
    )


class SweepSection(Section):
    """[sweep] without its generic axes."""

    bits: Annotated[tuple[BitsLabel, ...], Field(min_length=1)] | None = Field(None, description='such as ["W4A8"]')
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = Field((0,), description="calibration seeds")
    only: tuple[str, ...] = Field((), description="ids of cells, or how they begin; all cells if left out")


class ReportSection(Section):
    """[report]: how the comparison is written down."""

    formats: tuple[Reference, ...] = Field(("markdown",), description="the reporters")


class PublishedRowSection(Section):
    """One row of a [[published]] table: method, bits, and a column for each metric."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number]

    method: str = Field(description="the method's name in the paper")
    bits: BitsLabel = Field(description='such as "W4A8"')


class PublishedSection(Section):
    """[[published]]: numbers from a paper, shown apart from measured ones."""

    title: str = Field(description="what the numbers are")
    source: str = Field(description="where they were published")
    rows: Annotated[tuple[PublishedRowSection, ...], Field(min_length=1)] = Field(description="at least one row")


SECTIONS = ("recipe", "model", "sampling", "calibration", "evaluation", "defaults", "methods", "sweep", "report", "published")
"""All top-level keys of a recipe."""

METHOD_REFERENCES: dict[tuple[str, ...], tuple[str, str | None]] = {
    ("sampler",): ("sampler", "random"),
    ("weighter",): ("weighter", "uniform"),
    ("reconstruction",): ("reconstruction", "none"),
    ("weights", "quantizer"): ("weight-quantizer", "nearest"),
    ("weights", "range"): ("range", "minmax"),
    ("activations", "quantizer"): ("activation-quantizer", "affine"),
    ("activations", "range"): ("range", "minmax"),
    ("partitioner",): ("partitioner", None),
    ("network",): ("network-quantizer", None),
}
"""Where a method names a component: key path, role, and the default (None: the reconstruction has its own)."""

METHOD_LISTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "losses": ("loss", ("output",)),
    "passes": ("pass", ()),
    "hooks": ("sampler-hook", ()),
}
"""Where a method names several components: key, role, and the default."""

STARTS = ("extends", "method")
"""The keys of a method that say what it starts from; a method has one of them at most."""

NETWORK = "network"
BESIDE_NETWORK = (*((key,) for key in STARTS), (NETWORK,), ("sampler",), ("weights", "bits"), ("activations", "bits"))
"""What is read of a method whose network a library quantizes as a whole."""
