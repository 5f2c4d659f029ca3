"""What the units of one phase are fitted on: their inputs and full-precision outputs over the calibration set."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import takewhile

import torch
from torch import Tensor, nn

from ptqbench.errors import CellFailedError
from ptqbench.fitting.losses import UnitLoss
from ptqbench.fitting.sensitivity import Sensitivity
from ptqbench.fitting.unit_data import Samples, UnitData
from ptqbench.quant.model import QuantizedDenoiser
from ptqbench.quant.plan import UnitPlan
from ptqbench.roles.plan import Partitioner
from ptqbench.roles.reconstruction import Phase
from ptqbench.sampling.capture import Recorded, Recording, groups_within, outputs_of, record, record_one
from ptqbench.sampling.links import Links, tracing
from ptqbench.sampling.replay import Replay, holds
from ptqbench.sampling.sample import shards
from ptqbench.stage.context import CAPTURE_BUDGET, REPLAY_BUDGET


@dataclass
class UnitCapture:
    """Records units one after the other; full precision is recorded for as many units at a time as memory allows."""

    samples: Samples
    q: QuantizedDenoiser
    denoiser: nn.Module
    phase: Phase
    loss: UnitLoss
    partitioner: Partitioner
    units: list[UnitPlan]
    seed: int = 0
    ready: dict[str, Recorded] = field(default_factory=dict, init=False)
    sensitivities: dict[str, Recording] = field(default_factory=dict, init=False)
    groups: list[list[str]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.quantized = self.phase.inputs != "full-precision"
        # Full-precision inputs are wanted as such, to be mixed in, or to run the full-precision unit on.
        self.full = self.phase.inputs != "quantized" or self.loss.reads_layers
        self.calib = self.samples.calibration

    def data(self, unit: UnitPlan, position: int) -> UnitData:
        """The samples of one unit."""
        split = self.samples.split
        if unit.synthetic and self.loss.reads_sensitivity:
            _refuse_synthetic(unit)
        full, targets = self._synthetic(unit) if unit.synthetic else self._plain(unit, position)
        if self.quantized:
            inputs = self._quantized_inputs(unit, position)
        return UnitData(
            inputs if self.quantized else full,
            targets,
            self.calib.step,
            split.train,
            split.validation,
            split.group,
            full_inputs=full if self.quantized and self.full else None,
            sensitivity=self.sensitivities.pop(unit.name) if self.loss.reads_sensitivity else None,
        )

    def _plain(self, unit: UnitPlan, position: int) -> Recorded:
        if unit.name not in self.ready:
            self._fill(position)
        return self.ready.pop(unit.name)

    def _synthetic(self, unit: UnitPlan) -> Recorded:
        """Inputs of the module that the unit starts at, and the outputs that the full-precision unit computes from them."""
        module = self.denoiser.get_submodule(unit.module)
        inputs = self._record(None, {unit.name: module}, inputs=True, outputs=False)[unit.name][0]
        original = self.partitioner.assemble(unit, self.denoiser)
        outputs, total = Recording(), len(self.calib)
        with torch.no_grad():
            for piece in shards(total, self.batch):
                args, kwargs = inputs.take(torch.tensor(piece, dtype=torch.int64, device="cpu"), self.samples.device)
                found = original(*args, **kwargs)
                outputs.add(outputs_of(found), piece, total)
        return inputs, outputs

    def _fill(self, position: int) -> None:
        """Record full precision for the unit at `position` and for as many following ones as the memory budget allows."""
        later = [unit for unit in self.units[position:] if not unit.synthetic]
        if not self.groups:
            self.groups = groups_within({unit.name: self._size(unit) for unit in later}, CAPTURE_BUDGET)
        names = next(group for group in self.groups if self.units[position].name in group)
        everything = [unit.name for unit in self._plain_units]
        rest = [unit.name for unit in later if unit.name not in names]
        self.ready = self._original_replay.record(names, settled=everything, later=rest, inputs=self.full, outputs=True)
        if self.loss.reads_sensitivity:
            modules = {other.name: self._original(other) for other in later if other.name in names}
            self.sensitivities = self._sensitivity.record(modules)

    def _quantized_inputs(self, unit: UnitPlan, position: int) -> Recording:
        """What the unit gets from the network as quantized so far."""
        if unit.synthetic:
            module = self.q.module.get_submodule(unit.module)
            return self._record(self.q, {unit.name: module}, inputs=True, outputs=False)[unit.name][0]
        later = [other.name for other in self.units[position + 1 :] if not other.synthetic]
        names, settled = [unit.name], self._settled(position)
        return self._quantized_replay.record(names, settled=settled, later=later, inputs=True, outputs=False)[unit.name][0]

    def _settled(self, position: int) -> list[str]:
        """The units before this one whose outputs no later fit changes: nothing that is fitted later runs before them or in
        them."""
        later = self.units[position:]
        unfinished = {name for unit in later for name in unit.layers}
        ahead = set(takewhile(lambda name: name not in unfinished, self.q.layers))
        return [
            unit.name
            for unit in self._plain_units
            if ahead.issuperset(name for name in self.q.layers if holds(unit.module, name))
            and not any(holds(other.module, unit.module) for other in later)
        ]

    @property
    def _plain_units(self) -> list[UnitPlan]:
        return [unit for unit in self.units if not unit.synthetic]

    @cached_property
    def _original_replay(self) -> Replay:
        return self._replay(None, self.denoiser)

    @cached_property
    def _quantized_replay(self) -> Replay:
        return self._replay(self.q, self.q.module)

    def _replay(self, q: QuantizedDenoiser | None, network: nn.Module) -> Replay:
        places = {unit.name: unit.module for unit in self._plain_units}
        sizes = len(self.calib), self.batch, REPLAY_BUDGET
        return Replay(partial(self._run, q), network, places, self.links, self.single, *sizes)

    @cached_property
    def _seen(self) -> tuple[dict[str, Recorded], Links]:
        """What passes of one sample through the original show of the units."""
        found: dict[str, Recorded] = {}
        links = Links()
        for synthetic in (False, True):
            modules = {u.name: self._original(u) for u in self.units if u.synthetic == synthetic}
            if not modules:
                continue
            with nullcontext(links) if synthetic else tracing(modules) as links:
                found |= record_one(partial(self._run, None), modules, inputs=True, outputs=not synthetic)
        return found, links

    @property
    def single(self) -> dict[str, Recorded]:
        """The recording of one sample for each unit; of synthetic ones the inputs, since the network never computes them."""
        return self._seen[0]

    @property
    def links(self) -> Links:
        """Which units the inputs of each unit are computed from, but for synthetic ones."""
        return self._seen[1]

    def _size(self, unit: UnitPlan) -> int:
        """Bytes that a unit's recording will take."""
        inputs, outputs = self.single[unit.name]
        like_outputs = 2 if self.loss.reads_sensitivity else 1
        return len(self.calib) * ((inputs.bytes_per_sample if self.full else 0) + like_outputs * outputs.bytes_per_sample)

    @property
    def batch(self) -> int:
        return self.samples.batch

    def _record(
        self, q: QuantizedDenoiser | None, modules: dict[str, nn.Module], *, inputs: bool, outputs: bool
    ) -> dict[str, Recorded]:
        run, total = partial(self._run, q), len(self.calib)
        return record(run, modules, self.single, total=total, batch=self.batch, inputs=inputs, outputs=outputs)

    def _run(self, q: QuantizedDenoiser | None, piece: range) -> Tensor:
        return self.samples.predict(q, torch.tensor(piece, dtype=torch.int64, device="cpu"))

    def _original(self, unit: UnitPlan) -> nn.Module:
        return self.denoiser.get_submodule(unit.module)

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        return Sensitivity(self.samples, self.seed)


def _refuse_synthetic(unit: UnitPlan) -> None:
    raise CellFailedError(
        f"the unit {unit.name!r} is synthetic: the network never computes it as a whole, so its loss cannot be weighed by the "
        "network's sensitivity",
        "use another loss term, or a partitioner without synthetic units",
    )
