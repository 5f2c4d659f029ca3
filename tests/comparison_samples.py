"""A hand-made run with everything that a table must cope with."""

from __future__ import annotations

from ptqbench.results.record import Budget, CellRecord, Number, RunRecord, StageCost

METRICS = ("eps-error", "psnr@fp", "fd-digits@data", "fd-digits@fp", "kid-digits@data")


def numbers(eps: float, psnr: float, data: float, fp: float, kid: float) -> dict[str, Number]:
    """The five metrics of the main recipe with intervals of a plausible width."""
    steps = {"t": [950.0, 0.0], "error": [eps, 0.5]}
    return {
        "eps-error": Number(eps, eps * 0.95, eps * 1.05, 64, "lower", steps, "eeee", unit="trajectories"),
        "psnr@fp": Number(psnr, psnr - 0.31, psnr + 0.31, 512, "higher", protocol="bbbb2222"),
        "fd-digits@data": Number(data, data - 0.42, data + 0.42, 512, protocol="aaaa1111"),
        "fd-digits@fp": Number(fp, fp - 0.21, fp + 0.21, 512, protocol="cccc"),
        "kid-digits@data": Number(kid, kid - 0.0004, kid + 0.0004, 512, protocol="dddd"),
    }


Figures = tuple[float, float, float, float, float]


def cell(method: str, bits: str, seed: int, figures: Figures, variant: str = "") -> CellRecord:
    """A cell that succeeded."""
    quick = method == "nearest"
    return CellRecord(
        id="/".join(x for x in (method, bits, variant, f"seed{seed}") if x),
        method=method,
        bits=bits,
        variant=variant,
        seed=seed,
        status="ok",
        metrics=numbers(*figures),
        budget=Budget(*((486, 26) if method == "gacq" else (512, 0)), 0 if quick else 5200, 512),
        weight_bytes=612_345,
        full_precision_bytes=4_321_000,
        ledger=[
            _layer("conv_in", 8, ["first-last-8bit"], [64, 1, 3, 3]),
            _layer("down.0", 4, [], [64, 64, 3, 3]),
            _layer("down.1", 4, [], [64, 64, 3, 3]),
        ],
        cost={"calibrate": StageCost(0.4 if quick else 41.2, 812.0), "images": StageCost(6.1, 640.0, cached=True)},
    )


def failed(method: str, bits: str, seed: int, reason: str) -> CellRecord:
    """A cell that failed."""
    return CellRecord(f"{method}/{bits}/seed{seed}", method, bits, "", seed, "failed", reason)


def full_precision() -> CellRecord:
    """The full-precision row: it has no metric against itself."""
    metrics = {
        "fd-digits@data": Number(3.21, 2.83, 3.59, 512, protocol="aaaa1111"),
        "kid-digits@data": Number(0.0021, 0.0017, 0.0025, 512, protocol="dddd"),
    }
    return CellRecord("full-precision", "full-precision", "W32A32", "", 0, "ok", "", metrics, weight_bytes=4_321_000)


def run(*cells: CellRecord, published: bool = True) -> RunRecord:
    """A run of these cells after full precision."""
    quoted = {
        "title": "CIFAR-10, FID as published",
        "source": "arXiv:2602.01289",
        "rows": [
            {"method": "Q-Diffusion", "bits": "W4A8", "metrics": {"FID": 4.98}},
            {"method": "GACQ", "bits": "W4A8", "metrics": {"FID": 4.30, "IS": 9}},
        ],
    }
    return RunRecord(
        name="sample",
        title="A sample comparison",
        paper="arXiv:2602.01289",
        baseline="qdiffusion",
        digest="0" * 64,
        created="2026-11-22T12:00:00Z",
        environment={"python": "3.11"},
        protocol={"images": 512, "steps": 20, "grid": "uniform", "eta": 0.0, "image seed": 1234},
        cells=[full_precision(), *cells],
        published=[quoted] if published else [],
    )


def one_seed() -> RunRecord:
    """Two bit settings, one seed, one failed cell."""
    return run(
        cell("nearest", "W4A32", 0, (0.0412, 14.2, 61.3, 55.1, 0.0831)),
        cell("nearest", "W4A8", 0, (0.0583, 12.9, 80.4, 77.0, 0.1042)),
        cell("qdiffusion", "W4A32", 0, (0.00211, 24.1, 4.31, 0.81, 0.0029)),
        cell("qdiffusion", "W4A8", 0, (0.00323, 22.8, 5.02, 1.42, 0.0034)),
        cell("gacq", "W4A32", 0, (0.00188, 24.9, 4.22, 0.62, 0.0028)),
        failed("gacq", "W4A8", 0, "noise predictions are not finite at 3 of 20 timesteps\n  look at the ranges"),
    )


def two_seeds() -> RunRecord:
    """One bit setting, two calibration seeds, one of them failed for one method."""
    return run(
        cell("qdiffusion", "W4A8", 0, (0.00323, 22.8, 5.02, 1.42, 0.0034)),
        cell("qdiffusion", "W4A8", 1, (0.00343, 22.4, 5.22, 1.52, 0.0035)),
        cell("gacq", "W4A8", 0, (0.00213, 24.8, 4.90, 1.12, 0.0031)),
        cell("gacq", "W4A8", 1, (0.00233, 24.6, 5.10, 1.22, 0.0032)),
        cell("random", "W4A8", 0, (0.00523, 20.8, 7.02, 2.42, 0.0054)),
        failed("random", "W4A8", 1, "out of memory"),
        published=False,
    )


def _layer(name: str, bits: int, why: list[str], shape: list[int]) -> dict[str, object]:
    weight = {"bits": bits, "per": "channel", "symmetric": False, "steps": 1}
    activation = {"bits": 8, "per": "tensor", "symmetric": False, "steps": 1}
    return {"name": name, "kind": "conv", "weight": weight, "activation": activation, "why": why, "weight_shape": shape}
