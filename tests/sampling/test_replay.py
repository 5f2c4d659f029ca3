"""Which modules read which, and recordings that go on from outputs that are known, against whole passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ptqbench.sampling.capture import Recording, record, record_one
from ptqbench.sampling.links import tracing
from ptqbench.sampling.replay import Replay

TOTAL, BATCH = 7, 3
X = torch.randn(TOTAL, 4, 6, 6, generator=torch.Generator().manual_seed(0))
ALL = ["a", "b", "c", "d"]


class Net(nn.Module):
    """A chain of convolutions with a shortcut from `a` to `d`, views, in-place glue, and two outputs of `b`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.c, self.d = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.b = Two()
        self.ran: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        first = self.a(x)
        # Channels last, as attention leaves its maps.
        one, two = self.b(first.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
        middle = self.c(one * two.flatten(2).view_as(one))
        buffer = torch.zeros_like(middle)
        buffer[:, :2] += middle[:, :2]
        buffer.add_(first)
        return self.d(buffer)


class Two(nn.Module):
    """Two outputs, the first of which lies in memory in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.scale, (x + self.scale).contiguous()


def made(net: nn.Module, names: list[str] = ALL, budget: int = 10**9, batch: int = BATCH) -> Replay:
    modules = {name: net.get_submodule(name) for name in names}
    run = lambda piece: net(X[piece.start : piece.stop])  # noqa: E731
    with tracing(modules) as links:
        single = record_one(run, modules, inputs=True, outputs=True)
    return Replay(run, net, {name: name for name in names}, links, single, TOTAL, batch, budget)


def plain(replay: Replay, name: str) -> Recording:
    modules = {name: replay.network.get_submodule(name)}
    sizes: dict[str, Any] = {"total": replay.total, "batch": replay.batch}
    return record(replay.run, modules, replay.single, **sizes, inputs=True, outputs=False)[name][0]


def inputs(replay: Replay, names: list[str], position: int) -> Recording:
    """What the module at this position gets, everything before it settled."""
    name = names[position]
    how: dict[str, Any] = {"settled": names[:position], "later": names[position + 1 :]}
    return replay.record([name], **how, inputs=True, outputs=False)[name][0]


def equal(a: Recording, b: Recording) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.tensors, b.tensors, strict=True))


def test_links_follow_views_and_what_happens_in_place() -> None:
    links = made(Net()).links
    assert links.reads == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"a", "c"}}
    assert list(links.outputs) == ALL


def test_a_module_that_changes_its_input_in_place_is_never_left_out() -> None:
    class Changing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2) + 1

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(4, 4, 1), Changing(), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            first = self.a(x)
            return self.c(self.b(first) + first)

    names = ["a", "b", "c"]
    replay = made(Around(), names)
    assert list(replay.links.outputs) == ["a", "c"]
    for i in range(3):
        assert equal(inputs(replay, names, i), plain(replay, names[i]))


@pytest.mark.parametrize("batch", [2, 3, 7])
@pytest.mark.parametrize("budget", [0, TOTAL * 4 * 36 * 4, 10**9])
def test_inputs_have_the_same_bits_while_modules_change_one_after_the_other(batch: int, budget: int) -> None:
    net = Net()
    replay = made(net, budget=budget, batch=batch)
    for i, name in enumerate(ALL):
        assert equal(inputs(replay, ALL, i), plain(replay, name))
        assert sum(kept.filled * kept.bytes_per_sample for kept in replay.kept.values()) <= budget
        with torch.no_grad():
            for parameter in net.get_submodule(name).parameters():
                parameter.mul_(1.25)


def test_only_what_is_not_known_is_computed_and_only_what_is_read_is_kept() -> None:
    net, ran = Net(), []
    replay = made(net)
    for name in ALL:
        net.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        forward = net.get_submodule(name).forward

        def counted(*args: Any, forward: Any = forward, name: str = name) -> Any:
            ran.append(f"{name} computes")
            return forward(*args)

        net.get_submodule(name).forward = counted
    kept = []
    for i in range(len(ALL)):
        inputs(replay, ALL, i)
        kept.append(sorted(replay.kept))
    batches = -(-TOTAL // BATCH)
    assert [ran.count(f"{name} computes") for name in ALL] == [batches, batches, batches, 0]
    assert kept == [[], ["a"], ["a", "b"], ["a", "c"]]
    assert all(getattr(net.get_submodule(name).forward, "__name__", "") == "counted" for name in ALL)


def test_several_modules_at_once_go_on_from_the_group_before() -> None:
    replay = made(Net())
    first = replay.record(["a", "b"], settled=ALL, later=["c", "d"], inputs=True, outputs=True)
    second = replay.record(["c", "d"], settled=ALL, later=[], inputs=True, outputs=True)
    whole = made(Net()).record(ALL, settled=ALL, later=[], inputs=True, outputs=True)
    for name, found in {**first, **second}.items():
        assert equal(found[0], whole[name][0])
        assert equal(found[1], whole[name][1])
    assert replay.kept == {}


def test_what_the_traced_pass_did_not_show_is_computed_after_all() -> None:
    """The output of `b` counts for one sample in a batch and not for a single one."""

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            first = self.a(x)
            second = self.b(first)
            return self.c(first + second if len(x) > 1 else first)

    names = ["a", "b", "c"]
    replay = made(Hidden(), names)
    assert replay.links.reads["c"] == {"a"}
    for i in range(3):
        assert equal(inputs(replay, names, i), plain(replay, names[i]))


def test_a_module_that_is_called_twice_stands_in_for_its_first_call_only() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(self.a(x)))

    replay = made(Twice(), ["a", "b"])
    for _ in range(2):
        inputs(replay, ["a", "b"], 0)
        assert equal(inputs(replay, ["a", "b"], 1), plain(replay, "b"))


def test_modules_are_as_before_also_after_an_error() -> None:
    net = Net()
    replay = made(net)
    inputs(replay, ALL, 1)
    replay.run = lambda piece: 1 / 0
    with pytest.raises(ZeroDivisionError):
        inputs(replay, ALL, 2)
    assert all("forward" not in vars(module) and not module._forward_hooks for module in net.modules())
