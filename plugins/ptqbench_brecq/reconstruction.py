"""Reconstruction in two phases: rounding variables of all units, then activation step sizes of all units."""

from __future__ import annotations

from ptqbench.roles.reconstruction import Course, Phase, Rate, Reconstruction
from ptqbench_brecq import BrecqOptions

ROUNDING = Phase("rounding", learns=frozenset({"rounding"}), activations=False, inputs="quantized")
STEPS = Phase("steps", learns=frozenset({"step"}), activations=True, inputs="full-precision")


class TwoPhase(Reconstruction):
    """BRECQ as Q-Diffusion uses it (arXiv:2302.04304, section 4): weights first with activations in full precision, then
    the step sizes of the activations with the weights fixed."""

    options: BrecqOptions
    phases = (ROUNDING, STEPS)

    def course(self, phase: Phase) -> Course:
        """The rate of rounding stays as it is, that of step sizes falls to zero with half a cosine."""
        o = self.options
        if phase is ROUNDING:
            return Course(o.iterations, o.batch, {"rounding": Rate(o.rounding_rate)}, o.power)
        return Course(o.step_iterations, o.batch, {"step": Rate(o.step_rate, "cosine")}, o.step_power)


class Nothing(Reconstruction):
    """Rounding to nearest: no phases."""

    def course(self, phase: Phase) -> Course:
        """Never asked, since there are no phases."""
        raise ValueError(f"there is no phase {phase.name!r}")
