"""From a trained model to a version: one module for each framework, and `save`, which all of them end in."""
