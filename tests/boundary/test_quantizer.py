"""Quantizers are held to the grid that they were asked for: bits, symmetry, step groups, dtype, what they export."""

import pytest
import torch
from boundarykit import make

from ptqbench.errors import PluginError
from ptqbench.quant.grid import Layout, QuantSpec
from ptqbench.quant.uniform import UniformQuantizer
from ptqbench.roles.range import RangeEstimator

X = torch.linspace(-1, 2, 64).reshape(4, 16)


class Extremes(RangeEstimator):
    """From the least to the greatest value that the last batch had."""

    def observe(self, values):
        self.ends = values.amin(1), values.amax(1)

    def grid(self):
        return self.levels.from_range(*self.ends)


def quantizer(found, spec=None, role="activation-quantizer", layout=None):
    spec = spec or QuantSpec(4)
    return make(
        role, found, spec=spec, layout=layout or Layout(), estimator=lambda: make("range", Extremes, levels=spec.levels)
    )


def frozen(found, spec=None, x=X, group=None, **more):
    made = quantizer(found, spec, **more)
    made.observe(x, group)
    made.freeze()
    return made


class Same(UniformQuantizer):
    def forward(self, x, group=None):
        return x


class Asymmetric(UniformQuantizer):
    """Ignores `symmetric`."""

    def __init__(self, options, *, spec, layout, estimator):
        super().__init__(options, spec=QuantSpec(spec.bits, spec.per, False, spec.steps), layout=layout, estimator=estimator)
        self.estimator, self.asked = estimator, spec

    def freeze(self):
        lo, hi = self._estimators[0].ends
        self._set(*(table[None] for table in self.spec.levels.from_range(lo, hi)))
        self.spec = self.asked


class OneRow(UniformQuantizer):
    """Quantizes all step groups on the first one's grid."""

    def forward(self, x, group=None):
        return super().forward(x, None if group is None else torch.zeros_like(group))


class OneGrid(UniformQuantizer):
    """Observes without regard to the step."""

    def observe(self, x, group=None):
        for slot in range(self.spec.steps):
            self._see(slot, x)


class OneTable(UniformQuantizer):
    """One row for all step groups."""

    def freeze(self):
        super().freeze()
        self.scale, self.zero_point = self.scale[:1], self.zero_point[:1]


class Wide(UniformQuantizer):
    """Twice as many levels as the bits allow."""

    def forward(self, x, group=None):
        return (x / self.scale).round().clamp(-40, 40) * self.scale


class Double(UniformQuantizer):
    def forward(self, x, group=None):
        return super().forward(x.double(), group)


class Flat(UniformQuantizer):
    def forward(self, x, group=None):
        return super().forward(x, group).flatten()


class Negative(UniformQuantizer):
    def _set(self, scale, zero_point):
        super()._set(-scale, zero_point)


class Between(UniformQuantizer):
    def _set(self, scale, zero_point):
        super()._set(scale, zero_point + 0.5)


class Nothing(UniformQuantizer):
    def export(self, x=None):
        return {}


class InPlace(UniformQuantizer):
    def forward(self, x, group=None):
        return x.copy_(super().forward(x, group))


STEPS = QuantSpec(4, steps=2)
GROUP = torch.tensor([0, 0, 1, 1])
SPREAD = X * torch.tensor([[1.0], [1.0], [8.0], [8.0]])
GRIDS = {
    "returns x": (Same, {}, "of 64 probed values between the levels of its grid", "at most 16 levels for each row"),
    "ignores symmetric": (Asymmetric, {"spec": QuantSpec(4, symmetric=True)}, "gave a zero point of", "symmetric: it is 0"),
    "first group's grid": (OneRow, {"spec": STEPS, "x": SPREAD, "group": GROUP}, "between the levels", "16 levels"),
    "one grid": (OneGrid, {"spec": STEPS, "x": SPREAD, "group": GROUP}, "gave all 2 step groups one grid", "group"),
    "one row": (OneTable, {"spec": STEPS, "x": SPREAD, "group": GROUP}, "gave float32 (1, 1) as scale", "(2, n)"),
    "too wide": (Wide, {}, "used the codes -", "a grid of 4 bits has 0..15"),
    "another dtype": (Double, {}, "made torch.float64 of torch.float32", "keep their dtype"),
    "another shape": (Flat, {}, "gave float32 (64,) as the quantized values", "(1, 64)"),
    "negative scale": (Negative, {}, "gave a scale of -", "above zero"),
    "zero point between codes": (Between, {}, "gave a zero point between two codes", "round it"),
    "in place": (InPlace, {}, "wrote into the values", "clone()"),
}


@pytest.mark.parametrize(("found", "given", "words", "remedy"), GRIDS.values(), ids=GRIDS)
def test_an_activation_quantizer_that_breaks_its_grid_is_refused(found, given, words, remedy):
    with pytest.raises(PluginError) as caught:
        frozen(found, **given)
    assert caught.value.message.startswith('the activation quantizer "trial" of plugin "trial.py" ')
    assert words in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize("spec", [QuantSpec(bits, symmetric=s) for bits in (2, 3, 8, 16) for s in (False, True)], ids=str)
def test_the_uniform_quantizer_passes_at_all_bits(spec):
    assert len(frozen(UniformQuantizer, spec)(X).unique()) <= 64


@pytest.mark.parametrize("axis", [None, 1, -1])
def test_a_probe_has_the_layout_of_the_site(axis):
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    frozen(UniformQuantizer, QuantSpec(4, "channel" if axis else "tensor", steps=2), x, GROUP, layout=Layout(axis))
    with pytest.raises(PluginError, match="between the levels"):
        frozen(Same, QuantSpec(4, "channel" if axis else "tensor", steps=2), x, GROUP, layout=Layout(axis))


def test_rows_of_one_grid_are_no_fault_where_values_are_alike():
    frozen(OneGrid, STEPS, X, GROUP)


class Codes(UniformQuantizer):
    """Exports what the class attribute says for codes."""

    made = staticmethod(lambda codes: codes)

    def codes(self, x):
        return type(self).made(super().codes(x))


CODES = {
    "too high": (lambda codes: codes + 1, "exported the codes 1..16", "has 0..15"),
    "between": (lambda codes: codes + 0.5, "codes that are no whole numbers", "round them"),
    "not finite": (lambda codes: codes / 0.0, "values that are not finite", "division"),
    "another shape": (lambda codes: codes[0], "exported int16 (16,) as codes", "(4, 16)"),
    "none": (lambda codes: None, "under 'codes'", "tensors"),
}


@pytest.mark.parametrize(("change", "words", "remedy"), CODES.values(), ids=CODES)
def test_codes_of_weights_are_integers_within_the_levels(change, words, remedy):
    made = frozen(type("Trial", (Codes,), {"made": staticmethod(change)}), role="weight-quantizer")
    with pytest.raises(PluginError) as caught:
        made.export(X)
    assert words in caught.value.message
    assert remedy in caught.value.hint


def test_a_quantizer_that_exports_no_grid_is_refused():
    made = quantizer(Nothing, role="weight-quantizer")
    made.observe(X)
    with pytest.raises(PluginError, match="exported no scale and no zero_point"):
        made.freeze()
