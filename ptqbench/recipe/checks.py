"""What single sections cannot say: choices that do not fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ptqbench.plugin.component import Bound
from ptqbench.plugin.names import FULL_PRECISION, suggest
from ptqbench.recipe.experiment import FULL_BITS, Method
from ptqbench.recipe.keypath import KeyPath
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import CalibrationSection, EvaluationSection, RecipeSection, SamplingSection

CLOSED_FORM = "closed-form"
LEARNED = "learned"

Components = Mapping[tuple[str, ...], Bound | None]


def check_closed_form(components: Components, losses: Sequence[Bound], where: KeyPath, problems: Problems) -> None:
    """A reconstruction that optimises nothing cannot go with a component that has to be learned, and reads no loss."""
    reconstruction = components[("reconstruction",)]
    if reconstruction is None or CLOSED_FORM not in reconstruction.component.traits:
        return
    for path, what in (
        (("weighter",), "sample weighter"),
        (("weights", "quantizer"), "weight quantizer"),
        (("activations", "quantizer"), "activation quantizer"),
    ):
        bound = components[path]
        if bound is not None and LEARNED in bound.component.traits:
            problems.add(
                (*where, *path),
                f'"{bound.name}" is a learned {what}, but the reconstruction "{reconstruction.name}" optimises '
                "nothing, so nothing would ever be learned",
                f"choose a {what} that is not learned, or a reconstruction that fits",
            )
    for i, term in enumerate(losses):
        problems.add(
            (*where, "losses", i),
            f'"{term.name}" is a term of the loss, but the reconstruction "{reconstruction.name}" optimises nothing, '
            "so nothing would ever read it",
            'leave losses out (losses = ["output"] where they are inherited), or choose a reconstruction that fits',
        )


def check_fit(method: Method, where: KeyPath, problems: Problems) -> None:
    """A reconstruction that optimises needs something to optimise."""
    reconstruction = method.reconstruction
    if CLOSED_FORM in reconstruction.component.traits:
        return
    remedy = 'choose a learned quantizer (see `ptqbench list`), or reconstruction = "none"'
    if not method.weights.off and LEARNED not in method.weights.quantizer.component.traits:
        name = method.weights.quantizer.name
        message = f'"{name}" learns nothing, so the reconstruction "{reconstruction.name}" has nothing to fit'
        problems.add((*where, "weights", "quantizer"), message, remedy)
    elif method.weights.off and not method.activations.off:
        name = method.activations.quantizer.name
        if LEARNED not in method.activations.quantizer.component.traits:
            message = (
                f'"{name}" learns nothing and weights stay at {FULL_BITS} bits, so the reconstruction '
                f'"{reconstruction.name}" has nothing to fit'
            )
            problems.add((*where, "activations", "quantizer"), message, remedy)


def check_steps(method: Method, sampling_steps: int | None, where: KeyPath, problems: Problems) -> None:
    """Activations cannot have more step groups than there are sampling steps."""
    if sampling_steps is not None and method.activations.steps > sampling_steps:
        message = f"there are {method.activations.steps} step groups but only {sampling_steps} sampling steps"
        problems.add((*where, "activations", "steps"), message, f"at most {sampling_steps}")


def check_baseline(recipe: RecipeSection | None, methods: object, problems: Problems) -> None:
    """The baseline is one of the rows; `methods` is the raw table of methods."""
    if recipe is None or not isinstance(methods, dict):
        return
    rows = [*methods, FULL_PRECISION]
    if recipe.baseline not in rows:
        message = f'there is no method "{recipe.baseline}" to compare with'
        problems.add(("recipe", "baseline"), message, suggest(recipe.baseline, rows, "methods"))


def check_budgets(
    sampling: SamplingSection | None,
    calibration: CalibrationSection | None,
    evaluation: EvaluationSection | None,
    problems: Problems,
) -> None:
    """Samples fit into the trajectories, and held-out trajectories into the images."""
    if sampling is not None and calibration is not None:
        # Each state is a sample in every branch that is calibrated: both of a guided model's, if the recipe does not say.
        branches = len(calibration.branches or ()) or (1 if sampling.guidance in (None, 1) else 2)
        room = calibration.trajectories * sampling.steps * branches
        if calibration.samples > room:
            message = (
                f"{calibration.samples} samples do not fit into {calibration.trajectories} trajectories "
                f"of {sampling.steps} steps"
            )
            problems.add(("calibration", "samples"), message, f"at most {room}, or more trajectories")
    if sampling is not None and evaluation is not None and (evaluation.probes or 0) > sampling.images:
        message = f"{evaluation.probes} held-out trajectories, but only {sampling.images} images are generated"
        problems.add(("evaluation", "probes"), message, f"at most {sampling.images}")


def check_repeats(values: Sequence[Any] | None, where: KeyPath, what: str, problems: Problems) -> None:
    """No value twice, because each makes rows."""
    for value in (value for value, count in Counter(values).items() if count > 1):
        problems.add(where, f"{value} stands there twice", f"each {what} makes rows of its own; leave one out")
