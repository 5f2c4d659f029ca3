"""Numbers of metrics: announced, real, finite, with an interval and a count."""

import json

import numpy as np
import pytest
import torch
from boundarykit import answering, make

from ptqbench.errors import CellFailedError, PluginError
from ptqbench.evaluate.chunks import Chunks
from ptqbench.evaluate.evidence import Evidence
from ptqbench.evaluate.features import FeatureInfo
from ptqbench.roles.metric import Metric, MetricValue

IMAGES = Chunks.of(torch.zeros(4, 1, 2, 2, dtype=torch.uint8))
INFO = FeatureInfo("toy", {"pool": 4})
EVIDENCE = Evidence(
    IMAGES, IMAGES, lambda *_: None, INFO, torch.zeros(2, 3).double(), torch.arange(3), torch.ones(3).double(), False
)


def value(value=1.0, low=0.5, high=1.5, n=4, **more):
    return MetricValue(value, low, high, n, **more)


def compute(answer, **more):
    return make("metric", answering(Metric, **({"names": ["m"], "compute": answer} | more))).compute(EVIDENCE)


WRONG = {
    "not a number": ({"m": value(float("nan"))}, "gave nan as value of m", "CellFailedError"),
    "endless": ({"m": value(float("inf"))}, "gave inf as value of m", "CellFailedError"),
    "endless interval": ({"m": value(high=float("inf"))}, "gave inf as high of m", "CellFailedError"),
    "nan replicate": ({"m": value(replicates=[1.0, float("nan")])}, "gave nan as a replicate of m", "CellFailedError"),
    "nan detail": ({"m": value(detail={"steps": [float("nan")]})}, "gave nan as steps of m", "CellFailedError"),
    "unannounced": ({"other": value()}, "gave the number 'other'", "names() announces m"),
    "turned": ({"m": value(low=2.0)}, "gave m the interval from 2 to 1.5", "low is at most high"),
    "nothing counted": ({"m": value(n=0)}, "gave 0 as n of m", "from 1 on"),
    "half an image": ({"m": value(n=2.5)}, "gave 2.5 as n of m", "whole number"),
    "a tensor": ({"m": value(torch.tensor(1.0))}, "gave float32 () as value of m", "x.item()"),
    "complex": ({"m": value(1 + 0j)}, "gave complex as value of m", "real number"),
    "text": ({"m": value("1.0")}, "gave '1.0' as value of m", "real number"),
    "a bare float": ({"m": 1.0}, "gave 1.0 as m", "roles.metric.MetricValue"),
    "a list": ([value()], "returned list", "by name"),
    "no unit": ({"m": value(unit="")}, "gave '' as the unit of m", "plural"),
}


@pytest.mark.parametrize(("answer", "words", "remedy"), WRONG.values(), ids=WRONG)
def test_what_is_no_number_is_refused(answer, words, remedy):
    with pytest.raises(PluginError) as caught:
        compute(answer)
    assert caught.value.message.startswith(f'the metric "trial" of plugin "trial.py" {words}')
    assert remedy in caught.value.hint


def test_numbers_of_numpy_become_plain_ones_that_json_takes():
    made = {"m": value(np.float32(1), np.int64(0), np.float64(2), np.int64(4), replicates=np.ones(2), detail={"a": np.ones(2)})}
    (found,) = compute(made).values()
    assert json.loads(json.dumps(vars(found))) == vars(value(1.0, 0.0, 2.0, replicates=[1.0, 1.0], detail={"a": [1.0, 1.0]}))
    assert [type(x) for x in (found.value, found.low, found.n)] == [float, float, int]


def test_a_refusal_of_its_own_passes_as_it_is():
    def refuse(self, evidence):
        raise CellFailedError("too few images")

    with pytest.raises(CellFailedError, match=r"^too few images$"):
        compute(refuse)


NAMES = {
    "none": ([], "announced list as names"),
    "a string": ("m", "announced 'm' as names"),
    "twice": (["m", "m"], "announced a column twice: m, m"),
    "numbers": ([1], "announced list as names"),
}


@pytest.mark.parametrize(("names", "words"), NAMES.values(), ids=NAMES)
def test_names_are_a_list_of_different_strings(names, words):
    metric = make("metric", answering(Metric, names=names))
    with pytest.raises(PluginError) as caught:
        metric.names(INFO)
    assert words in caught.value.message


def test_what_a_metric_says_of_itself_is_looked_at_when_it_is_made():
    with pytest.raises(PluginError, match="has better = 'less'"):
        make("metric", type("Trial", (answering(Metric),), {"better": "less"}))
    with pytest.raises(PluginError, match="has reads = 'pool'"):
        make("metric", type("Trial", (answering(Metric),), {"reads": "pool"}))
