"""Quantizing a module without a recipe: the stages of a run on given samples, and nothing of the caller's is changed."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from enginekit import RECIPE, cell_of, quantized
from torch import Tensor, nn

import ptqbench
from ptqbench.errors import CellFailedError, UserError
from ptqbench.measuring.state_hash import weights_hash

BRECQ = {key: value for key, value in RECIPE["methods"]["qdiffusion"].items() if key != "sampler"}
QUICK = {"reconstruction.iterations": 3, "reconstruction.step_iterations": 2}
PLAIN = BRECQ | {"passes": ["first-last-8bit"], "partitioner": "layers"}


class Conditional(nn.Module):
    """A denoiser with a condition that is given by name, dropout, batch statistics, and an output like diffusers'."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
        self.text, self.norm, self.drop = nn.Linear(4, 8), nn.BatchNorm2d(8), nn.Dropout(0.5)

    def forward(self, x: Tensor, timestep: Tensor, text: Tensor | None = None) -> Tensor:
        deep = self.norm(self.first(x)) * (1 + timestep.float().reshape(-1, 1, 1, 1) / 1000)
        deep = deep if text is None else deep + self.text(text)[:, :, None, None]
        return self.last(self.drop(deep))


@cache
def states(count: int = 24) -> ptqbench.States:
    g = torch.Generator().manual_seed(1)
    t = torch.arange(count) % 4 * 200 + 101
    return ptqbench.States(torch.randn(count, 2, 6, 6, generator=g), t, {"text": torch.randn(count, 4, generator=g)})


@pytest.mark.parametrize("name", ["nearest", "qdiffusion", "gacq"])
def test_on_a_runs_samples_it_makes_the_very_codes_and_grids_of_the_runs_cell(ctx, name):
    cell = cell_of(ctx, name)
    q, quantizer = quantized(ctx, cell)
    calib = quantizer.samples.calibration
    data = ptqbench.States(calib.x, calib.t, timesteps=ctx.schedule.timesteps)
    raw = RECIPE["methods"]
    table = raw["qdiffusion"] | raw["gacq"] if name == "gacq" else raw[name]
    table = {key: value for key, value in table.items() if key != "extends"}
    found = ptqbench.quantize(ctx.model.denoiser, method=table, bits="W4A8", data=data, batch=16)
    ours, theirs = found.quantized.export(), q.export()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert found.plan == q.plan
    assert found.report.budget.gradient_steps == quantizer.gradient_steps
    assert found.report.budget.training == len(quantizer.samples.split.train)
    assert found.report.budget.validation == (10 if name == "gacq" else 0)


def test_a_conditional_module_is_called_like_the_one_that_it_was_made_from():
    model, data = Conditional(), states()
    q = ptqbench.quantize(model, method=PLAIN, bits="W4A8", data=data, set=QUICK)
    model.eval()
    with torch.no_grad():
        found, full = q(data.x, data.t, text=data.cond["text"]), model(data.x, data.t, text=data.cond["text"])
        positional = q(data.x, data.t, data.cond["text"])
        without = q(data.x, data.t)
    assert torch.equal(found, positional)
    assert 0 < (found - full).abs().mean() < 0.1 * full.abs().mean()
    assert not torch.equal(found, without)
    assert {row["layer"] for row in q.ledger} == {"first", "last", "text"}
    assert q.report.bytes < q.report.full_precision_bytes == 4 * sum(p.numel() for p in model.parameters())
    assert set(q.report.fits) == {"rounding", "steps"}
    assert q.report.method["weighter"] == {"use": "uniform"}


def test_the_caller_s_model_and_process_are_as_they_were():
    model = Conditional().train()
    model.drop.eval()
    torch.manual_seed(5)
    torch.set_num_threads(2)
    torch.backends.cudnn.benchmark = True
    before = weights_hash(model), [m.training for m in model.modules()], torch.get_rng_state()
    try:
        with torch.no_grad():
            q = ptqbench.quantize(model, method=PLAIN, bits="W4A8", data=states(), set=QUICK)
            assert not torch.is_grad_enabled()
        assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == (2, True)
    finally:
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = False
    assert weights_hash(model) == before[0]
    assert [m.training for m in model.modules()] == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m.training for m in q.denoiser.modules())


def test_equal_seeds_give_equal_models_and_other_seeds_others():
    def hash_of(seed: int) -> str:
        settings = QUICK
        made = ptqbench.quantize(Conditional(), method=PLAIN, bits="W4A8", data=states(), seed=seed, set=settings)
        return made.report.state_hash

    assert hash_of(3) == hash_of(3) != hash_of(4)


def test_a_grid_per_step_takes_the_parameters_of_the_nearest_timestep():
    model, data = Conditional().eval(), states()
    q = ptqbench.quantize(model, method="nearest-minmax", bits="W8A4", data=data, set={"activations.steps": "each"})
    assert q.timesteps.tolist() == [701, 501, 301, 101]
    assert q.step_of(701).tolist() == [0]
    assert q.step_of(torch.tensor([690.0, 101.0, 0.0, 600.9])).tolist() == [0, 3, 3, 1]
    scale = q.quantized.layers["first"].partitions()[0].activation.scale
    assert scale.shape == (4, 1)
    with torch.no_grad():
        for t in (301, torch.tensor(301), torch.tensor([301, 301])):
            found = q(data.x[:2], t if isinstance(t, Tensor) else torch.tensor(t))
            q.context.step = torch.tensor([2, 2])
            assert torch.equal(found, q.denoiser(data.x[:2], torch.tensor([301, 301])))
        q.context.step = torch.tensor([0, 0])
        assert not torch.equal(found, q.denoiser(data.x[:2], torch.tensor([301, 301])))


def test_what_a_pipeline_asks_of_its_denoiser_is_answered(unet):
    from diffusers import DDIMPipeline, DDIMScheduler

    net = unet[0]
    pipeline = DDIMPipeline(net, DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def sampled() -> Tensor:
        noise = torch.Generator().manual_seed(0)
        return torch.from_numpy(pipeline(4, generator=noise, num_inference_steps=3, output_type="np").images)

    with ptqbench.record_states(net) as seen:
        full = sampled()
    data = seen.states()
    assert (len(data), data.timesteps.tolist()) == (12, [666, 333, 0])
    pipeline.unet = ptqbench.quantize(net, method="nearest-minmax", bits="W8A8", data=data)
    assert pipeline.unet.config == net.config and pipeline.unet.dtype == torch.float32
    found = sampled()
    assert 0 < (found - full).abs().mean() < 0.05
    assert not net._forward_pre_hooks
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = pipeline.unet.nothing_of_the_kind


def test_recorded_calls_keep_what_has_a_row_for_each_sample():
    model, data = Conditional().eval(), states()
    with ptqbench.record_states(model) as seen, torch.no_grad():
        model(data.x[:4], torch.tensor(9), data.cond["text"][:4])
        model(data.x[4:6], timestep=torch.tensor([5, 5]), text=data.cond["text"][4:6])
    found = seen.states()
    assert torch.equal(found.x, data.x[:6]) and torch.equal(found.cond["text"], data.cond["text"][:6])
    assert found.t.tolist() == [9, 9, 9, 9, 5, 5] and found.timesteps.tolist() == [9, 5]
    part = found.sample(3, seed=1)
    assert len(part) == 3 and part.timesteps.tolist() == [9, 5]
    rows = [next(i for i in range(6) if torch.equal(x, found.x[i])) for x in part.x]
    assert len(set(rows)) == 3
    assert torch.equal(part.cond["text"], found.cond["text"][rows]) and torch.equal(part.t, found.t[rows])
    with pytest.raises(UserError, match="7 of 6"):
        found.sample(7)
    with ptqbench.record_states(model) as nothing:
        pass
    with pytest.raises(UserError, match="not called"):
        nothing.states()


class Open(Conditional):
    """Conditions by any name."""

    def forward(self, x: Tensor, timestep: Tensor, *more: Tensor, **told: Tensor) -> Tensor:
        return super().forward(x, timestep, *more, **told)


def test_conditions_by_any_name_are_recorded_and_those_without_a_name_refused():
    model, data = Open().eval(), states()
    with ptqbench.record_states(model) as seen, torch.no_grad():
        model(data.x[:4], data.t[:4], text=data.cond["text"][:4])
        with pytest.raises(UserError, match="has no name"):
            model(data.x[:4], data.t[:4], data.cond["text"][:4])
    assert torch.equal(seen.states().cond["text"], data.cond["text"][:4])


def test_a_second_argument_that_is_no_timestep_is_refused_while_states_are_recorded():
    class Other(Conditional):
        def forward(self, x: Tensor, text: Tensor, timestep: Tensor) -> Tensor:
            return super().forward(x, timestep, text)

    model, data = Other().eval(), states()
    with ptqbench.record_states(model), pytest.raises(UserError, match=r"a tensor \(24, 4\), which is no timestep"):
        model(data.x, data.cond["text"], data.t)


def test_a_quantized_model_takes_x_and_t_by_the_names_that_the_model_has_for_them():
    model, data = Conditional().eval(), states()
    q = ptqbench.quantize(model, method="nearest-minmax", bits="W8A4", data=data, set={"activations.steps": "each"})
    with torch.no_grad(), ptqbench.record_states(q) as seen:
        wanted = q(data.x, data.t, text=data.cond["text"])
        assert torch.equal(q(data.x, timestep=data.t, text=data.cond["text"]), wanted)
        assert torch.equal(q(text=data.cond["text"], timestep=data.t, x=data.x), wanted)
    assert len(seen.calls) == 3


def test_half_precision_conditions_calibrate_like_the_states_in_float32():
    data = states()
    halves = ptqbench.States(data.x.half(), data.t, {"text": data.cond["text"].half()})
    q = ptqbench.quantize(Conditional(), method="nearest-minmax", bits="W4A8", data=halves)
    rounded = ptqbench.States(data.x.half().float(), data.t, {"text": data.cond["text"].half().float()})
    same = ptqbench.quantize(Conditional(), method="nearest-minmax", bits="W4A8", data=rounded)
    assert q.report.state_hash == same.report.state_hash


@pytest.mark.parametrize("bits", ["W4A32", "W4A8", "W32A8"])
def test_a_copy_that_would_compute_with_the_original_s_layers_is_refused(bits):
    model = Conditional()
    inner = nn.Sequential(model.first)
    run = inner.forward
    inner.forward = lambda x: 2 * run(x)
    model.first = inner
    with pytest.raises(CellFailedError, match=r"never calls its own first\.0"):
        ptqbench.quantize(model, method="nearest-minmax", bits=bits, data=states())


X, T = torch.zeros(4, 2, 6, 6), torch.arange(4)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (X, "calibration data is a tensor (4, 2, 6, 6)"),
        ((X,), "calibration data is"),
        ((X, 3), "t is int"),
        ((X, T[:3]), "do not have a row for each sample"),
        ((X, T[:, None]), "do not have a row for each sample"),
        ((X, T, {"text": torch.zeros(5, 4)}), "text (5, 4)"),
        ((X[:0], T[:0]), "no calibration states"),
        ((X / 0, T), "not finite"),
        ((X, T, {}, T[:2]), "calibration data is tuple"),
    ],
)
def test_data_that_does_not_fit_is_refused(data, words):
    with pytest.raises(UserError) as caught:
        ptqbench.quantize(Conditional(), method="nearest-mse", bits="W4A8", data=data)
    assert words in str(caught.value)


def test_conditions_without_names_are_refused():
    with pytest.raises(UserError, match="cond is a tensor"):
        ptqbench.States(X, T, torch.zeros(4, 4))


def test_states_at_no_sampling_step_are_refused():
    with pytest.raises(UserError, match="no sampling step"):
        ptqbench.States(X, T, timesteps=T[:2])


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (Conditional, {"method": "adround"}, 'did you mean "adaround"'),
        (Conditional, {"bits": "W4"}, 'must be a label such as "W4A8"'),
        (Conditional, {"bits": "W32A32"}, "quantizes nothing"),
        (Conditional, {"set": {"weighter.temperature": 3}}, "temperature"),
        (Conditional, {"set": {"reconstruction": {"use": "none", "speed": 3}}}, "speed"),
        (Conditional, {"set": {"a..b": 3}}, "is not a key path"),
        (Conditional, {"method": "ptqd"}, "corrects the sampler (ptqd)"),
        (Conditional, {"plugins": ["nowhere.py"]}, "does not exist"),
        (lambda: Conditional().double(), {}, "float64"),
        (nn.Identity, {}, "no parameters"),
    ],
)
def test_what_cannot_be_quantized_so_is_refused(model, given, words):
    with pytest.raises(UserError) as caught:
        ptqbench.quantize(model(), **({"method": "nearest-mse", "bits": "W4A8", "data": states()} | given))
    assert words in str(caught.value)


def test_a_weighter_that_needs_trajectories_says_so():
    settings = {"weighter": "inverse-error", **QUICK}
    with pytest.raises(CellFailedError, match="there are states only"):
        ptqbench.quantize(Conditional(), method=PLAIN, bits="W4A32", data=states(), set=settings)


HALVES = '''"""Every sample counts, in two groups."""

import torch

from ptqbench import Component, hookimpl
from ptqbench.roles.weighter import Requirements, SampleWeighter


class Halves(SampleWeighter):
    requires = Requirements(validation=0.25, groups=2)

    def weights(self, batch, problem):
        return torch.ones(len(batch))


@hookimpl
def ptqbench_components():
    return [Component("weighter", "halves", "for tests", Halves)]
'''


def test_a_plugin_of_one_file_brings_its_components(tmp_path):
    (tmp_path / "halves.py").write_text(HALVES)
    settings = {"weighter": "halves", **QUICK}
    found = ptqbench.quantize(
        Conditional(), method=PLAIN, bits="W4A8", data=states(), set=settings, plugins=[tmp_path / "halves.py"]
    )
    assert (found.report.budget.training, found.report.budget.validation) == (18, 6)
    assert found.report.method["weighter"] == {"use": "halves"}


def test_a_model_that_returns_something_else_is_refused():
    class Odd(Conditional):
        def forward(self, x, timestep, text=None):
            return {"out": super().forward(x, timestep, text)}

    with pytest.raises(UserError, match="returned dict"):
        ptqbench.quantize(Odd(), method="nearest-mse", bits="W4A8", data=states())
