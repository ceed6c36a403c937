"""Losses of a network's outputs against targets: batches are pairs (inputs, targets)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from chita import nested
from chita.errors import InputError, failures_as
from chita.losses.loss import Loss, Measure
from chita.models.forward import outputs_of

IGNORED = -100  # the class that torch's losses leave out
_FIT = "Give targets that fit."
_OFF = 1e-2  # of a sum of probabilities, which half types round
_OTHERS = (
    'For values give loss="mse"; for one logit or several yes-or-no labels a function such as '
    "lambda model, batch: binary_cross_entropy_with_logits(model(batch[0]), batch[1])."
)


class OutputLoss(Loss):
    """A loss of outputs and targets. The network is called by `models.forward.outputs_of`."""

    function: ClassVar[Callable[..., Tensor]]
    """The terms (b, ...) of outputs (b, ...) and targets (b, ...), by reduction="none"."""

    @abstractmethod
    def counts(self, terms: Tensor, targets: Tensor) -> Tensor:
        """Return how many terms of every sample (b,) count; the mean divides by their sum."""

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> Measure:
        """Return the measure of outputs against targets."""

    @abstractmethod
    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return targets drawn from the distribution whose negative log is the summed loss."""

    def compare(self, outputs: Tensor, targets: Tensor, size: int | None = None) -> Tensor:
        """Return the mean losses (r,) of rows of `size` samples each; None for one row of all."""
        terms = self.function(outputs, targets, reduction="none")
        losses = terms.flatten(1).sum(1) if terms.ndim > 1 else terms
        counts = self.counts(terms, targets)
        size = size or len(losses)
        return losses.view(-1, size).sum(1) / counts.view(-1, size).sum(1)

    def gradient(self, outputs: Tensor, targets: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return the mean losses (r,) of rows, and the gradient of their sum by the outputs."""
        leaf = outputs.detach().requires_grad_()
        with torch.enable_grad():
            losses = self.compare(leaf, targets, size)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), gradient

    def mean(self, model: nn.Module, batch: Any) -> Tensor:
        """The mean loss of the network's outputs against the targets."""
        inputs, targets = split(batch)
        return self.compare(outputs_of(model, inputs), targets).squeeze(0)

    def run(self, model: nn.Module, batch: Any) -> None:
        """Run the network on the inputs, without targets."""
        outputs_of(model, split(batch, labelled=False)[0])

    def measure(self, model: nn.Module, batch: Any) -> Measure:
        """`score` of the network's outputs and the targets."""
        inputs, targets = split(batch)
        return self.score(outputs_of(model, inputs), targets)

    def check(self, model: nn.Module, batch: Any, whole: Any) -> None:
        """Pairs of as many inputs as targets, and targets that fit the outputs."""
        if nested.count(split(whole)) is None:
            raise InputError(
                f"A batch {nested.described(whole)} has no single number of samples: the first "
                "sizes of inputs and targets must agree."
            )
        inputs, targets = split(batch)
        with torch.no_grad():
            outputs = outputs_of(model, inputs).detach()
            self.check_outputs(outputs)
            self.check_targets(outputs, split(whole)[1])
            with failures_as(InputError, self._failing(outputs, targets), _FIT):
                self.compare(outputs, targets)

    def _failing(self, outputs: Tensor, targets: Tensor) -> str:
        given = f"outputs {nested.described(outputs)} and targets {nested.described(targets)}"
        return f"The loss {self.name} fails on {given}"

    def check_outputs(self, outputs: Tensor) -> None:
        """Raise `InputError` when outputs are not what the loss is made for."""

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise `InputError` when targets do not fit outputs."""

    def relabelled(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Any:
        """The inputs with `draw`n targets."""
        inputs, given = split(batch, labelled=False)
        with torch.no_grad():
            outputs = outputs_of(model, nested.copied(inputs))
        outputs = outputs.detach()  # a network may enable gradients itself
        self.check_outputs(outputs)
        drawn = self.draw(outputs.cpu(), generator).to(outputs.device)
        return inputs, self.counted_alone(drawn, given)

    def counted_alone(self, drawn: Tensor, given: Tensor | None) -> Tensor:
        """Return drawn targets, with those left out that the data leave out."""
        return drawn


class _Classes(OutputLoss):
    """Targets are classes (b, ...), or class probabilities shaped as the outputs.

    There are two classes or more: a single logit, and values that are no probabilities, are refused
    with the losses that take them.
    """

    def counts(self, terms: Tensor, targets: Tensor) -> Tensor:
        """Return the number of positions (b,) of every sample whose class counts."""
        if targets.is_floating_point():
            positions = terms[0].numel() if len(terms) else 1
            return targets.new_full((len(targets),), positions)
        return (targets != IGNORED).flatten(1).sum(1) if targets.ndim > 1 else targets != IGNORED

    def score(self, outputs: Tensor, targets: Tensor) -> Measure:
        """The share of samples (or of positions) whose largest output is the target."""
        self._check_classes(outputs, targets)
        classes = targets.argmax(1) if targets.is_floating_point() else targets
        found = outputs.argmax(1)
        if classes.shape != found.shape:
            raise InputError(
                f"Accuracy needs outputs (batch, classes, ...) and targets (batch, ...); got "
                f"{tuple(outputs.shape)} for targets {tuple(targets.shape)}."
            )
        self.check_targets(outputs, targets)
        counted = classes != IGNORED
        what = {2: "top-1", 4: "pixel"}.get(outputs.ndim, "per-position")
        return Measure(
            name=f"{what} accuracy, per cent",
            total=100.0 * int(((found == classes) & counted).sum()),
            count=int(counted.sum()),
        )

    def counted_alone(self, drawn: Tensor, given: Tensor | None) -> Tensor:
        """Drawn classes, but the ignored class where the data have it."""
        if given is None or given.is_floating_point() or given.shape != drawn.shape:
            return drawn
        return torch.where(given == IGNORED, given, drawn)

    def check_outputs(self, outputs: Tensor) -> None:
        """(batch, classes, ...), of two classes or more: among one, it is always the right one."""
        if outputs.ndim < 2 or outputs.shape[1] < 2:
            raise InputError(
                f"{self.name} needs outputs (batch, classes, ...); got {tuple(outputs.shape)}. "
                f"There must be two classes or more. {_OTHERS}"
            )

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        """Classes within 0 to C - 1, or the one that is ignored; or probabilities of all."""
        self._check_classes(outputs, targets)
        if targets.is_floating_point() or not targets.numel():
            return
        counted = targets[targets != IGNORED]
        classes = outputs.shape[1]
        if len(counted) and (int(counted.min()) < 0 or int(counted.max()) >= classes):
            raise InputError(
                f"The targets run from {int(counted.min())} to {int(counted.max())}, but the "
                f"network has {classes} classes: they must lie in 0 to {classes - 1}, "
                f"or be {IGNORED}, the class that is left out."
            )

    def _check_classes(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise `InputError` when outputs or targets are not those of classes.

        Targets are whole numbers, or probabilities: at least 0, with the sum 1 in every sample.
        """
        _Classes.check_outputs(self, outputs)
        if not targets.is_floating_point():
            return
        if targets.shape[1:] != outputs.shape[1:]:
            why = "classes are whole numbers (targets.long()), probabilities shaped as the outputs"
            raise InputError(f"{self._failing(outputs, targets)}: {why}. {_FIT}")
        wide = targets.double()
        if bool((wide < -_OFF).any() | ((wide.sum(1) - 1).abs() > _OFF).any()):
            raise InputError(
                f"The targets, {nested.described(targets)}, are no probabilities of classes, which "
                f"are at least 0 and sum to 1 in every sample; {self.name} takes no other values. "
                f"{_OTHERS}"
            )

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Classes by their probabilities, one independent draw for every position."""
        classes_last = outputs.double().softmax(1).movedim(1, -1)
        drawn = torch.multinomial(classes_last.flatten(0, -2), 1, generator=generator)
        return drawn.view(classes_last.shape[:-1])


@final
class CrossEntropy(_Classes):
    """Mean cross-entropy (natural log) of logits (b, classes, ...).

    -log softmax at the target, by position; classes of -100 do not count.
    """

    name = "cross_entropy"
    function = staticmethod(nn.functional.cross_entropy)


@final
class NegativeLogLikelihood(_Classes):
    """Mean of the negative log-probabilities (b, classes, ...) at the targets.

    -output at the target, by position; classes of -100 do not count.
    """

    name = "nll"
    function = staticmethod(nn.functional.nll_loss)

    def check_outputs(self, outputs: Tensor) -> None:
        """Log-probabilities, which sum to one."""
        super().check_outputs(outputs)
        if float(outputs.double().logsumexp(1).abs().max()) > 1e-2:
            raise InputError(
                "nll needs log-probabilities, as log_softmax gives them; the network's outputs do "
                "not sum to one. Use the loss cross_entropy for logits."
            )


@final
class MeanSquaredError(OutputLoss):
    """Mean of (output - target)² over samples and entries, without ½."""

    name = "mse"
    function = staticmethod(nn.functional.mse_loss)

    def counts(self, terms: Tensor, targets: Tensor) -> Tensor:
        """Return the number of entries of every sample (b,)."""
        return terms.new_full((len(terms),), terms[0].numel())

    def score(self, outputs: Tensor, targets: Tensor) -> Measure:
        """The mean square."""
        self.check_targets(outputs, targets)
        return Measure(
            name="mean squared error",
            total=float((outputs.double() - targets.double()).square().sum()),
            count=targets.numel(),
        )

    def check_targets(self, outputs: Tensor, targets: Tensor) -> None:
        """Shaped as the outputs: nothing is broadcast."""
        if outputs.shape[1:] != targets.shape[1:]:
            raise InputError(
                f"mse needs targets shaped as the outputs; got outputs {tuple(outputs.shape)} and "
                f"targets {tuple(targets.shape)}."
            )

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Normal around the outputs with variance ½, whose negative log is the square."""
        noise = (
            torch.randn(outputs.shape, generator=generator, dtype=torch.float64, device="cpu")
            * 0.5**0.5
        )
        drawn: Tensor = (outputs + noise).to(outputs.dtype)
        return drawn


def split(batch: Any, *, labelled: bool = True) -> tuple[Any, Any]:
    """Return the inputs and the targets of a batch; targets may be absent unless `labelled`.

    Raises `InputError` when the batch is no pair of inputs and a tensor of targets.
    """
    match batch:
        case [inputs, Tensor() as targets]:
            return inputs, targets
        case [inputs, None] | [inputs] if not labelled:
            return inputs, None
        case Tensor() as inputs if not labelled:
            return inputs, None
    if isinstance(batch, Tensor) or (isinstance(batch, (tuple, list)) and len(batch) <= 2):
        raise InputError(
            f"A batch is {nested.described(batch)}, without a tensor of targets. Give pairs "
            '(inputs, targets), or draw them from the network with labels="model".'
        )
    raise InputError(
        f"A batch is {nested.described(batch)}; this loss takes pairs (inputs, targets), "
        "where several inputs are a tuple: ((a, b), targets). For batches of another structure "
        "give loss=callable(model, batch)."
    )
