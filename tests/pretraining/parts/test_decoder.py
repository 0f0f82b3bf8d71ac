import pytest
import torch

from contracts.errors import ConfigError
from pretraining.parts.decoder import Decoder
from pretraining.parts.transformer import grid_positions

KEEP = torch.tensor([[0, 4], [5, 2]])


def decoder():
    return Decoder(12, 7, width=8, depth=2, heads=2).eval()


@torch.no_grad()
def test_kept_tokens_lie_on_their_places_and_one_vector_on_all_others():
    module, tokens = decoder(), torch.randn(2, 3, 12)
    expected = []
    for item, kept in zip(tokens, KEEP.tolist(), strict=True):
        rows = [module.mask] * 6
        for vector, place in zip(item[1:], kept, strict=True):
            rows[place] = module.narrow(vector)
        rows = torch.stack(rows) + grid_positions((2, 3), 8, tokens.device)
        x = torch.cat([module.narrow(item[:1]), rows])[None]
        for block in module.blocks:
            x = block(x)
        expected.append(module.head(module.norm(x[0, 1:])))
    found = module(tokens, KEEP, (2, 3))
    assert found.shape == (2, 6, 7)
    torch.testing.assert_close(found, torch.stack(expected))


@torch.no_grad()
def test_the_order_of_kept_tokens_is_nothing_and_a_class_token_is_looked_at():
    module, tokens = decoder(), torch.randn(2, 2, 12)
    found = module(tokens, KEEP, (2, 3))
    torch.testing.assert_close(module(tokens.flip(1), KEEP.flip(1), (2, 3)), found)
    first = torch.randn(2, 1, 12)
    other = module(torch.cat([first, tokens], dim=1), KEEP, (2, 3))
    assert other.shape == found.shape
    assert not torch.allclose(other, found, atol=1e-3)


def test_a_gradient_reaches_every_weight_and_every_token():
    module, tokens = decoder(), torch.randn(2, 3, 12, requires_grad=True)
    module(tokens, KEEP, (2, 3)).square().sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.abs().sum(2).min() > 0
    for name, weight in module.named_parameters():
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("width", "heads"), [(10, 2), (12, 5)])
def test_a_width_that_does_not_divide_is_refused(width, heads):
    with pytest.raises(ConfigError, match=f"decoder_width: {width} is no multiple"):
        Decoder(12, 7, width=width, depth=1, heads=heads)
