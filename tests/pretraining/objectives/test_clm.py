import math

import pytest
import torch

from contracts.tokens import SEPARATOR, START
from pretraining.parts import language
from pretraining.train import moment_at
from tests.pretraining.made import batch_of, made

MOMENT = moment_at(0, 4, seed=0)


@torch.no_grad()
def test_a_model_that_knows_nothing_costs_the_logarithm_of_the_vocabulary():
    objective = made("clm", {"tied": False})
    objective.head.weight.zero_()
    loss = objective(batch_of(objective), MOMENT)["loss"].item()
    assert loss == pytest.approx(math.log(objective.encoder.codec.size), rel=1e-6)


@torch.no_grad()
def test_each_token_costs_what_those_before_it_say_of_it():
    objective = made("clm").eval()
    codec = objective.encoder.codec
    texts = [[START, 40, 41, SEPARATOR], [START, 50, 51, 52, 53, 54]]
    tokens = torch.zeros(2, codec.shape[0], dtype=torch.int64)
    costs = []
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
        for place in range(1, len(text)):
            seen = torch.zeros_like(row)
            seen[:place] = row[:place]
            state = objective.encoder.tokens(seen[None])[0, place - 1]
            logits = objective.encoder.encoder.embed.weight @ state + objective.head.bias
            costs.append(-logits.log_softmax(0)[text[place]])
    loss = objective({"text": tokens}, MOMENT)["loss"]
    assert len(costs) == 3 + 5
    assert loss.item() == pytest.approx(torch.stack(costs).mean().item(), rel=1e-5)


@torch.no_grad()
def test_it_says_of_each_text_the_loss_the_tokens_and_the_bytes_that_these_stand_for():
    objective = made("clm").eval()
    codec = objective.encoder.codec
    long = "é" * 30
    texts = ["ab", "灰", long]
    tokens = torch.stack([torch.from_numpy(codec.encode(text)) for text in texts])
    found = objective.predict({"text": tokens})
    # Of 16 places one is the start, and a text that is cut has no separator.
    assert found["tokens"].tolist() == [3, 4, 15]
    assert found["bytes"].tolist() == [2, 3, 15]
    losses = [objective({"text": row[None]}, MOMENT)["loss"] for row in tokens]
    torch.testing.assert_close(found["loss"], torch.stack(losses))


def test_the_score_of_salt_is_the_median_loss_of_tokens_among_the_ten_likeliest():
    costs = torch.tensor([[0.1, 2.3, 0.7, 5.0, 9.0]]).repeat(2, 1)
    logits = torch.zeros(2, 5, 16)
    # Before the fourth token ten others are likelier, before the second nine.
    logits[:, 3, 1:11] = logits[:, 1, 1:10] = 1.0
    labels = torch.zeros(2, 5, dtype=torch.int64)
    labels[0, 4] = labels[1, 3] = labels[1, 4] = language.IGNORED
    # Of 0.1, 2.3, 0.7 and 0 the middle two are 0.1 and 0.7; padding counts for nothing.
    found = language.salt_score(logits, labels, costs)
    torch.testing.assert_close(found, torch.tensor([0.4, 0.7]))
    nothing = torch.full((1, 5), language.IGNORED)
    assert language.salt_score(logits[:1], nothing, costs[:1]).isnan().all()


@torch.no_grad()
def test_where_every_token_is_likely_the_score_of_salt_is_the_median_loss(
    monkeypatch: pytest.MonkeyPatch,
):
    objective = made("clm").eval()
    codec = objective.encoder.codec
    monkeypatch.setattr(language, "LIKELIEST", codec.size)
    row = torch.from_numpy(codec.encode("ab"))[None]
    logits, labels = language.next_tokens(objective.encoder, objective.head, row)
    costs = -logits[0, :3].log_softmax(1).gather(1, labels[0, :3, None])
    found = objective.predict({"text": row})["salt_score"].item()
    assert found == pytest.approx(costs.median().item(), rel=1e-5)
