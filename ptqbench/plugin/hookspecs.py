"""The plugin contract: the roles, and the hooks through which a plugin says what it brings.

A plugin is a module (or an installed package with an entry point in the group "ptqbench") that implements one of these hooks
at least:

    from ptqbench import Component, hookimpl

    @hookimpl
    def ptqbench_components():
        return [Component("weighter", "late", "prefer late timesteps", "my_package.late:LateWeighter")]

Records are light: a component's class implements the interface of its role, which lives in `ptqbench.roles`, and is imported
when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

from ptqbench.plugin.component import Component, Preset

if TYPE_CHECKING:
    import click

PROJECT = "ptqbench"
HOOKS = ("ptqbench_components", "ptqbench_commands")

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Role:
    """A role's name in recipes and listings, its interface, and the question that it answers.

    The interface is the class `interface` of `ptqbench.roles.<module>`; presets have no module, since they are no classes.
    """

    name: str
    interface: str
    question: str
    module: str = ""

    @property
    def path(self) -> str:
        """The interface's full name, for example "ptqbench.roles.weighter.SampleWeighter"."""
        return f"ptqbench.roles.{self.module}.{self.interface}"


ROLES: tuple[Role, ...] = (
    Role("sampler", "CalibrationSampler", "which (trajectory, step) pairs calibrate?", "sampler"),
    Role("weighter", "SampleWeighter", "how much does each sample count in a mini-batch?", "weighter"),
    Role("reconstruction", "Reconstruction", "how is a unit fitted?", "reconstruction"),
    Role("loss", "LossTerm", "what counts as error while a unit is fitted?", "loss"),
    Role("weight-quantizer", "Quantizer", "how do weights go to a grid?", "quantizer"),
    Role("activation-quantizer", "Quantizer", "how do activations go to a grid?", "quantizer"),
    Role("range", "RangeEstimator", "how are first ranges found?", "range"),
    Role("pass", "PlanPass", "which layer gets which bits, and how is its input partitioned?", "plan"),
    Role("partitioner", "Partitioner", "what are the units, in execution order?", "plan"),
    Role("solver", "Solver", "how does a prediction become the next latent?", "solver"),
    Role("sampler-hook", "SamplerHook", "what corrects the prediction while sampling?", "hook"),
    Role("model", "ModelSource", "where do denoiser, schedule and decoder come from?", "model"),
    Role("features", "FeatureExtractor", "which features describe an image?", "features"),
    Role("metric", "Metric", "how good are images and predictions?", "metric"),
    Role("reporter", "Reporter", "how is a comparison written down?", "reporter"),
    Role("executor", "Executor", "which processes of which machines do the work?", "executor"),
    Role("network-quantizer", "NetworkQuantizer", "how does a library quantize the whole network?", "network"),
    Role("exporter", "Exporter", "how does a quantized denoiser leave as files?", "exporter"),
    Role("engine", "Engine", "what executes a denoiser, and how fast?", "engine"),
)

PRESETS = Role(Preset.role, "Preset", "which choice of components is a published method?")
"""How presets are listed: beside the roles, though a preset is a table of a recipe and not a component."""


@hookspec
def ptqbench_components() -> Iterable[Component | Preset]:
    """What the plugin has for roles, a record for each component; presets may stand among them.

    Those of a package are rather a file, `presets.toml` beside its `__init__.py`.
    """


@hookspec
def ptqbench_commands() -> Iterable[click.Command]:
    """Extra commands or groups for the command line, for example `ptqbench digits train`."""
