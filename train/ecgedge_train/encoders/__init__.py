"""Encoders: (B, 12, T) millivolts and (B, 12) presence to (B, E) embeddings."""

from ecgedge_train.encoders.edgenet import EdgeNet
from ecgedge_train.encoders.pclr import PclrResNet
from ecgedge_train.encoders.resnet18 import ResNet18
from ecgedge_train.encoders.rhcnet import RhcNet
from ecgedge_train.encoders.w2v import W2vEncoder

__all__ = ["EdgeNet", "PclrResNet", "ResNet18", "RhcNet", "W2vEncoder"]
