"""Gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError

from ptqbench.testing.trial import Trial


def check_gradients(trial: Trial, what: str, function: Callable[..., Tensor], *at: Tensor, twice: bool = False) -> None:
    """`function` of tensors in double precision has the derivatives that autograd gives it, in reverse and in forward mode, and
    of second order if `twice`."""
    inputs = [x.detach().clone().requires_grad_() for x in at]
    try:
        with torch.random.fork_rng(devices=[]):
            gradcheck(function, inputs, fast_mode=True, check_forward_ad=True)
            if twice:
                gradgradcheck(function, inputs, fast_mode=True)
    except (GradcheckError, NotImplementedError) as error:
        remedy = "keep the dtype of inputs, avoid detach(), and let a backward() and a jvp() of your own give the derivative"
        raise trial.fault(f"has other gradients than finite differences: its {what}", remedy) from error
