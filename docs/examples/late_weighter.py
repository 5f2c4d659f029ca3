r"""A whole method in one file: a weighter that lets late (less noisy) sampling steps count more.

Name it in a recipe:

    [recipe]
    plugins = ["late_weighter.py"]

    [methods.late]
    extends = "qdiffusion"
    weighter = { use = "late-steps", factor = 4.0 }

Or try it without touching one, from the root of the repository:

    ptqbench run recipes/gacq_vs_qdiff.toml --only qdiffusion --only late \
        --set 'recipe.plugins=["../docs/examples/late_weighter.py"]' \
        --set 'methods.late={extends="qdiffusion", weighter="late-steps"}'
"""

from pydantic import Field

from ptqbench import Component, Options, hookimpl
from ptqbench.roles.weighter import SampleWeighter


class LateOptions(Options):
    """What a recipe may set; types, bounds and descriptions are checked and shown by `ptqbench describe late-steps`."""

    factor: float = Field(4.0, gt=0, description="weight of the last quarter of the sampling steps")


class LateWeighter(SampleWeighter):
    """Weight `factor` for the last quarter of the sampling steps, 1 before."""

    options: LateOptions

    def begin_unit(self, unit, phase, problem, rng) -> None:
        self.first_late = len(problem.timesteps) * 3 // 4

    def weights(self, batch, problem):
        late = batch.step >= self.first_late
        return 1.0 + (self.options.factor - 1.0) * late.float()


@hookimpl
def ptqbench_components():
    return [Component("weighter", "late-steps", "late sampling steps count more", LateWeighter, LateOptions)]
