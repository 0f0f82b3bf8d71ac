"""What every objective is: a module that turns a batch and a moment into a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pretraining.codecs import Codec, LabelCodec, ValueCodec

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Moment:
    """Where training stands, and the only source of randomness an objective may use.

    Attributes:
        progress: share of the steps done, in [0, 1).
        rng: on the device of the batch, seeded by (seed, step), and by the part of a divided batch.
        rank: which of the processes that train together this is.
        ranks: how many there are; each has as many rows of the batch.
    """

    progress: float
    rng: torch.Generator
    rank: int = 0
    ranks: int = 1

    def rand(self, rows: int, *shape: int) -> Tensor:
        """Return numbers uniform in [0, 1), on the device of the batch; rows are records.

        They are drawn for the rows of all ranks, so that a record has its own whatever their
        number.
        """
        device = self.rng.device
        drawn = torch.rand(self.ranks * rows, *shape, generator=self.rng, device=device)
        return drawn[self.rank * rows :][:rows]


class Encoder(Protocol):
    """What an objective asks of an encoder: (B, ...) to (B, dim).

    One that tells its depth, which `layer_decay` needs, has `blocks` too, a ModuleList in the
    order in which they are computed, and `stem`, the names of what is computed before them.
    """

    codec: Codec
    dim: int

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return one vector of `dim` numbers for each item of the batch."""
        ...


class TokenEncoder(Encoder, Protocol):
    """An encoder that shows its tokens, as those over `pretraining.parts.transformer.Trunk` do.

    Attributes:
        class_tokens: how many stand in front; they are never kept, replaced or counted in N.
    """

    class_tokens: int

    @property
    def embed(self) -> nn.Module:
        """The module from x to (B, N, dim), before positions; of texts `weight` is (size, dim)."""
        ...

    def grid(self, x: Tensor, /) -> tuple[int, ...]:
        """Return the number of tokens along each axis; their product is N."""
        ...

    def tokens(
        self,
        x: Tensor,
        keep: Tensor | None = None,
        replace: tuple[Tensor, Tensor] | None = None,
        attend: Tensor | None = None,
        positions: bool = True,
        layers: tuple[int, ...] = (),
    ) -> Tensor:
        """Return (B, class_tokens + N, dim).

        Args:
            x: items of the batch.
            keep: int64 (B, K): only these of the N tokens run, in this order; K takes N's place.
            replace: bool (B, N), and vectors that expand to (B, N, dim), which stand for the
                embeddings where it is true. Of all N, as `attend` is.
            attend: bool, expands to (B, N, N): the query (second axis) may look at the key.
                Padding is never looked at.
            positions: false leaves them out.
            layers: blocks, counted from 0: the states after these instead, without the last norm,
                (L, B, class_tokens + N, dim).
        """
        ...

    def pool(self, tokens_BTD: Tensor, x: Tensor, /) -> Tensor:
        """Return (B, dim); x tells the padding."""
        ...


class PyramidEncoder(Encoder, Protocol):
    """An encoder that shows the outputs of its stages, as convolutional networks do.

    Attributes:
        widths: channels of each stage, the finest first.
        strides: pixels along a side of a place of each stage.
    """

    widths: tuple[int, ...]
    strides: tuple[int, ...]

    def stages(self, x: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        """Return (B, widths[i], H / strides[i], W / strides[i]) for each stage, the finest first.

        Args:
            x: items of the batch.
            keep: bool, (B, *the last grid): the places that are shown; the others are zero in every
                stage, and in no norm.
        """
        ...


@dataclass(frozen=True)
class Column:
    """A column of the batch beyond those that encoders read; the recipe binds it to an expression.

    Attributes:
        kind: `number`, float32 (B,); `label`, int64 (B,), texts numbered by their sorted names;
            `vector`, float32 (B, D); `label_image`, uint8 (B, H, W), the classes of the pixels of
            the first picture that a role reads, 255 for none. That is bound to no expression: it is
            what the source calls so, and a record without it ends the training.
        optional: whether it may be left unbound; the batch then lacks it.
        classes: of labels the parameter of the objective that says how many there are.
    """

    kind: Literal["number", "label", "vector", "label_image"]
    optional: bool = False
    classes: str | None = None

    def codec(self, name: str, dim: int | None = None) -> Codec:
        """Return how the value becomes a row; `dim` is of a vector, or the side of a picture."""
        if self.kind == "label_image":
            assert dim is not None
            return LabelCodec(dim)
        shape = () if dim is None else (dim,)
        return ValueCodec(name, shape, np.dtype(np.int64 if self.kind == "label" else np.float32))


@dataclass(frozen=True)
class WeightGroup:
    """Weights that an objective may update apart, with an optimizer's state of their own.

    Attributes:
        weights: names of submodules or of weights.
        lr: what the rate is multiplied by.
    """

    weights: tuple[str, ...]
    lr: float = 1.0


class Update(Protocol):
    """What `take_step` may do to the weights (`pretraining.update`)."""

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to those that are there."""
        ...

    def step(self, groups: Sequence[str] | None = None) -> None:
        """Change the weights by their gradients, those of these groups alone; clear these."""
        ...

    def snapshot(self) -> Mapping[str, Tensor]:
        """Return copies of the weights and of what the optimizers remember, of no buffer."""
        ...

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Go back to a snapshot, bit for bit."""
        ...


class Objective(nn.Module):
    """The base of all objectives; knows nothing of optimizers, devices, epochs or files.

    Views are made in `forward`, from the raw batch, with `moment.rng`. State that must survive
    a restart lives in parameters and buffers, so a checkpoint is the `state_dict`.

    The positional parameters are its roles: encoders, each annotated by a Protocol, by
    `Annotated[Encoder, "image"]` where what it reads matters. `build` says in `inputs` which
    column of the batch is a role's.

    Attributes:
        columns: further columns of the batch, by name.
        streams: which the batches are composed of, each with rows of its own, those of the first in
            front; the column `stream` says which a row is of. One that names none takes any.
        exports: the submodules that outlive training; each has `dim` and `codec`.
        fixed: the roles that are never trained, such as a teacher.
        heads: further submodules that outlive training, for `predict`.
        heads_of: by role the submodule that begins with the head of the file that the role's
            `weights` are of; as the role, it is trained or fixed.
        predicts: what `predict` returns: numbers, labels (whole numbers), or vectors.
        aligned: roles whose positions must agree, so that their codecs must be equal.
        parameter_groups: of weights that `take_step` updates apart; together they are all that is
            trained. A weight in two of them has two states.
        inputs: the column of the batch that a role reads.
        codecs: of each column that a role reads.
        places: the submodule that is a role's encoder.
        frozen: the submodules that are not trained and in no checkpoint, those of `fixed` among
            them.
        description: how `build` made it, enough to make it again; empty where it did not.
    """

    columns: ClassVar[Mapping[str, Column]] = {}
    streams: ClassVar[tuple[str, ...]] = ()
    exports: ClassVar[tuple[str, ...]] = ("encoder",)
    fixed: ClassVar[tuple[str, ...]] = ()
    heads: ClassVar[tuple[str, ...]] = ()
    heads_of: ClassVar[Mapping[str, str]] = {}
    predicts: ClassVar[Mapping[str, Literal["number", "label", "vector"]]] = {}
    aligned: ClassVar[tuple[str, ...]] = ()
    parameter_groups: ClassVar[Mapping[str, WeightGroup]] = {}
    inputs: Mapping[str, str]
    codecs: Mapping[str, Codec]
    places: Mapping[str, str]
    frozen: tuple[str, ...]
    description: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.codecs, self.places, self.frozen = {}, {}, {}, ()
        self.description = {}

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return `loss`, and any further scalars to log, as tensors without dimensions."""
        raise NotImplementedError

    def take_step(self, batch: Batch, moment: Moment, update: Update) -> dict[str, Tensor]:
        """Take one step of training; return what `forward` returns.

        One of one's own may look ahead, go back, and update some groups alone. It goes with no
        divided batch.
        """
        outputs: dict[str, Tensor] = self(batch, moment)
        update.backward(outputs["loss"])
        update.step()
        return outputs

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """Return what is to be said of each record, (B,) or (B, D), by the name of its column.

        It uses nothing but `exports` and `heads`, draws nothing, and no record's value depends
        on another record.
        """
        raise NotImplementedError

    def after_step(self, moment: Moment) -> None:
        """Do what follows the optimizer's step: clamp a temperature, move a teacher.

        To trained weights it does nothing twice that it does once: it follows a step that was not
        finite too, which has left them as they were.
        """
