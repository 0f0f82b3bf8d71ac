import math

import numpy as np
import pytest
import torch

from contracts.uid import uniform
from pretraining.codecs import column
from pretraining.objectives.clip import clip_loss
from pretraining.train import moment_at, train
from tests.pretraining.made import made


def naive(image, text, scale):
    cosine = [[float(u @ v) / math.sqrt(float(u @ u) * float(v @ v)) for v in text] for u in image]
    size = len(cosine)
    total = 0.0
    for i in range(size):
        by_row = sum(math.exp(scale * cosine[i][j]) for j in range(size))
        by_column = sum(math.exp(scale * cosine[j][i]) for j in range(size))
        total -= math.log(math.exp(scale * cosine[i][i]) / by_row)
        total -= math.log(math.exp(scale * cosine[i][i]) / by_column)
    return total / (2 * size)


def test_two_pairs_with_one_skewed_text_give_the_worked_value():
    image = torch.eye(2)
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    by_image = (math.log(1 + math.exp(-4)) + math.log(1 + math.exp(-8))) / 2
    by_text = (math.log(1 + math.exp(-10)) + math.log(1 + math.exp(-2))) / 2
    assert by_image == pytest.approx(0.009243, abs=1e-6)
    assert by_text == pytest.approx(0.063487, abs=1e-6)
    loss = clip_loss(image, text, 10.0).item()
    assert loss == pytest.approx((by_image + by_text) / 2, abs=1e-6)
    assert loss == pytest.approx(0.036365, abs=1e-6)


def test_a_batch_of_identical_pairs_costs_the_logarithm_of_its_size():
    same = torch.ones(6, 4)
    assert clip_loss(same, same, 50.0).item() == pytest.approx(math.log(6), rel=1e-6)


def test_the_loss_is_that_of_a_double_loop_and_ignores_lengths_and_order():
    image, text = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1))
    loss = clip_loss(image, text, 3.0)
    assert loss.item() == pytest.approx(naive(image, text, 3.0), rel=1e-5)
    other = torch.tensor([3, 1, 0, 6, 5, 2, 4])
    torch.testing.assert_close(clip_loss(9 * image[other], text[other] / 7, 3.0), loss)


def test_the_scale_starts_at_one_over_the_temperature_and_never_leaves_1_to_100():
    objective = made("clip", {"temperature": 0.1}, "small_cnn", {"width": 4}, seed=0)
    assert objective.log_scale.exp().item() == pytest.approx(10)
    for far, limit in ((9.0, 100.0), (-9.0, 1.0)):
        objective.log_scale.data.fill_(far)
        objective.after_step(moment_at(0, 1, seed=0))
        assert objective.log_scale.exp().item() == pytest.approx(limit)


def test_both_towers_end_in_the_joint_space():
    objective = made("clip", {"dim": 24}, "small_cnn", {"width": 4}, seed=0).eval()
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    tokens = column(objective.codecs["text"], ["a", "b", ""])
    assert objective.image_encoder(images).shape == (3, 24)
    assert objective.text_encoder(tokens).shape == (3, 24)
    assert objective.image_encoder.encoder(images).shape == (3, 16)


def two_factors(first, count):
    """Draw a coloured bar, lying or standing, in noise; its caption names both factors."""
    colours = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}
    uids = np.arange(first, first + count, dtype=np.uint64)
    colour = (3 * uniform(uids, 0, "colour")).astype(int)
    lying = uniform(uids, 0, "lying") < 0.5
    place = (20 * uniform(uids, 0, "place")).astype(int) + 4
    noise = np.random.default_rng(first).integers(0, 90, (count, 32, 32, 3))
    images = noise.astype(np.uint8)
    for image, c, across, p in zip(images, colour, lying, place, strict=True):
        box = (slice(p, p + 6), slice(2, 30))
        image[box if across else box[::-1]] = list(colours.values())[c]
    names = list(colours)
    texts = [
        f"a {names[c]} bar {'lying' if a else 'standing'}"
        for c, a in zip(colour, lying, strict=True)
    ]
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), texts


def test_training_finds_the_caption_of_unseen_images_where_fresh_weights_do_not():
    images, texts = two_factors(0, 512)
    unseen, answers = two_factors(10_000, 240)
    objective = made("clip", {}, "small_cnn", {"width": 8}, seed=0)
    tokens = column(objective.codecs["text"], texts)
    choices = sorted(set(texts))
    assert len(choices) == 6

    def accuracy():
        objective.eval()
        with torch.no_grad():
            tokens = column(objective.codecs["text"], choices)
            cosine = torch.nn.functional.normalize(objective.image_encoder(unseen)) @ (
                torch.nn.functional.normalize(objective.text_encoder(tokens)).T
            )
        found = [choices[i] == answer for i, answer in zip(cosine.argmax(1), answers, strict=True)]
        return sum(found) / len(found)

    def batches_from(start):
        for step in range(start, 60):
            rows = torch.randperm(512, generator=torch.Generator().manual_seed(step))[:64]
            yield {"image": images[rows], "text": tokens[rows]}

    fresh = accuracy()
    train(objective, batches_from, steps=60, lr=3e-3, seed=0)
    assert fresh < 0.5
    assert accuracy() > 0.9
