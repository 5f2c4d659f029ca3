"""results.json: the versioned public record of a run."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ptqbench.errors import UserError, why_unreadable
from ptqbench.results.fits import FitQuality
from ptqbench.results.strict import STRICT

SCHEMA = 1

RESULTS = "results.json"
"""The file in a run's folder that has its record."""

SIMULATED, EXECUTED = "simulated", "executed"
"""What a cell's numbers are of: grids kept to in floating point, or integers that a library multiplied."""

HOOK_BYTES = "hook bytes"
"""In `CellRecord.bits_summary`: bytes of the tables that sampler hooks keep; absent where there are none."""


IMAGES = "images"
"""The unit of most counts (`Number.unit`)."""

RETIRED = frozenset({"noise_floor"})
"""Fields of earlier records that nothing reads any more: the floor comes from full precision's own row."""


@dataclass
class Number:
    """A measured number: value, 95 % interval, the count it rests on, and short named lists for reports.

    `unit` says what n counts, in the plural: "images", or "trajectories", the independent values that the interval is over.
    `better` is "lower" or "higher". `protocol` is a short hash of everything that must be equal for two numbers to stand
    side by side. `replicates` are the values with one block of image ids left out at a time, the same blocks in every
    cell on the same noise: differences of two cells' replicates give the paired jackknife of their difference.
    """

    __pydantic_config__ = STRICT

    value: float
    low: float
    high: float
    n: int
    better: str = "lower"
    detail: dict[str, list[float]] = field(default_factory=dict)
    protocol: str = ""
    replicates: list[float] = field(default_factory=list)
    unit: str = IMAGES


@dataclass
class StageCost:
    """What a stage took when it was computed: wall seconds, peak resident memory in MiB; `cached` if not in this run."""

    __pydantic_config__ = STRICT

    seconds: float
    peak_mib: float
    cached: bool = False


@dataclass
class Budget:
    """What a cell spent on calibration: samples, optimiser steps, and evaluations, which are samples times passes.

    `denoiser_evaluations` counts every sample that went through the whole denoiser, in full precision or quantized:
    trajectories (shared ones in each cell that rests on them), activation ranges, recordings (a pass that stops early
    counts whole), feature probing of samplers, fitting of sampler hooks. Work that was done again after an interruption
    counts again; images and metrics do not count. `by_stage` has its parts. `unit_evaluations` counts samples through
    single units while these are fitted.
    """

    __pydantic_config__ = STRICT

    training: int = 0
    validation: int = 0
    gradient_steps: int = 0
    denoiser_evaluations: int = 0
    unit_evaluations: int = 0
    by_stage: dict[str, int] = field(default_factory=dict)


@dataclass
class Executed:
    """What a sampling step took in an engine (`version`) on a processor: `batch` images, CPU `threads`, `repeats` pairs.

    Seconds are medians with the ends of their 95 % intervals, `ratio` is full precision's over the quantized ones. Pairs are of
    full precision and quantized: `peak_mib` above what the process held before, `file_bytes` of what was loaded.
    `integer_share` is the share of multiplications executed on integers, `snr` the agreement with the simulation in dB.
    """

    __pydantic_config__ = STRICT

    version: str
    cpu: str
    batch: int
    threads: int
    repeats: int
    full_precision_seconds: list[float]
    quantized_seconds: list[float]
    ratio: list[float]
    integer_share: float
    snr: float
    peak_mib: list[float]
    file_bytes: list[int]


@dataclass
class CellRecord:
    """One cell. `status` is "ok" or "failed" (then `reason` says why). Bytes count codes, scales, zero points and the
    tensors that stay in full precision; `ledger` lists each layer's grids and bytes, `ledger_hash` names it, and
    `bits_summary` has its totals ("average weight bits", "average activation bits", "bops", "bytes", `HOOK_BYTES`).
    `state_hash` names the quantized weights and grids bit for bit, which is repeated in an equal environment only. `fits` say
    what each unit of each phase came to, in the order in which they were fitted. `constant` has the sites that round all that
    they get to one value, with the number of sampling steps at which they do (`ptqbench.measuring.constants`).
    `executed` has measured times by the engine's name; all other numbers are of what `execution` says. `sensitivity` has shares
    of the error by layer or attention, where they were asked for (`ptqbench.measuring.restored`)."""

    __pydantic_config__ = STRICT

    id: str
    method: str
    bits: str
    variant: str
    seed: int
    status: str
    reason: str = ""
    metrics: dict[str, Number] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    weight_bytes: int = 0
    full_precision_bytes: int = 0
    bits_summary: dict[str, float] = field(default_factory=dict)
    ledger: list[dict[str, Any]] = field(default_factory=list)
    ledger_hash: str = ""
    state_hash: str = ""
    constant: dict[str, int] = field(default_factory=dict)
    cost: dict[str, StageCost] = field(default_factory=dict)
    fits: list[FitQuality] = field(default_factory=list)
    executed: dict[str, Executed] = field(default_factory=dict)
    sensitivity: dict[str, Number] = field(default_factory=dict)
    execution: str = SIMULATED

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CellRecord:
        """Inverse of `dataclasses.asdict`."""
        data = dict(data)
        for numbers in ("metrics", "sensitivity"):
            data[numbers] = {name: Number(**value) for name, value in data.get(numbers, {}).items()}
        data["budget"] = Budget(**data["budget"])
        data["cost"] = {stage: StageCost(**cost) for stage, cost in data["cost"].items()}
        data["executed"] = {engine: Executed(**found) for engine, found in data.get("executed", {}).items()}
        data["fits"] = [FitQuality.from_dict(fit) for fit in data["fits"]]
        return cls(**data)


@dataclass
class Comparison:
    """A method beside the baseline in one metric, at equal bits and variant: `difference` is method minus baseline.

    `verdict` is "better", "worse", "no difference seen" or "not comparable"; the last has a `reason` and no figures.
    `low` and `high` bound the 95 % interval, `p_adjusted` is corrected for the other comparisons in this metric, and
    `detectable` is the difference that would have been seen with a chance of 80 %, corrected like the verdict.
    `seeds` counts the calibration seeds
    of both; with `this_calibration_only` nothing is said about other calibrations. `inside_floor`: no larger than what the
    full-precision model's values on two blocks of noise differ by (`ptqbench.results.compare.noise_floor`).
    """

    __pydantic_config__ = STRICT

    method: str
    bits: str
    variant: str
    metric: str
    baseline: str
    verdict: str
    reason: str = ""
    better: str = "lower"
    value: float | None = None
    baseline_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    seeds: int = 0
    this_calibration_only: bool = False
    inside_floor: bool = False


@dataclass
class RunRecord:
    """A whole comparison. `methods` describes each method's choice of components; `protocol` what was held equal;
    `comparisons` are the differences to the baseline (`ptqbench.results.compare`), `invocation` the words after `ptqbench run`
    that decide what was computed."""

    __pydantic_config__ = STRICT

    name: str
    title: str
    paper: str
    baseline: str
    digest: str
    created: str
    environment: dict[str, Any]
    protocol: dict[str, Any]
    cells: list[CellRecord]
    comparisons: list[Comparison] = field(default_factory=list)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    invocation: list[str] = field(default_factory=list)
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The record as JSON, which has no word for what is no finite number: that becomes null."""
        return json.dumps(_finite(dataclasses.asdict(self)), indent=1, sort_keys=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = RESULTS) -> RunRecord:
        """Parse what `to_json` wrote. Raises `UserError` for anything else, or another schema."""
        try:
            data = json.loads(text, parse_constant=_no_number)
            if data["schema"] != SCHEMA:
                raise UserError(
                    f"{where} has schema {data['schema']}, this version reads {SCHEMA}", "use the version that wrote it"
                )
            if RETIRED & data.keys():
                text = json.dumps({key: value for key, value in data.items() if key not in RETIRED})
            return _reader().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = str(error)
        raise UserError(f"{where} is not a ptqbench result: {reason}", "give a folder that `ptqbench run` wrote")

    @classmethod
    def load(cls, run: Path) -> RunRecord:
        """Read `run`/results.json (or the file itself). Raises `UserError` for what is not there or cannot be read."""
        path = record_path(run)
        if not path.is_file():
            raise UserError(f"no results at {run}", "give a folder that `ptqbench run` wrote; it holds results.json")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = f"{path} cannot be read: {why_unreadable(error)}"
            raise UserError(why, "give a folder that `ptqbench run` wrote") from error
        return cls.from_json(text, str(path))


def record_path(run: Path) -> Path:
    """Where the record of a run lies, which its folder or the file itself names."""
    return run / RESULTS if run.is_dir() else run


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@cache
def _reader() -> TypeAdapter[RunRecord]:
    return TypeAdapter(RunRecord)
