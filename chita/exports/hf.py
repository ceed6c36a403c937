"""A folder for `from_pretrained`, with nothing of ours in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from chita.errors import OutputError
from chita.exports import hugging_face
from chita.exports.checks import same_tensors
from chita.exports.kind import Checked, Kind, Pruned, count
from chita.models.hugging_face import without_bars
from chita.naming import plain_name
from chita.runtimes.compare import difference
from chita.runtimes.inputs import reference


@final
class HuggingFace(Kind):
    """Configuration, tokenizer and weights as transformers saves them."""

    name = "hf"
    suffix = ""
    about = "a folder for from_pretrained: configuration, tokenizer, weights"

    def unfit(self, pruned: Pruned) -> str | None:
        """Networks of transformers alone."""
        if hugging_face.is_hugging_face(pruned.called()[0]):
            return None
        return (
            f"{type(pruned.network).__name__} is no network of transformers, so from_pretrained "
            "cannot read it. Export it as dense."
        )

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """By `save_pretrained`, large networks in several files.

        `from_pretrained` must give the same tensors to the bit, and the same outputs.
        """
        network, inputs = pruned.called()
        own: Any = network
        path.mkdir()
        with without_bars():
            own.save_pretrained(path)
        hugging_face.save(network, path)
        read: Any = type(network)
        with without_bars():
            again = read.from_pretrained(path).eval()
        found = {plain_name(n): t.detach() for n, t in again.state_dict().items()}
        same_tensors(self, pruned.tensors, found)
        gap = difference(reference(network, inputs), reference(again, inputs))
        if not gap.within():
            raise OutputError(f"from_pretrained gives other outputs, by {gap.value:.2g}.")
        nnz = count({name: found[name] != 0 for name in pruned.masks})
        return Checked(nnz=nnz, difference=gap.value)
