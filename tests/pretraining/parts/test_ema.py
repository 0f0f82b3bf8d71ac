import pytest
import torch
from torch import nn

from pretraining.parts.ema import Ema, momentum_at


def test_it_begins_as_its_student_and_a_step_moves_it_by_the_rest_of_the_momentum():
    student = nn.Linear(1, 1)
    nn.init.zeros_(student.weight)
    teacher = Ema(student)
    x = torch.randn(4, 1)
    assert torch.equal(teacher(x), student(x))
    nn.init.ones_(student.weight)
    teacher.follow(student, 0.992)
    assert teacher.module.weight.item() == pytest.approx(0.008)
    teacher.follow(student, 0.5)
    assert teacher.module.weight.item() == pytest.approx(0.504)
    teacher.follow(student, 1.0)
    assert teacher.module.weight.item() == pytest.approx(0.504)


def test_it_has_no_gradient_and_its_state_is_in_the_state_dict():
    student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    teacher = Ema(student)
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert not teacher(torch.randn(4, 2)).requires_grad
    assert set(teacher.state_dict()) == {f"module.{name}" for name in student.state_dict()}
    # The batch was the teacher's alone.
    assert student[1].num_batches_tracked == 0
    assert teacher.module[1].num_batches_tracked == 1


def test_the_momentum_goes_to_one_on_half_a_cosine():
    assert momentum_at(0.0, 0.996) == pytest.approx(0.996)
    assert momentum_at(0.5, 0.996) == pytest.approx(0.998)
    assert momentum_at(1.0, 0.996) == pytest.approx(1)
