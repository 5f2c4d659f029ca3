"""Sampling: an image is a function of its id, the seed and the model, and of nothing else."""

import pytest
import torch
from enginekit import cell_of, context, experiment, quantized

from ptqbench.sampling.rng import NoiseSource, stream
from ptqbench.sampling.sample import sample, shards, to_bytes

CPU = torch.device("cpu")


def images(predictor, ids, block="images"):
    return to_bytes(sample(predictor, ids, seed=3, block=block, device=CPU).clamp(-1, 1))


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["deterministic", "stochastic"])
def stochastic(request, cache):
    return context(cache, experiment(f"sampling.eta={request.param}"))


def test_images_do_not_depend_on_the_batch(stochastic):
    predictor = stochastic.predictor()
    whole = images(predictor, range(6))
    parts = torch.cat([images(predictor, piece) for piece in shards(6, 4)])
    assert torch.equal(whole, parts)
    assert torch.equal(images(predictor, [5]), whole[5:])
    assert torch.equal(images(predictor, [4, 1]), whole[[4, 1]])
    assert len({tuple(image.flatten().tolist()) for image in whole}) == 6


def test_images_of_a_quantized_model_do_not_depend_on_the_batch(ctx):
    q, _ = quantized(ctx, cell_of(ctx, "nearest"))
    predictor = ctx.predictor(q.module, q.context)
    whole = images(predictor, range(5))
    assert torch.equal(torch.cat([images(predictor, [i]) for i in range(5)]), whole)


def test_blocks_have_noise_of_their_own(ctx):
    assert not torch.equal(images(ctx.predictor(), [0]), images(ctx.predictor(), [0], block="probe"))


def test_noise_of_an_id_depends_on_neither_the_batch_nor_the_other_ids():
    alone, among = NoiseSource(7, "images", [3], (2, 2)), NoiseSource(7, "images", [9, 3, 0], (2, 2))
    for _ in range(3):
        first, second = alone.draw(), among.draw()
        assert torch.equal(first[0], second[1])
        assert not torch.equal(second[0], second[1])


def test_streams_are_functions_of_seed_name_and_scope():
    def draw(*args):
        return torch.randn(4, generator=stream(*args)).tolist()

    assert draw(0, "a") == draw(0, "a")
    assert len({tuple(draw(*args)) for args in [(0, "a"), (1, "a"), (0, "b"), (0, "a", "u"), (0, "a", "u", "v")]}) == 5


def test_each_step_is_seen_with_its_input_and_prediction(ctx):
    seen = []
    final = sample(ctx.predictor(), [0, 1], seed=3, block="x", device=CPU, on_step=lambda s, x, p: seen.append((s, x, p.eps)))
    assert [s for s, _, _ in seen] == list(range(5))
    s, x, eps = seen[-1]
    assert torch.equal(ctx.schedule.update(s, x, eps, None), final)
    label = ctx.schedule.timesteps[2].repeat(2)
    expected = ctx.model.call(ctx.model.denoiser, seen[2][1], label, {})
    torch.testing.assert_close(seen[2][2], expected)


def test_bytes_are_rounded_to_nearest_and_clamped():
    pixels = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0, 2 * 100.4 / 255 - 1, 2 * 100.6 / 255 - 1])
    assert to_bytes(pixels).tolist() == [0, 0, 128, 255, 255, 100, 101]


def test_shards_cover_all_ids_once():
    assert [list(s) for s in shards(5, 2)] == [[0, 1], [2, 3], [4]]
    assert shards(0, 2) == []
