"""The plugin contract: one hook per role, each returning light `Component` records, and one for `Preset` records.

A plugin is a module (or an installed package with an entry point in the group "ptqbench") that implements any of these
hooks:

    from ptqbench import Component, hookimpl

    @hookimpl
    def ptqbench_weighters():
        return [Component("late", "prefer late timesteps", "my_package.late:LateWeighter")]

The interface that a component's class implements is named beside each hook; it lives in `ptqbench.roles`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from ptqbench.plugin.component import Component, Preset

PROJECT = "ptqbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Role:
    """A role's name in recipes and listings, its hook, its interface, and the question that it answers.

    The interface is the class `interface` of `ptqbench.roles.<module>`; presets have no module, since they are no classes.
    """

    name: str
    hook: str
    interface: str
    question: str
    module: str = ""

    @property
    def path(self) -> str:
        """The interface's full name, for example "ptqbench.roles.weighter.SampleWeighter"."""
        return f"ptqbench.roles.{self.module}.{self.interface}"


ROLES: tuple[Role, ...] = (
    Role("sampler", "ptqbench_samplers", "CalibrationSampler", "which (trajectory, step) pairs calibrate?", "sampler"),
    Role("weighter", "ptqbench_weighters", "SampleWeighter", "how much does each sample count in a mini-batch?", "weighter"),
    Role("reconstruction", "ptqbench_reconstructions", "Reconstruction", "how is a unit fitted?", "reconstruction"),
    Role("loss", "ptqbench_losses", "LossTerm", "what counts as error while a unit is fitted?", "loss"),
    Role("weight-quantizer", "ptqbench_weight_quantizers", "Quantizer", "how do weights go to a grid?", "quantizer"),
    Role(
        "activation-quantizer", "ptqbench_activation_quantizers", "Quantizer", "how do activations go to a grid?", "quantizer"
    ),
    Role("range", "ptqbench_ranges", "RangeEstimator", "how are first ranges found?", "range"),
    Role("pass", "ptqbench_passes", "PlanPass", "which layer gets which bits, and how is its input partitioned?", "plan"),
    Role("partitioner", "ptqbench_partitioners", "Partitioner", "what are the units, in execution order?", "plan"),
    Role("sampler-hook", "ptqbench_sampler_hooks", "SamplerHook", "what corrects the prediction while sampling?", "hook"),
    Role("model", "ptqbench_models", "ModelSource", "where do denoiser, schedule and decoder come from?", "model"),
    Role("features", "ptqbench_features", "FeatureExtractor", "which features describe an image?", "features"),
    Role("metric", "ptqbench_metrics", "Metric", "how good are images and predictions?", "metric"),
    Role("reporter", "ptqbench_reporters", "Reporter", "how is a comparison written down?", "reporter"),
)

PRESETS = Role("method", "ptqbench_presets", "Preset", "which choice of components is a published method?")
"""How presets are listed: beside the roles, though a preset is a table of a recipe and not a component."""


@hookspec
def ptqbench_samplers() -> Iterable[Component]:
    """Calibration samplers (`ptqbench.roles.sampler.CalibrationSampler`)."""


@hookspec
def ptqbench_weighters() -> Iterable[Component]:
    """Sample weighters (`ptqbench.roles.weighter.SampleWeighter`); trait "learned" if weights follow gradients."""


@hookspec
def ptqbench_reconstructions() -> Iterable[Component]:
    """Reconstructions (`ptqbench.roles.reconstruction.Reconstruction`); trait "closed-form" if nothing is optimised."""


@hookspec
def ptqbench_losses() -> Iterable[Component]:
    """Loss terms (`ptqbench.roles.loss.LossTerm`)."""


@hookspec
def ptqbench_weight_quantizers() -> Iterable[Component]:
    """Weight quantizers (`ptqbench.roles.quantizer.Quantizer`); trait "learned" if they expose trainables."""


@hookspec
def ptqbench_activation_quantizers() -> Iterable[Component]:
    """Activation quantizers (`ptqbench.roles.quantizer.Quantizer`); trait "learned" if they expose trainables."""


@hookspec
def ptqbench_ranges() -> Iterable[Component]:
    """Range estimators (`ptqbench.roles.range.RangeEstimator`)."""


@hookspec
def ptqbench_passes() -> Iterable[Component]:
    """Plan passes (`ptqbench.roles.plan.PlanPass`)."""


@hookspec
def ptqbench_partitioners() -> Iterable[Component]:
    """Partitioners (`ptqbench.roles.plan.Partitioner`)."""


@hookspec
def ptqbench_sampler_hooks() -> Iterable[Component]:
    """Sampler hooks (`ptqbench.roles.hook.SamplerHook`)."""


@hookspec
def ptqbench_models() -> Iterable[Component]:
    """Model sources (`ptqbench.roles.model.ModelSource`)."""


@hookspec
def ptqbench_features() -> Iterable[Component]:
    """Feature extractors (`ptqbench.roles.features.FeatureExtractor`)."""


@hookspec
def ptqbench_metrics() -> Iterable[Component]:
    """Metrics (`ptqbench.roles.metric.Metric`)."""


@hookspec
def ptqbench_reporters() -> Iterable[Component]:
    """Reporters (`ptqbench.roles.reporter.Reporter`)."""


@hookspec
def ptqbench_presets() -> Iterable[Preset]:
    """Presets: whole methods (`ptqbench.plugin.component.Preset`) as tables that a recipe's [methods.NAME] could hold."""


@hookspec
def ptqbench_commands() -> Iterable[click.Command]:
    """Extra commands or groups for the command line, for example `ptqbench digits train`."""
