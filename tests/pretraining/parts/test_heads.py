import pytest
import torch
from torch.nn.functional import normalize

from pretraining.parts.heads import PrototypeHead


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_prototype_head_gives_cosines_whatever_the_lengths_of_its_prototypes(batch_norm):
    head = PrototypeHead(6, 10, hidden=8, bottleneck=4, batch_norm=batch_norm)
    x = torch.randn(5, 6)
    found = head(x)
    expected = normalize(head.layers(x), dim=1) @ normalize(head.prototypes, dim=1).T
    torch.testing.assert_close(found, expected)
    assert found.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes *= torch.rand(10, 1) + 0.5
    torch.testing.assert_close(head(x), found)


def test_with_a_batch_norm_what_all_records_share_is_gone():
    x = torch.randn(16, 6) + 100
    spread = {}
    for batch_norm in (False, True):
        torch.manual_seed(0)
        head = PrototypeHead(6, 10, hidden=8, bottleneck=4, batch_norm=batch_norm)
        spread[batch_norm] = head(x).std(0).mean().item()
    assert spread[True] > 5 * spread[False]
