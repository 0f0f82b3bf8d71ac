import math

import pytest
import torch
from torch.nn.functional import normalize

from pretraining.codecs import column
from pretraining.objectives.siglip import siglip_loss
from pretraining.train import train
from tests.pretraining.made import made
from tests.pretraining.objectives.test_clip import two_factors


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def naive(image, text, scale, bias):
    total = 0.0
    for i, u in enumerate(image):
        for j, v in enumerate(text):
            cosine = float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))
            total -= math.log(sigmoid((1 if i == j else -1) * (scale * cosine + bias)))
    return total / len(image)


def test_two_pairs_with_one_skewed_text_give_the_worked_value():
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # Cosines 1 and 0.8 of the pairs, 0.6 and 0 of the others; scale 10, bias -5.
    pairs = math.log(1 + math.exp(-5)) + math.log(1 + math.exp(-3))
    others = math.log(1 + math.exp(1)) + math.log(1 + math.exp(-5))
    assert pairs + others == pytest.approx(1.375280, abs=1e-6)
    loss = siglip_loss(torch.eye(2), text, 10.0, -5.0)
    assert loss.item() == pytest.approx((pairs + others) / 2, rel=1e-6)


def test_the_loss_is_that_of_a_double_loop_and_ignores_lengths_and_order():
    image, text = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1))
    loss = siglip_loss(image, text, 3.0, -2.0)
    assert loss.item() == pytest.approx(naive(image, text, 3.0, -2.0), rel=1e-5)
    other = torch.tensor([3, 1, 0, 6, 5, 2, 4])
    torch.testing.assert_close(siglip_loss(9 * image[other], text[other] / 7, 3.0, -2.0), loss)


def test_loss_and_gradients_are_those_of_open_clip():
    from contracts import _torchvision  # noqa: F401  # isort: skip
    from open_clip.loss import SigLipLoss

    def theirs(image, text, scale, bias):
        return SigLipLoss()(normalize(image), normalize(text), scale, bias)

    rng = torch.Generator().manual_seed(2)
    image, text = torch.randn(2, 16, 8, generator=rng)
    given = [image, text, torch.tensor(10.0), torch.tensor(-10.0)]
    found = []
    for loss in (siglip_loss, theirs):
        value = loss(*(x.requires_grad_() for x in given))
        found.append([value, *torch.autograd.grad(value, given)])
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-6)


def test_scale_and_bias_start_as_told():
    objective = made("siglip", {"temperature": 0.2, "bias": -4.0})
    assert objective.log_scale.exp().item() == pytest.approx(5)
    assert objective.bias.item() == -4
    objective = made("siglip")
    assert objective.log_scale.item() == pytest.approx(math.log(10))
    assert objective.bias.item() == -10


def test_training_finds_the_caption_of_unseen_images_where_fresh_weights_do_not():
    images, texts = two_factors(0, 512)
    unseen, answers = two_factors(10_000, 240)
    # One pair in six is right here, where the batch has a caption ten times: not one in 64.
    objective = made("siglip", {"bias": -3.0}, "small_cnn", {"width": 8}, seed=0)
    tokens = column(objective.codecs["text"], texts)
    choices = sorted(set(texts))

    @torch.no_grad()
    def accuracy():
        objective.eval()
        vectors = objective.text_encoder(column(objective.codecs["text"], choices))
        cosine = objective.image_encoder(unseen) @ normalize(vectors).T
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
