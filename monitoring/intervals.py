"""95 % intervals: Wilson's for shares, the Bayesian bootstrap for everything else.

The Bayesian bootstrap (Rubin 1981, The Bayesian Bootstrap) weighs rows by independent exponential numbers where the
ordinary one counts how often each was drawn; the figure's quantiles over many such weightings are its interval. Rows
that fall into few cells are weighed cell by cell: the weight of a cell of n rows is Gamma(n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Numbers = NDArray[np.float64]

#: Two-sided 95 %.
_Z = 1.959963984540054
_TAILS = (0.025, 0.975)


def wilson_interval(successes: int, trials: int, z: float = _Z) -> Interval:
    """Wilson's score interval of a share (Wilson, 1927): right at 0 and 1, where the normal one is empty.

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n); `trials` must be positive.
    """
    share, shrink = successes / trials, z * z / trials
    centre = share + shrink / 2
    margin = z * math.sqrt(share * (1 - share) / trials + shrink / (4 * trials))
    return max(0.0, (centre - margin) / (1 + shrink)), min(1.0, (centre + margin) / (1 + shrink))


def percentile_interval(figure: float, draws: Sequence[float] | Numbers, scale: float = 1.0) -> Interval | None:
    """The middle 95 % of the draws, widened to hold the figure; None when they do not differ, and so tell nothing.

    Args:
        scale: what the draws' distance from the figure is multiplied by, where the figure is of more rows than they.
    """
    values = np.asarray(draws, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all() or np.ptp(values) <= 1e-12:
        return None
    low, high = np.quantile(values, _TAILS)
    return min(figure, figure + scale * (float(low) - figure)), max(figure, figure + scale * (float(high) - figure))
