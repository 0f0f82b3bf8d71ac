import math

import pytest
import torch

from pretraining.encoders.vit import ViT
from pretraining.encoders.words import Words
from pretraining.parts.transformer import Block, grid_positions, sine_cosine

# 2 x 3 tokens of a picture, and 5 tokens of two texts, the second with padding.
IMAGES = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
TEXTS = torch.tensor([[1, 9, 4, 7, 2], [1, 5, 3, 0, 0]])


def vit(**parameters):
    return ViT(width=16, depth=2, heads=2, patch_px=4, **parameters).eval()


def words(depth=2):
    return Words(width=16, depth=depth, heads=2, num_buckets=8, max_tokens=5).eval()


ENCODERS = {
    "vit": (vit, IMAGES),
    "vit with class tokens": (lambda: vit(class_tokens=2), IMAGES),
    "words": (words, TEXTS),
}
every_encoder = pytest.mark.parametrize(("make", "x"), list(ENCODERS.values()), ids=list(ENCODERS))


def naive(encoder, x, *, keep=None, attend=None):
    """One item and one query at a time, by hand, in loops; the last block's output, normed."""
    front = encoder.class_tokens
    rows = []
    for item in x.split(1):
        tokens = encoder.embed(item)[0] + encoder.positions_of(item)
        number = len(tokens)
        may = [[attend is None or bool(attend[q, k]) for k in range(number)] for q in range(number)]
        present = encoder.present(item)
        for row in may:
            for k in range(number):
                row[k] = row[k] and (present is None or bool(present[0, k]))
        of_class = [[True] * front + [any(row[k] for row in may) for k in range(number)]] * front
        may = of_class + [[True] * front + row for row in may]
        if front:
            tokens = torch.cat([encoder.class_token, tokens])
        places = list(range(front + number))
        if keep is not None:
            places = places[:front] + [front + int(k) for k in keep]
        states = [tokens[place] for place in places]
        for block in encoder.blocks:
            normed = [block.attention_norm(state) for state in states]
            parts = [block.query_key_value(state).view(3, block.heads, -1) for state in normed]
            mixed = []
            for (query, _, _), place in zip(parts, places, strict=True):
                seen = [part for part, k in zip(parts, places, strict=True) if may[place][k]]
                heads = []
                for h in range(block.heads):
                    scores = torch.stack([query[h] @ key[h] for _, key, _ in seen])
                    weights = (scores / math.sqrt(query.shape[1])).softmax(0)
                    heads.append(sum(w * v[h] for w, (_, _, v) in zip(weights, seen, strict=True)))
                mixed.append(torch.cat(heads))
            states = [s + block.attended(m) for s, m in zip(states, mixed, strict=True)]
            states = [s + block.perceptron(block.perceptron_norm(s)) for s in states]
        rows.append(torch.stack([encoder.norm(state) for state in states]))
    return torch.stack(rows)


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
    attend = torch.tensor([[[True, True, True, False]]])
    changed = x.clone()
    changed[:, 3] = 7.0
    torch.testing.assert_close(block(x, attend)[:, :3], block(changed, attend)[:, :3])
    torch.testing.assert_close(block(x, attend)[:, :3], block(x[:, :3]))
    blind = x + block.attended.bias
    expected = blind + block.perceptron(block.perceptron_norm(blind))
    torch.testing.assert_close(block(x, torch.zeros(4, 4, dtype=torch.bool)), expected)


def test_positions_turn_at_frequencies_from_one_down():
    code = sine_cosine(torch.tensor([0.0, 2.0]), 4)
    assert code[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    torch.testing.assert_close(code[1], torch.tensor(expected))


@torch.no_grad()
def test_a_grid_tells_the_place_along_each_axis():
    places = grid_positions((2, 3), 8, torch.device("cpu"))
    along = sine_cosine(torch.arange(3), 4)
    for n in range(6):
        row, column = divmod(n, 3)
        assert torch.equal(places[n], torch.cat([along[row], along[column]])), n
    assert torch.equal(grid_positions((3,), 4, torch.device("cpu")), along)
    assert len(grid_positions((2, 3, 4), 12, torch.device("cpu")).unique(dim=0)) == 24


def gradients(encoder, vectors):
    encoder.zero_grad()
    (vectors * torch.arange(encoder.dim)).square().sum().backward()
    return [weight.grad.clone() for weight in encoder.parameters()]


def test_a_vit_is_to_the_bit_what_it_was_before_there_was_a_trunk():
    encoder = vit()
    assert [n for n, _ in encoder.named_parameters()][:3] == [
        "patches.weight", "patches.bias", "blocks.0.attention_norm.weight",
    ]  # fmt: skip

    def before(images):
        convolved = torch.nn.functional.conv2d(
            2 * images - 1, encoder.patches.weight, encoder.patches.bias, stride=4
        )
        rows, columns = sine_cosine(torch.arange(2), 8), sine_cosine(torch.arange(3), 8)
        places = torch.cat([rows.repeat_interleave(3, 0), columns.repeat(2, 1)], dim=1)
        tokens = convolved.flatten(2).transpose(1, 2) + places
        for block in encoder.blocks:
            tokens = block(tokens)
        return encoder.norm(tokens).mean(1)

    old, new = before(IMAGES), encoder(IMAGES)
    assert torch.equal(old, new)
    assert all(map(torch.equal, gradients(encoder, old), gradients(encoder, new)))


@pytest.mark.parametrize("depth", [0, 2])
def test_words_are_to_the_bit_what_they_were_before_there_was_a_trunk(depth):
    encoder = words(depth)
    assert [n for n, _ in encoder.named_parameters()][:2] == ["embedding", "position"]

    def before(texts):
        present = texts != 0
        tokens = torch.nn.functional.embedding(texts, encoder.embedding) + encoder.position
        for block in encoder.blocks:
            tokens = block(tokens, present[:, None, :])
        weight = present[:, :, None].float()
        return (encoder.norm(tokens) * weight).sum(1) / weight.sum(1)

    old, new = before(TEXTS), encoder(TEXTS)
    assert torch.equal(old, new)
    assert all(map(torch.equal, gradients(encoder, old), gradients(encoder, new)))


def test_initial_weights_are_drawn_in_the_order_in_which_they_always_were():
    torch.manual_seed(3)
    block = [torch.nn.Conv2d(3, 16, 4, stride=4), *(Block(16, 2) for _ in range(2))]
    torch.manual_seed(3)
    encoder = vit()
    assert torch.equal(encoder.patches.weight, block[0].weight)
    assert torch.equal(encoder.blocks[1].attended.weight, block[2].attended.weight)


@every_encoder
@pytest.mark.parametrize("keep", [None, [3, 0, 2]])
@pytest.mark.parametrize("attended", ["all", "causal", "some"])
@torch.no_grad()
def test_tokens_are_those_of_a_loop_over_items_and_queries(make, x, keep, attended):
    encoder = make()
    number = math.prod(encoder.grid(x))
    attend = {
        "all": None,
        "causal": torch.ones(number, number, dtype=torch.bool).tril(),
        "some": torch.eye(number, dtype=torch.bool).roll(1, 0),
    }[attended]
    if attend is not None:
        attend[:, 0] = True  # the first is never padding and always kept: no query sees nothing
    kept = None if keep is None else torch.tensor([keep] * 2)
    tokens = encoder.tokens(x, keep=kept, attend=attend)
    expected = naive(encoder, x, keep=keep, attend=attend)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


@every_encoder
@torch.no_grad()
def test_every_item_keeps_tokens_of_its_own_and_all_kept_is_all(make, x):
    encoder = make()
    front, number = encoder.class_tokens, math.prod(encoder.grid(x))
    order = torch.stack([torch.arange(number), torch.arange(number).flip(0)])
    tokens, kept = encoder.tokens(x), encoder.tokens(x, keep=order)
    torch.testing.assert_close(kept[0], tokens[0])
    torch.testing.assert_close(kept[1, :front], tokens[1, :front])
    torch.testing.assert_close(kept[1, front:], tokens[1, front:].flip(0))


@torch.no_grad()
def test_a_kept_text_is_pooled_without_its_padding():
    encoder = words()
    keep = torch.tensor([[0, 2], [1, 4]])
    tokens = encoder.tokens(TEXTS, keep=keep)
    vectors = encoder.pool(tokens, TEXTS.gather(1, keep))
    torch.testing.assert_close(vectors[0], tokens[0].mean(0))
    torch.testing.assert_close(vectors[1], tokens[1, 0])


@every_encoder
@torch.no_grad()
def test_a_replaced_token_says_nothing_of_its_input_and_is_the_vector_given(make, x):
    encoder = make()
    number = math.prod(encoder.grid(x))
    chosen = torch.zeros(2, number, dtype=torch.bool)
    chosen[0, 1] = chosen[1, 0] = True
    other = x.clone()
    if x.ndim == 4:
        other[0, :, :4, 4:8] = 0.5
        other[1, :, :4, :4] = 0.5
    else:
        other[0, 1] = other[1, 0] = 6
    mask = torch.full((encoder.dim,), 0.3)
    hidden = encoder.tokens(x, replace=(chosen, mask))
    assert not torch.allclose(encoder.tokens(x), encoder.tokens(other))
    assert torch.equal(encoder.tokens(other, replace=(chosen, mask)), hidden)
    embedded = torch.where(chosen[..., None], mask, encoder.embed(x))
    everywhere = torch.ones_like(chosen)
    assert torch.equal(encoder.tokens(x, replace=(everywhere, embedded)), hidden)
    assert torch.equal(encoder.tokens(x, replace=(everywhere, encoder.embed(x))), encoder.tokens(x))


@pytest.mark.parametrize("make", [vit, words])
@torch.no_grad()
def test_under_a_causal_mask_no_token_depends_on_a_later_one(make):
    encoder = make()
    x = IMAGES if make is vit else torch.tensor([[1, 9, 4, 7, 2]] * 2)
    number = math.prod(encoder.grid(x))
    causal = torch.ones(number, number, dtype=torch.bool).tril()
    chosen = torch.arange(number).eq(3).expand(2, -1)
    tokens = encoder.tokens(x, attend=causal)
    changed = encoder.tokens(x, replace=(chosen, torch.ones(encoder.dim)), attend=causal)
    torch.testing.assert_close(changed[:, :3], tokens[:, :3])
    assert (changed[:, 3:] - tokens[:, 3:]).abs().amax(2).min() > 1e-3


@torch.no_grad()
def test_who_may_look_at_whom_may_be_given_for_all_or_for_each():
    encoder = vit(class_tokens=1)
    keys = torch.tensor([True, False, True, True, False, True])
    each = encoder.tokens(IMAGES, attend=keys.expand(2, 6, 6))
    assert torch.equal(encoder.tokens(IMAGES, attend=keys), each)
    everywhere = torch.tensor(True)
    torch.testing.assert_close(encoder.tokens(IMAGES, attend=everywhere), encoder.tokens(IMAGES))
    hidden = IMAGES.clone()
    hidden[:, :, :4, 4:8] = hidden[:, :, 4:, 4:8] = 0.0
    changed = encoder.tokens(hidden, attend=keys)
    seen = torch.cat([torch.tensor([True]), keys])
    torch.testing.assert_close(changed[:, seen], each[:, seen])
    assert not torch.allclose(changed, each)


@torch.no_grad()
def test_padding_has_no_influence_whatever_may_be_looked_at():
    encoder = words()
    everywhere = torch.ones(5, 5, dtype=torch.bool)
    before = encoder.tokens(TEXTS, attend=everywhere)
    encoder.embedding[0] = 9.0
    after = encoder.tokens(TEXTS, attend=everywhere)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1, :3], before[1, :3])
    assert not torch.equal(after[1, 3:], before[1, 3:])


@torch.no_grad()
def test_without_positions_the_order_of_tokens_is_not_seen():
    encoder = vit()
    mirrored = torch.cat([IMAGES[..., 4 * c : 4 * c + 4] for c in (2, 1, 0)], dim=3)

    def vector(x, positions):
        return encoder.pool(encoder.tokens(x, positions=positions), x)

    torch.testing.assert_close(vector(IMAGES, False), vector(mirrored, False))
    assert not torch.allclose(vector(IMAGES, True), vector(mirrored, True), atol=1e-3)


@every_encoder
@torch.no_grad()
def test_layers_are_the_states_after_these_blocks_the_last_one_before_the_norm(make, x):
    encoder = make()
    last, first = encoder.tokens(x, layers=(1, 0))
    assert torch.equal(encoder.norm(last), encoder.tokens(x))
    present = encoder.present(x)
    attend = None if present is None else present[:, None]
    assert torch.equal(encoder.blocks[1](first, attend), last)


@torch.no_grad()
def test_the_vector_is_the_mean_of_class_tokens_where_there_are_any():
    encoder, plain = vit(class_tokens=2), vit()
    assert encoder.tokens(IMAGES).shape == (2, 2 + 6, 16)
    torch.testing.assert_close(encoder(IMAGES), encoder.tokens(IMAGES)[:, :2].mean(1))
    torch.testing.assert_close(plain(IMAGES), plain.tokens(IMAGES).mean(1))
    assert set(encoder.state_dict()) - set(plain.state_dict()) == {"class_token"}


@every_encoder
def test_what_lies_below_the_blocks_is_the_stem(make, x):
    del x
    below = {name.partition(".")[0] for name, _ in make().named_parameters()} - {"blocks", "norm"}
    assert below <= set(make().stem) <= below | {"class_token"}
