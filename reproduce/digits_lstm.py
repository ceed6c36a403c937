"""A recurrent network for scikit-learn's digits: it reads an image row after row."""

from pathlib import Path
from typing import final

from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digits_lstm.safetensors")


@final
class DigitsLSTM(nn.Module):
    """(n, 1, 8, 8) to the logits of ten classes, (n, 10); 18,432 + 640 weights that compete."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Classify by the state after the last row."""
        states, _ = self.lstm(images.squeeze(1))
        logits: Tensor = self.head(states[:, -1])
        return logits


def network() -> nn.Module:
    """Return the network as `train_digits.py` trained it."""
    model = DigitsLSTM()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()
