"""The plan pass `attention`."""

from __future__ import annotations

from ptqbench.errors import CellFailedError
from ptqbench.quant.plan import SITES, AttentionPlan, Plan, Probe
from ptqbench.roles.plan import PlanPass
from ptqbench_nearest import AttentionOptions
from ptqbench_nearest.bits import with_bits


class AttentionBits(PlanPass):
    """Other bits for the operands of attention's two products. Floating point stays floating point."""

    options: AttentionOptions

    def apply(self, plan: Plan, probe: Probe) -> Plan:
        """A plan with other attention grids. Raises `CellFailedError` if the denoiser has no attention that is seen."""
        if not probe.attentions:
            unseen = f"; there is a softmax in {', '.join(probe.softmaxes)}" if probe.softmaxes else ""
            raise CellFailedError(
                f"the pass attention found no module that calls scaled_dot_product_attention{unseen}",
                "drop the pass: attention that is written another way stays in floating point",
            )
        return plan.with_attentions(map(self._change, plan.attentions))

    def _change(self, attention: AttentionPlan) -> AttentionPlan:
        for site in SITES:
            before = attention.spec(site)
            after = with_bits(before, getattr(self.options, site))
            if after != before:
                attention = attention.change("attention", **{site: after})
        return attention
