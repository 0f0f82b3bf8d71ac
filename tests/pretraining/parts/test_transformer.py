import math

import torch

from pretraining.parts.transformer import Block, sine_cosine


@torch.no_grad()
def test_a_block_is_attention_by_hand_then_a_perceptron():
    block = Block(8, 2)
    x = torch.randn(3, 5, 8)
    normed = block.attention_norm(x)
    query, key, value = block.query_key_value(normed).split(8, dim=2)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ key[..., head].transpose(1, 2) / math.sqrt(4)
        heads.append(scores.softmax(2) @ value[..., head])
    mixed = x + block.attended(torch.cat(heads, 2))
    expected = mixed + block.perceptron(block.perceptron_norm(mixed))
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_no_token_sees_one_that_is_not_attended():
    block = Block(8, 2)
    x = torch.randn(1, 4, 8)
    attend = torch.tensor([[True, True, True, False]])
    changed = x.clone()
    changed[:, 3] = 7.0
    torch.testing.assert_close(block(x, attend)[:, :3], block(changed, attend)[:, :3])
    torch.testing.assert_close(block(x, attend)[:, :3], block(x[:, :3]))


def test_positions_turn_at_frequencies_from_one_down():
    code = sine_cosine(torch.tensor([0.0, 2.0]), 4)
    assert code[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    torch.testing.assert_close(code[1], torch.tensor(expected))
