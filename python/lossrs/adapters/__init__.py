"""The accumulator where people score already: TorchMetrics, Hugging Face's Trainer, scikit-learn.

Each module needs the library that it is for, and is imported by name: ``from lossrs.adapters.torchmetrics import
LossMetric``.
"""
