"""Activation functions, by their definitions and as the tools of VisualRBM approximate them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["APPROXIMATE", "EXACT", "approximate_products"]

Floats = NDArray[np.float32]
Function = Callable[[Floats], Floats]


def _linear(x: Floats) -> Floats:
    return x


def _rectified_linear(x: Floats) -> Floats:
    return np.maximum(x, np.float32(0))


def _sigmoid(x: Floats) -> Floats:
    # exp of a number that is not positive never overflows
    e = np.exp(-np.abs(x))
    found: Floats = np.where(x >= 0, np.float32(1), e) / (1 + e)
    return found


def _softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    found: Floats = e / e.sum(axis=-1, keepdims=True)
    return found


EXACT: dict[str, Function] = {
    "Linear": _linear,
    "RectifiedLinear": _rectified_linear,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
}

# --- VisualRBM's --------------------------------------------------------------------------------
#
# VisualRBM adds four lanes of products, computes a sigmoid by parabolas (an error of up to 0.021)
# and an exponential by the bits of a float.  Every step below is one of its steps in float32, so
# that the results are the same bits.

LANES = 4
SATURATION = np.float32(4)  # beyond it the sigmoid is 0 or 1
LOW, HIGH = np.float32(-87.336540), np.float32(88.722816)
LN_2, ONE, BIAS = np.float32(0.693147180559945309), np.float32(2**23), np.float32(127 * 2**23)


def approximate_products(x: Floats, weights: Floats) -> Floats:
    """Return ``x @ weights.T`` as VisualRBM sums it: four lanes, then in pairs."""
    more = -x.shape[1] % LANES
    x, weights = (np.pad(a, ((0, 0), (0, more))) for a in (x, weights))
    lanes = np.zeros((len(x), len(weights), LANES), np.float32)
    for at in range(0, x.shape[1], LANES):
        lanes += x[:, None, at : at + LANES] * weights[None, :, at : at + LANES]
    found: Floats = (lanes[..., 0] + lanes[..., 1]) + (lanes[..., 2] + lanes[..., 3])
    return found


def _approximate_sigmoid(x: Floats) -> Floats:
    sign = np.copysign(np.float32(1), x)
    off = np.minimum(np.abs(x), SATURATION) - SATURATION
    found: Floats = (sign + 1) / np.float32(2) + off * off / np.float32(-32) * sign
    return found


def _approximate_exp(x: Floats) -> Floats:
    bits = ONE * np.clip(x, LOW, HIGH) / LN_2 + BIAS
    found: Floats = np.rint(bits).astype(np.int32).view(np.float32)
    return found


def _approximate_softmax(x: Floats) -> Floats:
    e = _approximate_exp(x - x.max(axis=-1, keepdims=True))
    # lanes without a number take part in the sum, as exp of the least number
    least = _approximate_exp(np.array([LOW]))[0]
    more = np.full((len(e), -x.shape[1] % LANES), least, np.float32)
    blocks = np.concatenate([e, more], axis=1)
    lanes = np.zeros((len(e), LANES), np.float32)
    for at in range(0, blocks.shape[1], LANES):
        lanes += blocks[:, at : at + LANES]
    total: Floats = (lanes[:, 0] + lanes[:, 1]) + (lanes[:, 2] + lanes[:, 3])
    found: Floats = e / total[:, None]
    return found


APPROXIMATE: dict[str, Function] = {
    "Linear": _linear,
    "RectifiedLinear": _rectified_linear,
    "Sigmoid": _approximate_sigmoid,
    "Softmax": _approximate_softmax,
}
