"""Circular garbage: not looked for meanwhile, and as before afterwards, also after an error."""

from __future__ import annotations

import gc

import pytest

from ptqbench.process.garbage import uncollected


@pytest.mark.parametrize("wanted", [True, False])
def test_the_search_is_off_meanwhile_and_then_as_before(wanted):
    before = gc.isenabled()
    (gc.enable if wanted else gc.disable)()
    try:
        with pytest.raises(ImportError), uncollected():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == wanted
    finally:
        (gc.enable if before else gc.disable)()
