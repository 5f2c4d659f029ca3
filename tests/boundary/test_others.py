"""Loss terms, ranges, passes, partitioners, hooks, features, models, reconstructions and reporters: what each may return."""

import dataclasses

import pytest
import torch
from boundarykit import answering, make
from torch import nn

from ptqbench.errors import PluginError
from ptqbench.quant.grid import Levels, QuantSpec
from ptqbench.quant.plan import LayerProbe, Plan, Probe, UnitPlan
from ptqbench.roles.features import FeatureExtractor
from ptqbench.roles.hook import SamplerHook
from ptqbench.roles.loss import LossTerm, Outcome
from ptqbench.roles.model import DiffusionModel, ModelSource
from ptqbench.roles.plan import Partitioner, PlanPass
from ptqbench.roles.range import RangeEstimator
from ptqbench.roles.reconstruction import Course, Phase, Rate, Reconstruction
from ptqbench.roles.reporter import Reporter
from ptqbench.roles.solver import Schedule, Solver, StepNoise

NAN = float("nan")
CPU = torch.device("cpu")


def refused(call, words, remedy=""):
    with pytest.raises(PluginError) as caught:
        call()
    assert words in caught.value.message
    assert remedy in caught.value.hint
    assert 'of plugin "trial.py"' in caught.value.message


def losses(answer, output=None):
    output = torch.ones(4, 2, requires_grad=True) if output is None else output
    outcome = Outcome((output,), (torch.zeros(4, 2),), torch.arange(4), 2.0)
    return make("loss", answering(LossTerm, losses=answer)).losses(outcome)


LOSSES = {
    "a tensor": (lambda s, o: o.output[0].sum(1), "returned float32 (4,) instead of the parts", "by name"),
    "one for all": (lambda s, o: {"": o.output[0].mean()}, "gave float32 () as the part ''", "(4,)"),
    "detached": (lambda s, o: {"": o.output[0].detach().sum(1)}, "do not follow from the outputs", "detach()"),
    "nan": (lambda s, o: {"x": o.output[0].sum(1) / 0 * 0}, "gave the part 'x' with 4 of 4 values that are not", "division"),
    "writing": (lambda s, o: {"": o.output[0].sum(1) + o.target[0].add_(1).sum(1)}, "wrote into outcome.target", "clone"),
}


@pytest.mark.parametrize(("answer", "words", "remedy"), LOSSES.values(), ids=LOSSES)
def test_losses_are_values_of_each_sample_that_follow_from_the_outputs(answer, words, remedy):
    refused(lambda: losses(answer), words, remedy)


def test_losses_of_outputs_that_are_not_finite_are_no_fault_of_the_term():
    found = losses(lambda s, o: {"": o.output[0].sum(1)}, torch.full((4, 2), NAN, requires_grad=True))
    assert found[""].isnan().all()
    assert losses(lambda s, o: {}) == {}


ONE, ZERO = torch.ones(2), torch.zeros(2)
GRIDS = {
    "a list": ([ONE, ZERO], Levels(4), "returned list as a grid"),
    "rows": ((torch.ones(1), torch.zeros(1)), Levels(4), "gave float32 (1,) as scale"),
    "not positive": ((ZERO, ZERO), Levels(4), "gave a scale of 0"),
    "nan": ((ONE * NAN, ZERO), Levels(4), "gave scale with 2 of 2 values that are not finite"),
    "between codes": ((ONE, ONE / 2), Levels(4), "zero point between two codes"),
    "not symmetric": ((ONE, ONE), Levels(4, symmetric=True), "gave a zero point of 1"),
    "below zero": ((ONE, ONE), Levels(4, nonnegative=True), "gave a zero point of 1"),
}


@pytest.mark.parametrize(("answer", "levels", "words"), GRIDS.values(), ids=GRIDS)
def test_grids_of_range_estimators(answer, levels, words):
    estimator = make("range", answering(RangeEstimator, grid=answer), levels=levels)
    estimator.observe(torch.randn(2, 8))
    refused(estimator.grid, words)


NET = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval().requires_grad_(False)
PROBE = Probe(tuple(LayerProbe(n, "Linear", s, 1, (), False) for n, s in (("0", (4, 3)), ("1", (2, 4)))), ("", "0", "1"))
PLAN = Plan.uniform(PROBE, QuantSpec(4), QuantSpec(8))
PLANS = {
    "nothing": (None, "returned nothing"),
    "fewer": (dataclasses.replace(PLAN, layers=PLAN.layers[:1]), "changed which layers there are"),
    "without a reason": (
        PLAN.with_layers([dataclasses.replace(PLAN["0"], weight=None)]),
        "left 0 in full precision without saying why",
    ),
    "partitions": (PLAN.with_layers([PLAN["1"].change("x", partitions=(3, 2))]), "divides 1 into 3+2 input channels"),
    "bits": (PLAN.with_layers([PLAN["1"].change("x", weight=QuantSpec(1))]), "gave 1 the grid QuantSpec(bits=1"),
}


@pytest.mark.parametrize(("answer", "words"), PLANS.values(), ids=PLANS)
def test_plans_of_passes(answer, words):
    refused(lambda: make("pass", answering(PlanPass, apply=answer)).apply(PLAN, PROBE), words)


def test_a_pass_that_says_why_may_leave_layers_as_they_are():
    changed = PLAN.with_layers([PLAN["0"].change("small", weight=None)])
    assert make("pass", answering(PlanPass, apply=changed)).apply(PLAN, PROBE) is changed


UNITS = {
    "nothing": (None, "returned nothing"),
    "strings": (["0", "1"], "returned list"),
    "missing": ([UnitPlan("a", "0", ("0",))], "owned by none: 1"),
    "twice": ([UnitPlan("a", "", ("0", "1")), UnitPlan("b", "1", ("1",))], "owned twice: 1"),
    "nowhere": ([UnitPlan("a", "x", ("0", "1"))], "starts the unit 'a' at 'x'"),
}


@pytest.mark.parametrize(("answer", "words"), UNITS.values(), ids=UNITS)
def test_units_of_partitioners(answer, words):
    refused(lambda: make("partitioner", answering(Partitioner, units=answer)).units(NET, PROBE), words)


def test_what_is_assembled_is_a_module():
    partitioner = make("partitioner", answering(Partitioner, units=[], assemble=["0"]))
    refused(lambda: partitioner.assemble(UnitPlan("a", "0", ("0",)), NET), "assembled list for 'a'")


def hook(**answers):
    return make("sampler-hook", answering(SamplerHook, **answers))


def test_sampler_hooks():
    eps, step, planned = torch.ones(2, 1, 4, 4), torch.arange(2), StepNoise(0.1, 0.2, 0.3, 0.3)
    refused(lambda: hook(fit={"a": 1.0}).fit(None), "returned 1.0 under 'a'")
    refused(lambda: hook(fit={"a": torch.tensor(NAN)}).fit(None), "gave 'a' with 1 of 1 values that are not finite")
    refused(lambda: hook(prediction=eps[:1]).prediction(step, eps), "gave float32 (1, 1, 4, 4) as the prediction")
    refused(lambda: hook(prediction=eps * NAN).prediction(step, eps), "gave the prediction with 32 of 32 values")
    refused(lambda: hook(prediction=lambda s, t, e: e.mul_(2)).prediction(step, eps.clone()), "wrote into the prediction")
    refused(lambda: hook(noise=None).noise(3, planned), "planned nothing at step 3")
    refused(lambda: hook(noise=dataclasses.replace(planned, sigma=-1)).noise(3, planned), "planned StepNoise")


def features(**answers):
    return make("features", answering(FeatureExtractor, **({"outputs": {"pool": 3}, "fingerprint": "x"} | answers)))


def test_feature_extractors():
    images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    refused(features(outputs={"deep": 3}).outputs, "announced dict", '"pool" among them')
    refused(features(outputs={"pool": 0}).outputs, "gave 0 as the width of 'pool'")
    refused(features(fingerprint=None).fingerprint, "gave nothing as a fingerprint")
    for answer, words in (
        (torch.ones(5, 3), "returned float32 (5, 3) instead of features by output"),
        ({"deep": torch.ones(5, 3)}, "gave no pool"),
        ({"pool": torch.ones(4, 3)}, "gave float32 (4, 3) as the output 'pool'"),
        ({"pool": torch.ones(5, 3) * NAN}, "gave the output 'pool' with 15 of 15 values that are not finite"),
        (lambda s, x: {"pool": x.add_(1).float().mean((1, 2, 3))[:, None].expand(5, 3)}, "wrote into the images"),
    ):
        refused(lambda answer=answer: features(extract=answer).extract(images), words)


ALPHAS = torch.linspace(0.99, 0.01, 10, dtype=torch.float64)
MODEL = DiffusionModel(NET, lambda net, x, t, cond: x, ALPHAS, (1, 4, 4), lambda x: x)


def load(**changes):
    return make("model", answering(ModelSource, load=dataclasses.replace(MODEL, **changes), fingerprint="x")).load(CPU)


MODELS = {
    "training": ({"denoiser": nn.Linear(1, 1)}, "in training mode", "eval()"),
    "half": ({"denoiser": nn.Linear(1, 1).half().eval()}, "in torch.float16", "float()"),
    "no module": ({"denoiser": len}, "as denoiser", "torch.nn.Module"),
    "shape": ({"shape": (1, 4)}, "gave (1, 4) as shape", "(channels, height, width)"),
    "one text": ({"prompts": "a red bicycle"}, "as prompts", "in a tuple"),
    "single": ({"alphas_cumprod": ALPHAS.float()}, "gave float32 (10,) as alphas_cumprod", "float64 (T,)"),
    "rising": ({"alphas_cumprod": ALPHAS.flip(0)}, "no noise schedule", "fall"),
    "betas": ({"alphas_cumprod": -ALPHAS}, "no noise schedule", "(0, 1]"),
    "nan": ({"alphas_cumprod": ALPHAS * NAN}, "not finite", ""),
}


@pytest.mark.parametrize(("changes", "words", "remedy"), MODELS.values(), ids=MODELS)
def test_models_that_cannot_be_sampled(changes, words, remedy):
    refused(lambda: load(**changes), words, remedy)


def test_functions_of_a_model_are_calls_as_well():
    x, t = torch.zeros(2, 3, 4, 4), torch.zeros(2).long()
    refused(lambda: load(call=lambda net, x, t, cond: x[:1]).call(NET, x, t, {}), "gave float32 (1, 3, 4, 4) as the output")
    refused(lambda: load(call=lambda net, x, t, cond: x.add_(1)).call(NET, x, t, {}), "wrote into x")
    refused(lambda: load(decode=lambda x: x[0]).decode(x), "gave float32 (3, 4, 4) as images")
    refused(lambda: load(conditions=lambda ids, b: {"c": t}).conditions([1], "cond"), "gave int64 (2,) as 'c' of 1 images")
    refused(lambda: load(conditions=lambda ids, b: None).conditions([1], "cond"), "returned nothing instead of conditions")


PHASE = Phase("p", frozenset({"step"}), True, "quantized")
COURSE = Course(10, 4, {"step": Rate(0.1)})
COURSES = {
    "nothing": (None, "returned nothing"),
    "iterations": (dataclasses.replace(COURSE, iterations=0), "gave 0 as iterations"),
    "batch": (dataclasses.replace(COURSE, batch=2.5), "gave 2.5 as batch"),
    "rates": (dataclasses.replace(COURSE, rates={"step": 0.1}), "gave dict as rates"),
    "nan": (dataclasses.replace(COURSE, rates={"step": Rate(NAN)}), "gave nan as the rate of step"),
    "power": (dataclasses.replace(COURSE, power=0.0), "gave 0.0 as power"),
    "keep": (dataclasses.replace(COURSE, input_keep=1.5), "gave 1.5 as input_keep"),
}


@pytest.mark.parametrize(("answer", "words"), COURSES.values(), ids=COURSES)
def test_courses_of_reconstructions(answer, words):
    refused(lambda: make("reconstruction", answering(Reconstruction, course=answer)).course(PHASE), words)


FITS = {
    "nothing": (None, "returned nothing from fit()"),
    "backwards": (lambda s, unit: iter([0.5, 0.4]), "gave a progress of 0.4 after 0.5"),
    "beyond": (lambda s, unit: iter([0.5, 1.5]), "gave a progress of 1.5 after 0.5"),
    "percent": (lambda s, unit: iter(["50 %"]), "gave '50 %' as progress"),
}


@pytest.mark.parametrize(("answer", "words"), FITS.values(), ids=FITS)
def test_progress_of_reconstructions(answer, words):
    refused(lambda: list(make("reconstruction", answering(Reconstruction, fit=answer)).fit(None)), words)


def test_phases_of_reconstructions():
    for phases, words in (
        ([PHASE], "has list as phases"),
        ((PHASE, PHASE), "names two phases alike: p, p"),
        ((dataclasses.replace(PHASE, learns={"step"}),), "learns set in phase 'p'"),
        ((dataclasses.replace(PHASE, inputs="both"),), "gives units 'both' inputs"),
    ):
        found = type("Trial", (answering(Reconstruction),), {"phases": phases})
        refused(lambda found=found: make("reconstruction", found), words)


def test_reporters_return_text():
    refused(lambda: make("reporter", answering(Reporter, render=b"text")).render(None), "returned bytes")
    refused(lambda: make("reporter", type("T", (answering(Reporter),), {"suffix": "txt"})), "has the suffix 'txt'")


class Steps(Schedule):
    """Stays where it is."""

    def __init__(self, timesteps=(9, 5, 1), alpha=(0.1, 0.5, 0.9), update=None):
        self.timesteps, self.alpha = torch.tensor(timesteps), torch.tensor(alpha, dtype=torch.float64)
        self.update = update or (lambda s, x, eps, noise, planned: x)

    def start(self):
        return self.update


def schedule(answer, **attributes):
    solver = make("solver", type("Trial", (answering(Solver, schedule=answer),), {"grids": ("leading",), **attributes}))
    return solver.schedule(ALPHAS, "leading", 3, 0.0)


def test_solvers():
    x = torch.zeros(2, 1, 4, 4)
    refused(lambda: make("solver", answering(Solver)), "has grids = ()")
    refused(lambda: schedule([9, 5, 1]), "returned list")
    refused(lambda: schedule(Steps(timesteps=(9.0, 5.0, 1.0))), "gave float32 (3,) as timesteps")
    refused(lambda: schedule(Steps(), flow=True), "gave int64 (3,) as timesteps")
    refused(lambda: schedule(Steps(alpha=(0.0, 0.5, 0.9))), "no cumulative ones")
    assert schedule(Steps(timesteps=(1000.0, 500.0, 1.5), alpha=(0.0, 0.5, 0.9)), flow=True).steps == 3
    refused(lambda: schedule(Steps(alpha=(0.1, 0.5))), "gave float64 (2,) as alpha")
    refused(lambda: schedule(Steps(alpha=(0.1, 0.5, 1.5))), "no cumulative ones")
    refused(lambda: schedule(Steps(update=lambda *_: None)).start()(0, x, x, None, None), "gave nothing as the next latent")
    refused(lambda: schedule(Steps(update=lambda s, x, *_: x[:1])).start()(0, x, x, None, None), "gave float32 (1, 1, 4, 4)")
    refused(lambda: schedule(Steps(update=lambda s, x, *_: x.add_(1))).start()(0, x, x, None, None), "wrote into x")
    assert schedule(Steps()).start()(0, x, x, None, None) is x
