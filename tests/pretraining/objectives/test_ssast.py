import math

import pytest
import torch

from contracts.errors import ConfigError
from pretraining.objectives.ssast import Ssast, picking_loss
from pretraining.train import moment_at
from tests.pretraining.made import SMALL, batch_of, made


def _objective(**parameters):
    return made("ssast", parameters)


def test_the_loss_of_two_patches_is_that_of_the_paper():
    # Over the candidates of a prediction; over the predictions of a patch it would be 0.410038.
    true = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    picked = torch.tensor([[[2.0, 1.0], [0.0, 1.0]]])
    loss, right = picking_loss(picked, true)
    assert loss.item() == pytest.approx(0.313262, abs=1e-6)
    assert right.item() == 1.0


def test_the_loss_is_that_of_loops_over_clips_and_patches():
    rng = torch.Generator().manual_seed(1)
    picked, true = (torch.randn(3, 5, 4, generator=rng) for _ in range(2))
    terms, hits = [], 0
    for clip in range(3):
        for patch in range(5):
            scores = [float(picked[clip, patch] @ true[clip, other]) for other in range(5)]
            terms.append(-scores[patch] + math.log(sum(map(math.exp, scores))))
            hits += scores[patch] == max(scores)
    loss, right = picking_loss(picked, true)
    assert loss.item() == pytest.approx(sum(terms) / 15, abs=1e-5)
    assert right.item() == pytest.approx(hits / 15)


def test_patches_of_other_clips_are_no_candidates():
    rng = torch.Generator().manual_seed(2)
    picked, true = (torch.randn(2, 5, 4, generator=rng) for _ in range(2))
    alone = [picking_loss(picked[i : i + 1], true[i : i + 1])[0] for i in range(2)]
    torch.testing.assert_close(picking_loss(picked, true)[0], torch.stack(alone).mean())


def test_the_terms_add_up_with_the_weight_of_what_is_rebuilt():
    for weight in (10.0, 2.5, 0.0):
        objective = _objective(generative_weight=weight)
        found = objective(batch_of(objective), moment_at(1, 4, seed=0))
        expected = found["discriminative"] + weight * found["generative"]
        torch.testing.assert_close(found["loss"], expected)
    assert Ssast.__init__.__kwdefaults__["generative_weight"] == 10.0


def test_what_is_hidden_is_never_seen(monkeypatch):
    objective = _objective()
    x = batch_of(objective)["audio"]
    seen = []
    tokens = objective.encoder.tokens

    def watching(x, *, replace):
        mask_BN, _ = replace
        grid = objective.encoder.grid(x)
        height, width = (side // of for side, of in zip(x.shape[-2:], grid, strict=True))
        squares = mask_BN.view(len(x), 1, *grid)
        spread = squares.repeat_interleave(height, 2).repeat_interleave(width, 3)
        found = tokens(x, replace=replace)
        assert torch.equal(found, tokens(torch.where(spread, 9.0, x), replace=replace))
        assert not torch.equal(found, tokens(torch.where(spread, x, 9.0), replace=replace))
        seen.append(mask_BN)
        return found

    monkeypatch.setattr(objective.encoder, "tokens", watching)
    objective({"audio": x}, moment_at(1, 4, seed=0))
    # A mask of its own for each term.
    assert len(seen) == 2
    assert not torch.equal(*seen)


def test_a_spectrogram_of_one_patch_is_refused():
    own = {**SMALL["spectrogram_transformer"], "patch_mels": 24, "patch_frames": 32}
    with pytest.raises(ConfigError, match="one patch, of which none could be hidden"):
        made("ssast", own=own, first="spectrogram_transformer")


@pytest.mark.parametrize("masks", ["clustered", "random"])
def test_as_many_patches_of_each_clip_are_hidden_as_the_ratio_says(masks, monkeypatch):
    objective = _objective(masks=masks, mask_ratio=0.75)
    counts = []
    tokens = objective.encoder.tokens
    monkeypatch.setattr(
        objective.encoder,
        "tokens",
        lambda x, *, replace: counts.append(replace[0].sum(1)) or tokens(x, replace=replace),
    )
    batch = batch_of(objective)
    objective(batch, moment_at(1, 4, seed=0))
    number = math.prod(objective.encoder.grid(batch["audio"]))
    assert all((count == round(0.75 * number)).all() for count in counts)


def test_patches_that_follow_from_their_neighbours_are_learned():
    objective = _objective()
    rng = torch.Generator().manual_seed(0)
    shape = objective.encoder.codec.shape
    # Clips of one level each: a hidden patch is known from any other.
    x = torch.randn(16, 1, 1, 1, generator=rng).expand(16, *shape).contiguous()
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        found = objective({"audio": x}, moment_at(step, 60, seed=0))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(found["generative"].item())
    assert losses[-1] < 0.3 * losses[0]
