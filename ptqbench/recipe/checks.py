"""What single sections cannot say: choices that do not fit together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptqbench.plugin.names import FULL_PRECISION, suggest
from ptqbench.plugin.records import Record
from ptqbench.recipe.experiment import FULL_BITS
from ptqbench.recipe.keypath import KeyPath, show
from ptqbench.recipe.problems import Problems
from ptqbench.recipe.schema import BESIDE_NETWORK, NETWORK

CLOSED_FORM = "closed-form"
LEARNED = "learned"

Components = Mapping[tuple[str, ...], Record | None]
"""What a method names at each key path, None where that is not there."""


def check_closed_form(components: Components, losses: Sequence[Record | None], where: KeyPath, problems: Problems) -> None:
    """A reconstruction that optimises nothing cannot go with a component that has to be learned, and reads no loss."""
    reconstruction = components.get(("reconstruction",))
    if reconstruction is None or CLOSED_FORM not in reconstruction.component.traits:
        return
    for path, what in (
        (("weighter",), "sample weighter"),
        (("weights", "quantizer"), "weight quantizer"),
        (("activations", "quantizer"), "activation quantizer"),
    ):
        chosen = components.get(path)
        if chosen is not None and LEARNED in chosen.component.traits:
            problems.add(
                (*where, *path),
                f'"{chosen.name}" is a learned {what}, but the reconstruction "{reconstruction.name}" optimises '
                "nothing, so nothing would ever be learned",
                f"choose a {what} that is not learned, or a reconstruction that fits",
            )
    for i, term in enumerate(losses):
        if term is None:
            continue
        problems.add(
            (*where, "losses", i),
            f'"{term.name}" is a term of the loss, but the reconstruction "{reconstruction.name}" optimises nothing, '
            "so nothing would ever read it",
            'leave losses out (losses = ["output"] where they are inherited), or choose a reconstruction that fits',
        )


def is_read(table: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether a complete method reads the key at a path: one whose network a library quantizes reads few."""
    return not table.get(NETWORK) or any(tuple(path[: len(read)]) == read for read in BESIDE_NETWORK)


def check_network(table: Mapping[str, Any], said: Iterable[tuple[str, ...]], where: KeyPath, problems: Problems) -> None:
    """Report the keys that a method says itself and that its library would not read; what it inherits may stay unread."""
    for path in said:
        if not is_read(table, path):
            chosen = table[NETWORK]
            library = chosen.get("use") if isinstance(chosen, Mapping) else chosen
            problems.add(
                (*where, *path),
                f'would not be read: the method leaves the network to "{library}" as a whole',
                f"leave {show(path)} out, or {NETWORK}, beside which only sampler, weights.bits and activations.bits are read",
            )


def check_fit(components: Components, bits: tuple[int | None, int | None], where: KeyPath, problems: Problems) -> None:
    """A reconstruction that optimises needs something to optimise; `bits` are those of weights and activations, if known."""
    reconstruction = components.get(("reconstruction",))
    if reconstruction is None or CLOSED_FORM in reconstruction.component.traits:
        return
    weights, activations = (components.get((site, "quantizer")) for site in ("weights", "activations"))
    remedy = 'choose a learned quantizer (see `ptqbench list`), or reconstruction = "none"'
    rest = f'so the reconstruction "{reconstruction.name}" has nothing to fit'
    if bits[0] == FULL_BITS:
        if bits[1] not in (None, FULL_BITS) and activations is not None and LEARNED not in activations.component.traits:
            message = f'"{activations.name}" learns nothing and weights stay at {FULL_BITS} bits, {rest}'
            problems.add((*where, "activations", "quantizer"), message, remedy)
    elif bits[0] is not None and weights is not None and LEARNED not in weights.component.traits:
        problems.add((*where, "weights", "quantizer"), f'"{weights.name}" learns nothing, {rest}', remedy)


def check_steps(groups: int | None, sampling_steps: int | None, where: KeyPath, problems: Problems) -> None:
    """Activations cannot have more step groups than there are sampling steps."""
    if sampling_steps is not None and groups is not None and groups > sampling_steps:
        message = f"there are {groups} step groups but only {sampling_steps} sampling steps"
        problems.add((*where, "activations", "steps"), message, f"at most {sampling_steps}")


def check_baseline(baseline: str | None, methods: object, problems: Problems) -> None:
    """The baseline is one of the rows; `methods` is the raw table of methods."""
    if baseline is None or not isinstance(methods, dict):
        return
    rows = [*methods, FULL_PRECISION]
    if baseline not in rows:
        message = f'there is no method "{baseline}" to compare with'
        problems.add(("recipe", "baseline"), message, suggest(baseline, rows, "methods"))


def check_budgets(sound: Mapping[str, Mapping[str, Any]], problems: Problems) -> None:
    """Samples fit into the trajectories, and held-out trajectories into the images; `sound` has what is right by section."""
    sampling, calibration, evaluation = (sound[key] for key in ("sampling", "calibration", "evaluation"))
    if sampling.keys() >= {"steps", "guidance"} and calibration.keys() >= {"trajectories", "samples", "branches"}:
        # Each state is a sample in every branch that is calibrated: both of a guided model's, if the recipe does not say.
        branches = len(calibration["branches"] or ()) or (1 if sampling["guidance"] in (None, 1) else 2)
        room = calibration["trajectories"] * sampling["steps"] * branches
        if calibration["samples"] > room:
            message = (
                f"{calibration['samples']} samples do not fit into {calibration['trajectories']} trajectories "
                f"of {sampling['steps']} steps"
            )
            problems.add(("calibration", "samples"), message, f"at most {room}, or more trajectories")
    if "images" in sampling and (evaluation.get("probes") or 0) > sampling["images"]:
        message = f"{evaluation['probes']} held-out trajectories, but only {sampling['images']} images are generated"
        problems.add(("evaluation", "probes"), message, f"at most {sampling['images']}")


def check_repeats(values: Sequence[Any] | None, where: KeyPath, what: str, problems: Problems) -> None:
    """No value twice, because each makes rows."""
    for value in (value for value, count in Counter(values).items() if count > 1):
        problems.add(where, f"{value} stands there twice", f"each {what} makes rows of its own; leave one out")
