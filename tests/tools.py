"""What several test files need beside the twins."""

import numpy as np


def rbm_constants(
    rate=0.1, decay=0.0, momentum=0.0, l2=0.0, l1=0.0, target=0.0, weight=0.0
):
    """Constants of an RBM's update in the order of the kernels."""
    return np.array([rate, decay, momentum, l2, l1, target, weight], dtype=float)
