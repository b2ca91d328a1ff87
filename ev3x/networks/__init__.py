"""Networks that grow: written once as trees of arrays, and run as modules of Flax Linen or of Flax NNX."""

from __future__ import annotations

from .base import Network as Network
from .mlp import MLP as MLP
from .resnet import ResNet as ResNet
