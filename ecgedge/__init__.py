"""ecgedge: ECG encoders from unlabelled recordings to the bedside. Research use only."""

__version__ = "0.1.0"
