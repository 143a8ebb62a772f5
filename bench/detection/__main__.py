"""Power, false alarms, delay and cost of the detector, against the classical methods.

Every trial splits the data again and holds one topic out. Power is the share of windows above a
threshold. For every method, 1 % of the windows without drift exceed that threshold. "alarm" is the
calibrated `Detector.alarm`.

These methods were tried and did not help, on new topics and on other odds of known topics:

- whitened T^2 of cluster shares, of random Fourier features (kernel Fisher discriminant) and of
  rectified similarities to anchors: below T^2 of the mean;
- novelty tails, the share of vectors beyond the reference's own 90 to 99.8 % quantile of residual
  energy or of the distance to the nearest cluster: almost no power up to a share of 10 %;
- the largest Poisson score of one cluster's share: below `direction`;
- T^2 in the leading 8 to 128 axes, or weighted by the variance between clusters along each axis:
  below the ridge, and below `topics` on odds;
- the plain distance of centroids: below `topics`; anchors that average ten neighbours: below
  plain vectors; two more exponents between centroid and T^2: no gain in the combination;
- the smallest p-value times the number of tests: below the mean of 1/p.

A kernel over all pairs of vectors that keeps only close pairs finds more topics of 5 %. But it is
not a function of running sums, and an approximation with a thousand anchors is much weaker.
"""

from __future__ import annotations

import sys

import exporter  # noqa: F401  (one BLAS thread, before numpy)

# isort: split
from bench.detection.alarms import false_alarms, sessions
from bench.detection.cost import cost
from bench.detection.data import digits, sentences
from bench.detection.oracle import oracle
from bench.detection.power import power
from bench.detection.ratio import ratio
from bench.detection.season import season
from bench.detection.stream import delay, quiet


def main(quick: bool) -> None:
    """Print all tables."""
    for dataset in (sentences(), digits()):
        power(dataset, trials=3 if quick else 12, windows=2 if quick else 6)
        ratio(dataset, trials=3 if quick else 8, windows=2 if quick else 5)
        false_alarms(dataset, trials=4 if quick else 25, windows=25 if quick else 40)
    unit = sentences()
    oracle(unit, trials=3 if quick else 12, windows=2 if quick else 12)
    sessions(unit, trials=1 if quick else 8)
    quiet(unit, months=1 if quick else 3, days=2 if quick else 30)
    delay(unit, trials=1 if quick else 5)
    season(unit, trials=1 if quick else 3, days=2 if quick else 14)
    cost(quick)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
