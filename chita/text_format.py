"""The form in which a network takes text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from chita.arguments import whole_number
from chita.errors import InputError

LENGTH = 128  # tokens of a sequence, unless asked otherwise


@final
@dataclass(frozen=True, kw_only=True)
class TextFormat:
    """Text becomes token ids by the tokenizer of `name`, packed to sequences of `length` tokens.

    Fields: `name`, a path or an id; `length`, with the tokens that a sequence begins and ends with;
    `causal`, whether the network predicts the next token, so that every sequence is its own labels;
    `longest`, how many tokens it has positions for, None where that is not known.

    Raises `InputError` when the length cannot be used.
    """

    name: str
    causal: bool
    length: int = LENGTH
    longest: int | None = None

    def __post_init__(self) -> None:
        whole_number("length", self.length, at_least=8, meaning="tokens of a sequence")
        if self.longest is not None and self.length > self.longest:
            raise InputError(
                f"`length` is {self.length}, and {self.name} has positions for {self.longest} "
                "tokens. Give fewer."
            )
