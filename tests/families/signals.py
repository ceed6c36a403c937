"""Networks over time: recurrent, and convolutions in one and three dimensions."""

import torch
from torch import nn
from torch.nn import functional

from tests.families.family import Family, classified, seeded


class SequenceClassifier(nn.Module):
    """Two LSTM layers; the last step's state goes to a linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 24, num_layers=2, batch_first=True)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        return self.fc(self.lstm(x)[0][:, -1])


class AudioNet(nn.Module):
    """Strided convolutions over two channels of samples, one grouped. Log-probabilities (b, 6)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(2, 16, 9, stride=4, padding=4, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Conv1d(16, 32, 5, stride=2, padding=2, groups=4, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Conv1d(32, 32, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.fc = nn.Linear(32, 6)

    def forward(self, x):
        return torch.log_softmax(self.fc(self.features(x).mean(2)), dim=1)


class VideoNet(nn.Module):
    """Three 3 x 3 x 3 convolutions over frames, the second strided in space alone."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.Conv3d(8, 12, 3, stride=(1, 2, 2), padding=1, bias=False),
            nn.BatchNorm3d(12),
            nn.ReLU(),
            nn.Conv3d(12, 16, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3, 4)))


def _smoothed(model, batch):
    """Mean cross-entropy with targets smoothed by 0.1: a loss that no name stands for."""
    inputs, targets = batch
    return functional.cross_entropy(model(inputs), targets, label_smoothing=0.1)


FAMILIES = {
    "lstm": Family(seeded(SequenceClassifier), classified((12, 8), 5), "cross_entropy"),
    "conv1d-audio": Family(seeded(AudioNet), classified((2, 128), 6), "nll"),
    "conv3d-video": Family(seeded(VideoNet), classified((3, 4, 8, 8), 5), _smoothed),
}
