"""QDrop's reconstruction: one phase in which a unit's rounding variables and activation step sizes learn together."""

from __future__ import annotations

from ptqbench.roles.reconstruction import Course, Phase, Rate, Reconstruction
from ptqbench_qdrop import QDropOptions

JOINT = Phase("joint", learns=frozenset({"rounding", "step"}), activations=True, inputs="mixed")


class QDrop(Reconstruction):
    """Joint reconstruction with randomly dropped quantization (arXiv:2203.05740).

    Elements of the unit's input are the quantized network's with probability `input_keep` and full precision's otherwise;
    activations inside the unit stay quantized with probability `activation_keep`. The target is the unit's full-precision
    output. At inference nothing is dropped. Where weights or activations have 32 bits, the other kind learns alone.
    """

    options: QDropOptions
    phases = (JOINT,)

    def course(self, phase: Phase) -> Course:
        """Both kinds at their own rates."""
        o = self.options
        rounding = Rate(o.rounding_rate, "cosine" if o.rounding_decay == "cosine" else "constant")
        rates = {"rounding": rounding, "step": Rate(o.step_rate, "cosine")}
        return Course(o.iterations, o.batch, rates, o.power, o.input_keep, o.activation_keep)
