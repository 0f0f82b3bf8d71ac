import math

import pytest
import torch

from contracts.errors import ConfigError
from pretraining.objectives.voco import cosines, crops_at, overlaps, parting_loss, voco_loss
from pretraining.train import moment_at
from tests.pretraining.made import batch_of, made


def test_a_crop_at_a_corner_of_four_parts_has_a_quarter_in_each():
    [[shares]] = overlaps(torch.tensor([[[2, 2]]]), (4, 4), 3).tolist()
    assert shares == [0.25, 0.25, 0, 0.25, 0.25, 0, 0, 0, 0]


def test_a_crop_that_is_a_part_has_all_in_it_and_shares_always_add_up_to_1():
    starts = torch.tensor([[[4 * row, 6 * column] for row in range(3) for column in range(3)]])
    assert torch.equal(overlaps(starts, (4, 6), 3)[0], torch.eye(9))
    anywhere = torch.cartesian_prod(torch.arange(9), torch.arange(13))[None]
    torch.testing.assert_close(overlaps(anywhere, (4, 6), 3).sum(2), torch.ones(1, 117))


def test_shares_are_those_of_counted_voxels():
    volume = torch.zeros(1, 1, 1, 12, 12)
    parts = torch.arange(9).reshape(3, 3).repeat_interleave(4, 0).repeat_interleave(4, 1)
    volume[0, 0, 0] = parts
    starts = torch.randint(0, 9, (1, 20, 2), generator=torch.Generator().manual_seed(0))
    crops = crops_at(volume, starts, (4, 4)).flatten(2)
    counted = torch.stack([(crops == part).float().mean(2) for part in range(9)], dim=2)
    torch.testing.assert_close(overlaps(starts, (4, 4), 3), counted)


@pytest.mark.parametrize(
    ("shares", "found", "near", "far"),
    [
        ([0.25] * 4 + [0.0] * 5, [0.5] * 4 + [0.2] * 5, 0.287680, 0.04),
        ([1.0] + [0.0] * 8, [0.5] + [0.0] * 8, 0.693145, 0.0),
    ],
)
def test_the_loss_of_one_crop_is_that_of_the_paper(shares, found, near, far):
    terms = voco_loss(torch.tensor([[found]]), torch.tensor([[shares]]))
    assert [term.item() for term in terms] == pytest.approx([near, far], abs=2e-6)


def test_the_loss_is_that_of_loops_over_volumes_crops_and_parts():
    rng = torch.Generator().manual_seed(1)
    starts = torch.randint(0, 9, (3, 2, 2), generator=rng)
    shares = overlaps(starts, (4, 4), 3)
    one, other = torch.randn(3, 2, 5, generator=rng), torch.randn(3, 9, 5, generator=rng)
    found = cosines(one, other)
    near = weight = far = none = 0.0
    for volume in range(3):
        for crop in range(2):
            for part in range(9):
                a, b = one[volume, crop], other[volume, part]
                s = max(0.0, float(a @ b / (a.norm() * b.norm())))
                y = float(shares[volume, crop, part])
                if y > 0:
                    near -= y * math.log(1 - abs(y - s) + 1e-6)
                    weight += y
                else:
                    far, none = far + s * s, none + 1
    terms = voco_loss(found, shares)
    assert [term.item() for term in terms] == pytest.approx([near / weight, far / none], abs=1e-5)


def test_equal_parts_cost_1_and_parts_at_right_angles_nothing():
    equal = torch.ones(1, 2, 4)
    assert parting_loss(equal).item() == pytest.approx(1)
    apart = torch.eye(4)[None]
    assert parting_loss(apart).item() == 0
    three = torch.tensor([[[1.0, 0], [1, 1], [-1, 0]]])
    # Squared cosines of 1/2, of -1 and of less than 0: these count as nothing.
    assert parting_loss(three).item() == pytest.approx(0.5 / 3)


def test_no_gradient_reaches_the_teacher_and_it_follows_with_its_momentum():
    objective = made("voco")
    before = [weight.clone() for weight in objective.teacher.parameters()]
    objective(batch_of(objective), moment_at(1, 4, seed=0))["loss"].backward()
    assert all(weight.grad is None for weight in objective.teacher.parameters())
    with torch.no_grad():
        for weight in objective.head.parameters():
            weight += 1
    objective.after_step(moment_at(1, 4, seed=0))
    moved = zip(objective.teacher.parameters(), before, strict=True)
    gone = {round(float((now - then).mean()), 3) for now, then in moved}
    assert gone == {0.0, 0.1}


def test_parts_are_cut_row_by_row_and_changed_within_bounds():
    objective = made("voco", {"hidden": 16, "flip_ratio": 0.0, "intensity": 0.0})
    x = batch_of(objective)["volume"]
    parts = objective._parts(x)
    assert torch.equal(parts[:, 5], x[..., 4:8, 8:12])
    assert torch.equal(objective._changed(parts, moment_at(0, 4, seed=0)), parts)
    objective.flip_ratio, objective.intensity = 1.0, 0.0
    flipped = objective._changed(parts, moment_at(0, 4, seed=0))
    assert torch.equal(flipped, parts.flip(3, 4, 5))
    objective.flip_ratio, objective.intensity = 0.0, 0.1
    changed = objective._changed(torch.ones_like(parts), moment_at(0, 4, seed=0))
    assert 0.8 <= changed.min() < 0.9
    assert 1.1 < changed.max() <= 1.2


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"grid": 5}, "5 parts do not tile volumes of 12 rows and 12 columns"),
        ({"grid": 4}, "patches of 2 voxels do not tile a volume of 4 x 3 x 3"),
    ],
)
def test_a_grid_that_does_not_fit_is_said(parameters, said):
    with pytest.raises(ConfigError, match=said):
        made("voco", parameters)


def test_where_a_crop_of_a_body_lies_is_learned():
    objective = made("voco", {"hidden": 32, "flip_ratio": 0.0, "intensity": 0.0})
    rng = torch.Generator().manual_seed(0)
    # One body, and what each volume adds to it.
    body = torch.rand(objective.encoder.codec.shape, generator=rng)
    x = (body + 0.1 * torch.randn(16, *body.shape, generator=rng)).clamp(0, 1)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    near, placed = [], []
    for step in range(40):
        moment = moment_at(step, 40, seed=0)
        found = objective({"volume": x}, moment)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        objective.after_step(moment)
        near.append(found["near"].item())
        placed.append(found["placed_ratio"].item())
    assert sum(near[-10:]) < 0.8 * sum(near[:10])
    assert sum(placed[-10:]) > sum(placed[:10])
