"""Features as a cached stage: computed once for each part of images and extractor, whatever metrics read of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from ptqbench.boundary.build import build
from ptqbench.errors import UserError
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.features import FeatureSet, Keep, keep_nothing
from ptqbench.evaluate.levels import require_bytes
from ptqbench.measuring.real import RealImages, statistics_alone
from ptqbench.plugin.component import Bound
from ptqbench.roles.features import FeatureInfo
from ptqbench.roles.metric import Metric
from ptqbench.sampling.images import FULL, generate, image_key, image_shards
from ptqbench.stage.cache import Costs, cached_tensors, content_key
from ptqbench.stage.context import REFERENCE_SETTING, RunContext
from ptqbench.stage.predictor import Predictor

PUBLISHED = {"fid": True, "sfid": True, "kid": True, "is": False}
"""Names that stand for numbers on Inception's features, and whether they have a reference."""

REFERENCE_TASKS = 8
"""Parts of the work on a reference in files, which may be large; that of a model is small."""

KEPT_WIDTH = 256
"""Features of fewer numbers have covariances whose roots are found faster than read."""


def feature_info(ctx: RunContext) -> FeatureInfo:
    """What metrics know of the recipe's extractor."""
    return FeatureInfo(ctx.experiment.evaluation.features_name, dict(ctx.extractor.outputs()), ctx.extractor.inception)


def wanted_outputs(ctx: RunContext) -> tuple[str, ...]:
    """The extractor's outputs that the recipe's metrics read; none where no metric needs features."""
    read = {output for bound in ctx.experiment.evaluation.metrics for output in _metric(bound).reads}
    return tuple(sorted(read))


def metric_problems(ctx: RunContext) -> list[UserError]:
    """Why metrics could give no number, or not under their names: one for each metric that has any.

    There is no extractor, it lacks its weights or what a metric reads, the reference's file has no images for it, the recipe
    generates too few images, two metrics share a column.
    """
    found: list[UserError] = []
    owners: dict[str, str] = {}
    try:
        info, alone = feature_info(ctx), statistics_alone(ctx)
    except UserError as error:
        return [error]
    for bound in ctx.experiment.evaluation.metrics:
        try:
            _check_metric(ctx, bound, info, alone, owners)
        except UserError as error:
            found.append(error)
    try:
        _ = ctx.features_fingerprint if wanted_outputs(ctx) and ctx.experiment.evaluation.features else ""
    except UserError as error:
        found.append(error)
    return found


def check_metrics(ctx: RunContext) -> None:
    """Raises the first of `metric_problems`."""
    for problem in metric_problems(ctx):
        raise problem


def _check_metric(
    ctx: RunContext, bound: Bound, info: FeatureInfo, alone: frozenset[str] | None, owners: dict[str, str]
) -> None:
    metric = _metric(bound)
    if metric.reads and ctx.experiment.evaluation.features is None:
        remedy = "name some: features = ... in [evaluation] (see `ptqbench list --role features`)"
        raise UserError(f'the metric "{bound.name}" reads features, and the recipe names none', remedy)
    for output in metric.reads:
        if output not in info.outputs:
            raise UserError(
                f'the metric "{bound.name}" reads the output {output!r}, and the features "{info.name}" have '
                f"{', '.join(info.outputs)}",
                'choose features = "inception", or leave the metric out',
            )
    if metric.needs_prompts and not ctx.model.prompts:
        raise UserError(
            f'the metric "{bound.name}" compares images with their prompts, and the model is told none', "leave the metric out"
        )
    metric.fingerprint()
    _check_images(bound.name, metric.least_images(info), ctx.experiment.sampling.images)
    for name in metric.names(info):
        _check_name(bound.name, name, info)
        if alone is not None and name.endswith("@data"):
            _check_statistics(bound.name, metric, name, alone)
        if owners.setdefault(name, bound.name) != bound.name:
            raise UserError(
                f'the metrics "{owners[name]}" and "{bound.name}" both give the column {name}', "leave one of them out"
            )


def _check_images(metric: str, least: int, images: int) -> None:
    if images < least:
        raise UserError(
            f'the metric "{metric}" needs at least {least} images, and the recipe generates {images} (sampling.images)',
            f"--set sampling.images={least} or more, or leave the metric out of evaluation.metrics",
        )


def _check_statistics(metric: str, made: Metric, column: str, outputs: frozenset[str]) -> None:
    if made.reads and not (made.from_statistics and outputs >= set(made.reads)):
        raise UserError(
            f'the metric "{metric}" gives {column}, and the reference has neither images nor statistics that would do',
            f'name one with images ({REFERENCE_SETTING}), write {{ use = "{metric}", reference = "fp" }}, or leave it out',
        )


def _check_name(metric: str, column: str, info: FeatureInfo) -> None:
    """A published name must mean what papers mean by it: Inception's features, and a reference that it names."""
    label, at, _ = column.lower().partition("@")
    if label not in PUBLISHED:
        return
    if not info.inception:
        raise UserError(
            f'the metric "{metric}" gives the column {column}, but the features "{info.name}" are not Inception\'s with the '
            "published weights: the number could be compared with no other of that name",
            f'name the column after the features, as in "{label}-{info.name}@data", or choose features = "inception"',
        )
    if PUBLISHED[label] and not at:
        raise UserError(
            f'the metric "{metric}" gives the column {column}, which does not say what it is measured against',
            f'name it "{column}@data" for real images, "{column}@fp" for those of full precision',
        )


def image_features(
    ctx: RunContext, costs: Costs, state: str, predictor: Callable[[], Predictor], ids: range
) -> dict[str, Tensor]:
    """Features of images `ids` by output, each (len(ids), D) float32."""
    return _features(ctx, costs, image_key(ctx, state, ids), lambda: generate(ctx, Costs(), state, predictor, ids))


def reference_features(ctx: RunContext, task: int, tasks: int) -> None:
    """Compute every `tasks`-th part of the real images' features, starting at `task`."""
    real = RealImages.of(ctx)
    if real.images is not None:
        for i in range(task, len(real.images.counts), tasks):
            _features(ctx, Costs(), content_key(real.key, i), partial(real.images.part, i))


def image_set(
    ctx: RunContext, state: str, predictor: Callable[[], Predictor], output: str, keep: Keep = keep_nothing
) -> FeatureSet:
    """One output for all images of a predictor, each part read when its turn comes."""
    pieces = image_shards(ctx)

    def read(index: int) -> Tensor:
        ids = pieces[index]
        return _features(
            ctx, Costs(), image_key(ctx, state, ids), lambda: generate(ctx, Costs(), state, predictor, ids), output
        )[output]

    return FeatureSet(Chunks([len(ids) for ids in pieces], read), ctx.extractor.outputs()[output], keep=keep)


def full_precision_set(ctx: RunContext, output: str) -> FeatureSet:
    """One output for all images of the full-precision model."""
    keep = _keep(ctx, [image_key(ctx, FULL, ids) for ids in image_shards(ctx)], output)
    return image_set(ctx, FULL, ctx.predictor, output, keep)


def real_set(ctx: RunContext, output: str) -> FeatureSet | None:
    """One output for the real images, with ready-made statistics where their file has them; None without real images."""
    real, parts = RealImages.of(ctx), None
    if real.images is None and not real.statistics:
        return None
    if real.images is not None:
        images = real.images

        def read(index: int) -> Tensor:
            return _features(ctx, Costs(), content_key(real.key, index), partial(images.part, index), output)[output]

        parts = Chunks(images.counts, read)
    keep = _keep(ctx, [real.key, parts and parts.counts], output)
    return FeatureSet(parts, ctx.extractor.outputs()[output], real.statistics.get(output), keep)


def _keep(ctx: RunContext, images_key: Any, output: str) -> Keep:
    """Keeps in the cache what is derived from features of a reference: the roots of a Frechet distance cost more than all
    that is left of it, and every cell and every run needs them again."""
    if ctx.extractor.outputs()[output] < KEPT_WIDTH:
        return keep_nothing

    def keep(name: str, make: Callable[[], Tensor]) -> Tensor:
        key = content_key(_features_key(ctx, images_key), output, name)
        found = cached_tensors(ctx.cache, Costs(), "reference-features", key, lambda _: {"found": make()})["found"]
        # A file's tensor lies anywhere, and how it is aligned may decide the last bits of products.
        return found.clone()

    return keep


def _features_key(ctx: RunContext, images_key: Any) -> str:
    """What names features of images: the images, the extractor, and what computes."""
    return content_key(ctx.computing_key, ctx.experiment.evaluation.features_key, ctx.features_fingerprint, images_key)


def _features(ctx: RunContext, costs: Costs, images_key: str, read: Callable[[], Tensor], *outputs: str) -> dict[str, Tensor]:
    """Named outputs (those that metrics read, if none is named) from the cache, or from the images that `read` gives.

    Each output is a file of its own: a metric more or less never makes the others' features anew, unless one is missing.
    """
    chosen = outputs or wanted_outputs(ctx)
    with ctx.cache.locked("features", _features_key(ctx, images_key)) as entry:
        missing = [name for name in chosen if not entry.has(f"{name}.safetensors")]
        if missing:
            with costs.measure("features", entry) as parts:
                images = read()
                require_bytes(images)
                found = ctx.loaded_extractor.extract(images)
                for name in missing:
                    parts.save_tensors(f"{name}.safetensors", {name: found[name].float()})
        else:
            costs.recall("features", entry)
        return {name: entry.load_tensors(f"{name}.safetensors")[name] for name in chosen}


def _metric(bound: Bound) -> Metric:
    metric: Metric = build(bound)
    return metric
