"""Tensors of the core say their dtype and device: who set torch's defaults last has no part in numbers."""

from __future__ import annotations

import ast
from pathlib import Path

CORE = Path(__file__).parent.parent / "ptqbench"

CONSTRUCTORS = frozenset(
    (
        "arange",
        "as_tensor",
        "empty",
        "eye",
        "full",
        "linspace",
        "logspace",
        "normal",
        "ones",
        "rand",
        "randint",
        "randn",
        "randperm",
        "range",
        "scalar_tensor",
        "tensor",
        "tril_indices",
        "triu_indices",
        "zeros",
    )
)
"""Functions of torch that make a tensor from numbers; those that end in `_like` take both from another tensor."""


def unsaid(source: str) -> list[str]:
    """Calls of torch's constructors without dtype or device, as "line: name lacks dtype"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CONSTRUCTORS):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"):
            continue
        said = {keyword.arg for keyword in node.keywords}
        found += [f"{node.lineno}: {node.func.attr} lacks {what}" for what in ("dtype", "device") if what not in said]
    return found


def test_what_lacks_dtype_or_device_is_found():
    assert unsaid("x = torch.zeros(3)") == ["1: zeros lacks dtype", "1: zeros lacks device"]
    assert unsaid("x = torch.randn(3, dtype=d, device=d), torch.zeros_like(y), numpy.zeros(3)") == []


def test_every_constructor_of_the_core_says_its_dtype_and_device():
    # Benchmarks, trials of plugins and an author's templates make no number of a record.
    files = sorted(path for path in CORE.rglob("*.py") if path.parent.name not in ("benchmarks", "testing", "templates"))
    assert len(files) > 50
    assert [f"{path.relative_to(CORE)}:{what}" for path in files for what in unsaid(path.read_text(encoding="utf-8"))] == []
