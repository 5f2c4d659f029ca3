"""Rounding of weights learned block by block on quantized inputs, then scales of activations."""

from __future__ import annotations

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.reconstruction import Course, Phase, Rate, Reconstruction


class ExampleOptions(Options):
    """What a recipe may set."""

    iterations: int = Field(5000, ge=1, description="steps of Adam for each unit and phase")
    batch: int = Field(32, ge=1, description="samples of a mini-batch")
    rounding_rate: float = Field(1e-3, gt=0, description="Adam's learning rate for rounding variables")
    step_rate: float = Field(4e-5, gt=0, description="Adam's learning rate for scales, which ends at zero")


class Example(Reconstruction):
    """Two phases; the loop over mini-batches is shared by all reconstructions."""

    options: ExampleOptions
    phases = (
        Phase("rounding", frozenset({"rounding"}), activations=False, inputs="quantized"),
        Phase("steps", frozenset({"step"}), activations=True, inputs="quantized"),
    )

    def course(self, phase: Phase) -> Course:
        """A rate for each kind of trainable that the phase learns."""
        o = self.options
        rates = {"rounding": Rate(o.rounding_rate)} if phase.name == "rounding" else {"step": Rate(o.step_rate, "cosine")}
        return Course(o.iterations, o.batch, rates)


@hookimpl
def ptqbench_components() -> list[Component]:
    return [
        Component(
            "reconstruction",
            "example",
            "rounding, then scales",
            Example,
            ExampleOptions,
            traits=frozenset({"learned"}),
            defaults={"partitioner": "blocks"},
        )
    ]
