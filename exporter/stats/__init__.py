"""Statistics as pure functions of arrays, one statistic per module.

Start with `ks` and `wasserstein` for the distance of two samples, `quality` for one sample, and
`decomposition`, `slope` and `changepoint` for time series. All functions are public API, also
`ks.statistic` and `wasserstein.distance`, which the exporter itself does not call.
"""
