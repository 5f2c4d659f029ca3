"""What fits cost: an iteration beside plain torch, what is done once, and how both grow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ptqbench.benchmarks.clock import interleaved, once
from ptqbench.benchmarks.subject import GACQ_ITERATIONS, RATE, Bench
from ptqbench.fitting.inner import UnitProblem
from ptqbench.sampling.sample import shards

KINDS = {"residual block": "blocks.0", "attention": "attention", "convolution": "up"}
BATCHES = (8, 16, 32)
ROUNDS = 15


@dataclass(frozen=True)
class Figure:
    """One measurement: seconds of one call, and their ratio to what `beside` names."""

    part: str
    what: str
    seconds: float
    ratio: float
    beside: str


def figures(device: torch.device, rounds: int = ROUNDS) -> Iterator[Figure]:
    """All measurements, in some minutes."""
    yield from iterations(device, rounds)
    yield from weighting(device, rounds)
    yield from sampling(device, rounds)
    yield from growth(device, rounds)


def iterations(device: torch.device, rounds: int) -> Iterator[Figure]:
    """An iteration of each kind of unit: beside forward, backward and Adam on the weights themselves, and beside the same
    rounding variables and regulariser written out in plain torch."""
    for kind, name in KINDS.items():
        bench = Bench(device)
        bench.q.find_weight_grids()
        problem = bench.problem(name)
        for batch in BATCHES:
            yield from _iteration("iteration", f"{kind}, {batch} samples", bench, problem, batch, rounds)


def weighting(device: torch.device, rounds: int) -> Iterator[Figure]:
    """GACQ with an update of all weights in 16 iterations beside equal weights."""
    rounds = max(3, rounds // 3)
    steps = {}
    for method in ("equal", "gacq"):
        bench = Bench(device, method=method)
        bench.q.find_weight_grids()
        fit = bench.fit(bench.problem(KINDS["residual block"]), 32, (rounds + 1) * GACQ_ITERATIONS)
        steps[method] = partial(_several, fit.run(), GACQ_ITERATIONS)
    found = interleaved(steps, rounds, device)["gacq"]
    yield Figure("weights", "gacq, 32 samples", found.seconds / GACQ_ITERATIONS, found.ratio, "equal weights")


def sampling(device: torch.device, rounds: int) -> Iterator[Figure]:
    """A prediction of the quantized network beside full precision's."""
    plain, runs = Bench(device), {}
    x, t = plain.x(32).to(device), torch.full((32,), 500, device=device)
    runs["full precision"] = _inference(plain.denoiser, x, t)
    for bits in ("W4A32", "W4A8"):
        bench = Bench(device, bits=bits)
        q = bench.q
        q.find_weight_grids()
        if bits != "W4A32":
            q.context.step = torch.zeros(32, dtype=torch.int64, device=device)
            with torch.no_grad(), q.observing():
                q.module(x, t)
            q.freeze_activations()
            q.quantize_activations(True)
        runs[bits] = _inference(q.module, x, t)
    for bits, found in interleaved(runs, rounds, device).items():
        yield Figure("sampling", f"{bits}, 32 images", found.seconds, found.ratio, "full precision")


def growth(device: torch.device, rounds: int) -> Iterator[Figure]:
    """What is done once, and an iteration, with more samples, wider layers and more units."""
    for samples in (128, 256, 512):
        yield from _once(f"{samples} samples", Bench(device, samples=samples))
    for width in (32, 64, 128):
        bench = Bench(device, width=width)
        bench.q.find_weight_grids()
        yield from _iteration("width", f"{width} channels, 8 samples", bench, bench.problem("blocks.0"), 8, rounds)
    for blocks in (4, 8, 16):
        yield from _once(f"{blocks} blocks", Bench(device, blocks=blocks, samples=128))


def _once(what: str, bench: Bench) -> Iterator[Figure]:
    """Ranges of all weights and recordings of all units, beside one pass of the calibration set through the network."""

    def passes() -> None:
        with torch.no_grad():
            for piece in shards(bench.samples, 64):
                bench.quantizer.samples.predict(None, torch.tensor(piece))

    def captures() -> None:
        capture = bench.fitter().capture
        for i, unit in enumerate(bench.units):
            capture.data(unit, i)

    passes()
    one = once(passes, bench.device)
    for part, run in (("ranges", bench.q.find_weight_grids), ("capture", captures)):
        seconds = once(run, bench.device)
        yield Figure(part, f"{what}, {len(bench.units)} units", seconds, seconds / one, "one pass of the samples")


def _iteration(part: str, what: str, bench: Bench, problem: UnitProblem, batch: int, rounds: int) -> Iterator[Figure]:
    ours = bench.fit(problem, batch, rounds + 2).run()
    runs: dict[str, Callable[[], object]] = {
        "weights alone": _bare(problem, batch),
        "written out": _written(problem, batch),
        "ours": partial(next, ours),
    }
    found = interleaved(runs, rounds, bench.device)
    mine, written = found["ours"], found["written out"]
    yield Figure(part, what, mine.seconds, mine.ratio, "weights alone")
    yield Figure(part, what, mine.seconds, mine.ratio / written.ratio, "written out in torch")


def _several(run: Iterator[float], count: int) -> None:
    for _ in range(count):
        next(run)


def _inference(network: nn.Module, x: Tensor, t: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            network(x, t)

    return run


def _bare(problem: UnitProblem, batch: int) -> Callable[[], None]:
    """Forward, squared error, backward and Adam on the weights of the full-precision unit."""
    module = copy.deepcopy(problem.modules.original)
    weights = [p.requires_grad_() for name, p in module.named_parameters() if p.dim() > 1]
    optimiser, rng = torch.optim.Adam(weights, lr=1e-5), torch.Generator().manual_seed(0)

    def step() -> None:
        args, kwargs, target = _mini_batch(problem, batch, rng)
        loss = (module(*args, **kwargs) - target).square().sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _written(problem: UnitProblem, batch: int) -> Callable[[], None]:
    """The same with a rounding variable for each weight and its regulariser, as autograd differentiates them."""
    module = copy.deepcopy(problem.modules.original)
    weights = {name: p for name, p in module.named_parameters() if p.dim() > 1}
    scales = {name: p.abs().flatten(1).amax(1).reshape(-1, *[1] * (p.dim() - 1)) / 7 for name, p in weights.items()}
    floors = {name: (p / scales[name]).floor() for name, p in weights.items()}
    alphas = {name: torch.zeros_like(p).requires_grad_() for name, p in weights.items()}
    optimiser, rng = torch.optim.Adam(alphas.values(), lr=RATE), torch.Generator().manual_seed(0)

    def step() -> None:
        args, kwargs, target = _mini_batch(problem, batch, rng)
        shares = {name: (torch.sigmoid(alpha) * 1.2 - 0.1).clamp(0, 1) for name, alpha in alphas.items()}
        soft = {name: (floors[name] + shares[name]).clamp(-8, 7) * scales[name] for name in weights}
        loss = (functional_call(module, soft, args, kwargs) - target).square().sum(1).mean()
        penalty = [(1 - (2 * share - 1).abs().pow(11.0)).sum() for share in shares.values()]
        optimiser.zero_grad()
        (loss + 0.01 * torch.stack(penalty).sum()).backward()
        optimiser.step()

    return step


def _mini_batch(problem: UnitProblem, size: int, rng: torch.Generator) -> tuple[tuple[Tensor, ...], dict[str, Tensor], Tensor]:
    data = problem.data
    index = data.train[torch.randperm(len(data.train), generator=rng)[:size]]
    args, kwargs = data.inputs.take(index, problem.device)
    return args, kwargs, data.targets.take(index, problem.device)[0]
