"""The detector."""

from exporter.detector.detector import Detector

__all__ = ["Detector"]
