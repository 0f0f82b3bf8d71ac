"""What a protocol is: a function from vectors or clusters to the metrics that it declares."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import update_wrapper
from typing import Annotated, Any, Generic, ParamSpec, get_type_hints

from numpy.typing import ArrayLike

from contracts.errors import ContractError
from contracts.report import Metric
from evaluation.features import Dense, Features, Items

P = ParamSpec("P")
Directions = Mapping[str, bool | None]

# What a protocol may ask for: the annotation of a positional parameter says which.
Train = Annotated[Features, "one half of the labelled records, to learn from"]
Test = Annotated[Features, "the other half; no group of records is in both"]
Labelled = Annotated[Features, "labelled pictures, each with the row of its class in Classes"]
Classes = Annotated[ArrayLike, "the vector of each class's name"]
Images = Annotated[ArrayLike, "the picture of each record that has a text too"]
Texts = Annotated[ArrayLike, "the text of each of them"]
Groups = Annotated[ArrayLike, "the group of each of them: any of a group is right"]
Vectors = Annotated[ArrayLike, "the vectors of one tower, of both halves"]
TestGroups = Annotated[ArrayLike, "what `groups` says of each record of Test"]
Clusters = Annotated[ArrayLike, "the cluster of each record of the pool that has a label"]
Labels = Annotated[ArrayLike, "the label of each record of Vectors, or of Clusters"]
Nats = Annotated[ArrayLike, "what each text costs under the language model, -log p in nats"]
Bytes = Annotated[ArrayLike, "how many bytes of it were told, NaN where that is not known"]
ChoiceNats = Annotated[
    ArrayLike,
    "what each choice of a question costs after its text, (N, K), NaN where there is none",
]
ChoiceBytes = Annotated[ArrayLike, "how many bytes it has, likewise"]
Answers = Annotated[ArrayLike, "which choice is right, counted from 0"]
Trainable = Annotated[
    Callable[[], Any], "makes a torch module: the encoder that was trained, free to train further"
]
TrainItems = Annotated[Items, "the records of Train, as the encoder reads them"]
TestItems = Annotated[Items, "those of Test"]
TrainDense = Annotated[Dense, "one half of the pictures with a label image, as grids of vectors"]
TestDense = Annotated[Dense, "the other half"]
INPUTS: tuple[Any, ...] = (
    Train, Test, Labelled, Classes, Images, Texts, Groups, Vectors, TestGroups, Clusters, Labels,
    Nats, Bytes, ChoiceNats, ChoiceBytes, Answers, Trainable, TrainItems, TestItems,
    TrainDense, TestDense,
)  # fmt: skip


class Protocol(Generic[P]):
    """A function with what it asks for and what it measures; calling it checks what it returns.

    Attributes:
        function: the function.
    """

    def __init__(
        self,
        function: Callable[P, dict[str, Metric]],
        metrics: Directions | Callable[..., Directions],
    ) -> None:
        self.function, self._metrics = function, metrics
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Metric]:
        """Return the metrics, each with its declared direction.

        Raises:
            ContractError: others are returned than are declared, or one is not finite.
        """
        bound = inspect.signature(self.function).bind(*args, **kwargs)
        bound.apply_defaults()
        declared = self.metrics(bound.kwargs)
        found = self.function(*args, **kwargs)
        if set(found) != set(declared):
            raise ContractError(
                f"{self.function.__name__} declares {sorted(declared)}, returns {sorted(found)}."
            )
        for name, metric in found.items():
            if not math.isfinite(metric.value):
                raise ContractError(f"{self.function.__name__}: {name} is {metric.value}.")
        return {n: replace(found[n], higher_is_better=way) for n, way in declared.items()}

    def metrics(self, parameters: Mapping[str, Any]) -> dict[str, bool | None]:
        """Return the names of what is measured under parameters, and whether more is better."""
        fixed = not callable(self._metrics)
        return dict(self._metrics if fixed else self._metrics(**parameters))  # type: ignore[operator,arg-type]

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The annotations of the positional parameters that have no default.

        Raises:
            ContractError: one is none of `INPUTS`.
        """
        hints = get_type_hints(self.function, include_extras=True)
        asked = [
            (name, hints.get(name))
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            and parameter.default is parameter.empty
        ]
        for name, hint in asked:
            if hint not in INPUTS:
                raise ContractError(
                    f"{self.function.__name__}: {name} is annotated {hint}; a protocol may ask for "
                    "the inputs of evaluation.protocol, such as Train and Test."
                )
        return tuple(hint for _, hint in asked)


def protocol(
    metrics: Directions | Callable[..., Directions],
) -> Callable[[Callable[P, dict[str, Metric]]], Protocol[P]]:
    """Declare what a function measures.

    Args:
        metrics: for each metric whether more is better, None where it is no score; or a function
            of the protocol's keyword-only parameters that returns this.
    """
    return lambda function: Protocol(function, metrics)
