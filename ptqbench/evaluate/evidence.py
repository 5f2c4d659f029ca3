"""What a metric may look at for one cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ptqbench.errors import CellFailedError
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.features import POOL, FeatureInfo, FeatureSet


@dataclass(frozen=True)
class Evidence:
    """Images and predictions of one cell beside those of the full-precision model on the same noise.

    `images` and `full_precision` are uint8 (N, C, H, W), row i generated from the same noise in both, read in parts.
    `feature_sets(which, output)` is what `features` asks; `extractor` says whose features they are. `noise_error` (P, S)
    float64 is the mean squared difference of the noise predictions to full precision for each held-out trajectory and
    sampling step, `timesteps` (S,) the steps' labels, and `gains` (S,) float64 how far an error of one in a step's noise
    prediction moves the sampler's next latent. `branch_errors` are errors like `noise_error`, of each evaluation that a guided
    prediction is combined of, by its name. `prompts` are those of a model that is told a text: image i shows
    `prompts[i % len(prompts)]`.
    """

    images: Chunks
    full_precision: Chunks
    feature_sets: Callable[[str, str], FeatureSet | None]
    extractor: FeatureInfo
    noise_error: Tensor
    timesteps: Tensor
    gains: Tensor
    is_full_precision: bool
    branch_errors: Mapping[str, Tensor] = field(default_factory=dict)
    prompts: Sequence[str] = ()

    def features(self, which: str, output: str = POOL) -> FeatureSet | None:
        """One output of the extractor for "cell", "fp" (full precision on the same noise) or "data" (real images).

        None where there are no real images. A metric may ask for the outputs that it names in `Metric.reads`.
        """
        return self.feature_sets(which, output)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Parts of `images` with the same parts of `full_precision`, both (n, C, H, W) uint8.

        Raises `CellFailedError` if images do not pair up.
        """
        if self.images.counts != self.full_precision.counts:
            raise _unpaired(f"{len(self.images)}", f"{len(self.full_precision)}")
        for ours, theirs in zip(self.images, self.full_precision, strict=True):
            if ours.shape != theirs.shape:
                raise _unpaired(f"{tuple(ours.shape)}", f"{tuple(theirs.shape)}")
            yield ours, theirs


def _unpaired(ours: str, theirs: str) -> CellFailedError:
    return CellFailedError(
        f"images {ours} do not pair with full-precision images {theirs}",
        "remove the cached images of this cell and run it again",
    )
