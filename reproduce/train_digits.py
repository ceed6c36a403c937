"""Train the two networks shipped in chita/models/weights, and a recurrent one (30 s, two cores).

Usage: python reproduce/train_digits.py
Only the calibration split is used; the evaluation split is measured once at the end. Label
smoothing keeps the loss away from zero, where a network's gradients say little about it.
"""

from pathlib import Path

import torch
from digits_lstm import WEIGHTS, DigitsLSTM
from safetensors.torch import save_file

import chita.models
from chita.data.digits import digits
from chita.models.digits import DigitsCNN, DigitsMLP
from chita.training.evaluate import evaluate

EPOCHS, BATCH = 60, 64
SHIPPED = Path(chita.models.__file__).parent / "weights"
NETWORKS = (
    (DigitsMLP, SHIPPED / "digits_mlp.safetensors"),
    (DigitsCNN, SHIPPED / "digits_cnn.safetensors"),
    (DigitsLSTM, WEIGHTS),
)


def main() -> None:
    """Train all, write all, print their accuracies."""
    calibration, evaluation = digits()
    for build, path in NETWORKS:
        torch.manual_seed(0)
        model = build()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
        steps = EPOCHS * (len(calibration) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        model.train()
        for _ in range(EPOCHS):
            order = torch.randperm(len(calibration))
            for index in order.split(BATCH)[: len(calibration) // BATCH]:
                inputs, targets = calibration.take(index).batch
                loss = torch.nn.functional.cross_entropy(
                    model(inputs), targets, label_smoothing=0.1
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        model.eval()
        save_file(model.state_dict(), path)
        path.chmod(0o644)
        print(f"{path.stem}: {evaluate(model, evaluation)} on the evaluation split")


if __name__ == "__main__":
    main()
