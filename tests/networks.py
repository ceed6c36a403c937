"""Small networks that several tests use."""

import torch
from torch import nn


class LanguageModel(nn.Module):
    """A head tied to an embedding that comes first."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(torch.tanh(self.embed(x).sum(1)))
