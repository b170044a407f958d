"""A layer in a module of its own, as users have them."""

from __future__ import annotations

import keras


@keras.saving.register_keras_serializable("tests")
class Tripling(keras.layers.Layer):
    def call(self, x):
        return 3 * x
