"""TensorFlow Serving's command line and config files, turned into settings and lists of models."""
