"""Encoders: (B,12,T) millivolts and a presence vector in, (B,E) embedding out."""

from ecgedge_train.encoders.edgenet import EdgeNet
from ecgedge_train.encoders.resnet18 import ResNet18

__all__ = ["EdgeNet", "ResNet18"]
