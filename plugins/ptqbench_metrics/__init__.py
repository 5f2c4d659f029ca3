"""Metrics: noise-prediction error, images beside full precision's on equal noise, and sets of images through features.

Only light imports here, so that listing plugins never imports torch.
"""

from __future__ import annotations

from ptqbench import Component, hookimpl
from ptqbench_metrics.options import ClipOptions, FrechetOptions, KernelOptions, LpipsOptions, ManifoldOptions, ScoreOptions

_EIGENVALUES = "takes the trace from a matrix root; here from eigenvalues"
_TENSORFLOW = "computes features in TensorFlow, whose resizing and arithmetic give slightly other numbers"


@hookimpl
def ptqbench_components() -> list[Component]:
    """Errors of predictions, images in pairs, distances of sets through features, and what a classifier says of images."""
    return [*_paired(), *_distances(), *_others()]


def _paired() -> list[Component]:
    return [
        Component(
            "metric",
            "eps-error",
            "mean squared difference of noise predictions to full precision on held-out trajectories, by timestep",
            "ptqbench_metrics.paired:NoiseError",
        ),
        Component(
            "metric",
            "latent-error",
            "the same, as the squared error that it puts into the sampler's next latent",
            "ptqbench_metrics.paired:LatentError",
        ),
        Component(
            "metric",
            "branch-error",
            "eps-error of the conditional and of the unconditional prediction of a guided model, before they are combined",
            "ptqbench_metrics.paired:BranchError",
        ),
        Component(
            "metric",
            "image-error",
            "mean squared difference to the full-precision images on equal noise, pixels in 0..1",
            "ptqbench_metrics.paired:ImageError",
        ),
        Component(
            "metric",
            "psnr",
            "peak signal-to-noise ratio in dB against the full-precision images on equal noise, at most 54.15 for a pair",
            "ptqbench_metrics.paired:Psnr",
        ),
        Component(
            "metric",
            "psnr-median",
            "the same as a median over images, which single images that turned into another picture do not move",
            "ptqbench_metrics.paired:MedianPsnr",
        ),
        Component(
            "metric",
            "ssim",
            "structural similarity to the full-precision images on equal noise (Gaussian window of 11, sigma 1.5)",
            "ptqbench_metrics.ssim:Ssim",
            paper="doi:10.1109/TIP.2003.819861",
            deviations=("colour images have the mean of the channels' similarities, not that of luminance",),
        ),
        Component(
            "metric",
            "lpips",
            "LPIPS, the perceptual distance to the full-precision images on equal noise, by the authors' package (an extra)",
            "ptqbench_metrics.lpips:Lpips",
            LpipsOptions,
            paper="arXiv:1801.03924",
            deviations=("images with a side below 64 pixels are enlarged first",),
        ),
    ]


def _distances() -> list[Component]:
    return [
        Component(
            "metric",
            "fd",
            "Frechet distance on the recipe's features; its name always carries the extractor",
            "ptqbench_metrics.sets:FrechetDistance",
            FrechetOptions,
            paper="arXiv:1706.08500",
            deviations=("features are the recipe's, not Inception's",),
            released=(_EIGENVALUES,),
        ),
        Component(
            "metric",
            "fid",
            "FID: the Frechet distance on Inception's features with the published weights; on others it is called fd",
            "ptqbench_metrics.sets:InceptionDistance",
            FrechetOptions,
            paper="arXiv:1706.08500",
            released=(_EIGENVALUES, _TENSORFLOW),
        ),
        Component(
            "metric",
            "sfid",
            "sFID: the Frechet distance on spatial features, as the guided-diffusion evaluator defines them",
            "ptqbench_metrics.sets:SpatialDistance",
            FrechetOptions,
            paper="arXiv:2103.03841",
            released=(_EIGENVALUES, _TENSORFLOW),
        ),
        Component(
            "metric",
            "kid",
            "kernel distance (unbiased MMD^2, cubic polynomial kernel) on the recipe's features",
            "ptqbench_metrics.sets:KernelDistance",
            KernelOptions,
            paper="arXiv:1801.01401",
            deviations=(
                "the whole set counts at once by default, and subsets are disjoint, so that their spread gives an interval",
                "against full precision on equal noise, pairs (i, i) do not count, since they are not independent",
            ),
        ),
    ]


def _others() -> list[Component]:
    return [
        Component(
            "metric",
            "precision-recall",
            "share of generated images near real ones, and of real images near generated ones, by nearest neighbours",
            "ptqbench_metrics.manifolds:PrecisionRecall",
            ManifoldOptions,
            paper="arXiv:1904.06991",
            deviations=("features are the recipe's, not VGG-16's",),
            released=("computes distances in half precision; here in float64",),
        ),
        Component(
            "metric",
            "class-changed",
            "share of images that the features' classifier reads as another class than full precision's on equal noise",
            "ptqbench_metrics.classes:ClassChanged",
        ),
        Component(
            "metric",
            "inception-score",
            "how sure of a class each image is, and how evenly the classes are met; images are shuffled before splitting",
            "ptqbench_metrics.score:InceptionScore",
            ScoreOptions,
            paper="arXiv:1606.03498",
            released=("splits images in the order in which they come; here after a fixed shuffle", _TENSORFLOW),
        ),
        Component(
            "metric",
            "clip-score",
            "how well images fit their prompts: 100 max(cos, 0) of CLIP's embeddings; weights by path, needs transformers",
            "ptqbench_metrics.clip:ClipScore",
            ClipOptions,
            paper="arXiv:2104.08718",
            deviations=("times 100, as tables of text-to-image models have it, and not 2.5",),
        ),
    ]
