"""Every metric family of the exporter, once, as data.

The collector, the documentation, the rules' and the dashboards' contract tests all read this
table; a name or label that is not here does not exist.
"""

from __future__ import annotations

from typing import Literal

from ingest.runtime.family import Family

State = Literal[
    "ok",
    "no_baseline",
    "too_few_vectors",
    "stale",
    "dimension_changed",
    "baseline_too_small",
]
STATES: tuple[State, ...] = State.__args__  # type: ignore[attr-defined]

HistoryState = Literal["too_short", "gaps", "daily", "weekly"]
HISTORY_STATES: tuple[HistoryState, ...] = HistoryState.__args__  # type: ignore[attr-defined]

AGGREGATES = ("mean", "p95", "max")

_MODEL = ("model_name",)
_WINDOW = ("model_name", "window")

UP = Family(
    "embedding_drift_up",
    "gauge",
    "Whether the last poll of the store succeeded (1), or failed or does not end (0); the page "
    "shows what was read last.",
)
BUILD_INFO = Family(
    "embedding_drift_build_info",
    "gauge",
    "Always 1; the label carries the version of the exporter.",
    ("version",),
)
POLL_TIMESTAMP = Family(
    "embedding_drift_store_poll_timestamp_seconds",
    "gauge",
    "Time of the last successful poll of the store.",
)
POLL_DURATION = Family(
    "embedding_drift_store_poll_duration_seconds",
    "gauge",
    "Duration of the last successful poll of the store.",
)
POLL_FAILURES = Family(
    "embedding_drift_store_poll_failures_total",
    "counter",
    "Polls of the store that failed.",
)
CHECK_TIMESTAMP = Family(
    "embedding_drift_check_timestamp_seconds",
    "gauge",
    "Time of the last check (quality, exact comparison, history) that succeeded for every model.",
)
CHECK_FAILURES = Family(
    "embedding_drift_check_failures_total",
    "counter",
    "Checks that failed, for one model at least.",
)
MODELS = Family(
    "embedding_drift_models",
    "gauge",
    "Number of models that this exporter follows.",
)
SHARD_ORDINAL = Family(
    "embedding_drift_shard_ordinal",
    "gauge",
    "Which of the shards this exporter is, from 0; it follows that shard's models only.",
)
TOTAL_SHARDS = Family(
    "embedding_drift_total_shards",
    "gauge",
    "Shards that the models are shared between.",
)

DIMENSIONS = Family(
    "embedding_drift_dimensions",
    "gauge",
    "Number of components of the model's vectors.",
    _MODEL,
)
VECTORS = Family(
    "embedding_drift_vectors_total",
    "counter",
    "Vectors ever stored for the model.",
    _MODEL,
)
LAST_VECTOR_TIMESTAMP = Family(
    "embedding_drift_last_vector_timestamp_seconds",
    "gauge",
    "Time at which the model's newest vector was stored.",
    _MODEL,
)
BASELINE_VERSION = Family(
    "embedding_drift_baseline_version",
    "gauge",
    "Version of the baseline in use; absent while there is none.",
    _MODEL,
)
BASELINE_VECTORS = Family(
    "embedding_drift_baseline_vectors",
    "gauge",
    "Vectors in the baseline in use; absent while there is none.",
    _MODEL,
)
BASELINE_TIMESTAMP = Family(
    "embedding_drift_baseline_timestamp_seconds",
    "gauge",
    "Time at which the baseline in use was pinned.",
    _MODEL,
)
BASELINE_COSINE_SIMILARITY = Family(
    "embedding_drift_baseline_cosine_similarity",
    "gauge",
    "Mean cosine similarity of the baseline's vectors to their own centroid.",
    _MODEL,
)
BASELINE_SEASONAL = Family(
    "embedding_drift_baseline_seasonal",
    "gauge",
    "Whether the baseline spans a week (1), so that the score knows what is usual at an hour and "
    "weekday, or not (0).",
    _MODEL,
)

STATE = Family(
    "embedding_drift_state",
    "gauge",
    "Whether drift of the window can be told (state ok is 1) or why not; one state is 1.",
    (*_WINDOW, "state"),
)
SCORE = Family(
    "embedding_drift_score",
    "gauge",
    "Decades of surprise: a score of s is exceeded without drift by one window in 10^s.",
    _WINDOW,
)
COMPONENT_SCORE = Family(
    "embedding_drift_component_score",
    "gauge",
    "Decades of surprise of one component of the score alone (minus log10 of its p-value).",
    (*_WINDOW, "component"),
)
MAGNITUDE = Family(
    "embedding_drift_magnitude",
    "gauge",
    "Size of the drift: mean over dimensions of the Wasserstein-1 distance to the baseline, in "
    "baseline standard deviations.",
    _WINDOW,
)
KS_STATISTIC = Family(
    "embedding_drift_ks_statistic",
    "gauge",
    "Kolmogorov-Smirnov statistic against the baseline, aggregated over dimensions (0 to 1).",
    (*_WINDOW, "aggregate"),
)
WASSERSTEIN_DISTANCE = Family(
    "embedding_drift_wasserstein_distance",
    "gauge",
    "Wasserstein-1 distance to the baseline in baseline standard deviations, aggregated over "
    "dimensions.",
    (*_WINDOW, "aggregate"),
)
TOP_DIMENSION_WASSERSTEIN = Family(
    "embedding_drift_top_dimension_wasserstein_distance",
    "gauge",
    "Exact Wasserstein-1 distance, in baseline standard deviations, of each of the dimensions that "
    "moved furthest; only while the score is above 2, as of the last check.",
    (*_WINDOW, "dimension"),
)
COSINE_SIMILARITY = Family(
    "embedding_drift_cosine_similarity",
    "gauge",
    "Mean cosine similarity of the window's vectors to the baseline's centroid.",
    _WINDOW,
)
HISTORY_STATE = Family(
    "embedding_drift_history_state",
    "gauge",
    "Which seasons the history of the window's cosine similarity tells (daily or weekly), or why "
    "none; one state is 1.",
    (*_WINDOW, "state"),
)
COSINE_SIMILARITY_EXPECTED = Family(
    "embedding_drift_cosine_similarity_expected",
    "gauge",
    "Cosine similarity that trend and season foretold, a day ahead, for the last hour.",
    _WINDOW,
)
COSINE_SIMILARITY_LOWER = Family(
    "embedding_drift_cosine_similarity_lower",
    "gauge",
    "Lower end of the band around the expected cosine similarity: 3 robust deviations.",
    _WINDOW,
)
COSINE_SIMILARITY_UPPER = Family(
    "embedding_drift_cosine_similarity_upper",
    "gauge",
    "Upper end of the band around the expected cosine similarity: 3 robust deviations.",
    _WINDOW,
)
SEASONAL_ANOMALY = Family(
    "embedding_drift_seasonal_anomaly",
    "gauge",
    "How far the last hour's cosine similarity is from the expected one, in robust deviations of "
    "forecasts a day ahead; negative is less similar.",
    _WINDOW,
)
COSINE_SIMILARITY_SLOPE = Family(
    "embedding_drift_cosine_similarity_slope_per_day",
    "gauge",
    "Change per day of cosine similarity over the last two weeks, season taken out.",
    _WINDOW,
)
COSINE_SIMILARITY_TREND_SCORE = Family(
    "embedding_drift_cosine_similarity_trend_score",
    "gauge",
    "Decades of surprise of that change: minus log10 of its p-value, autocorrelation allowed for.",
    _WINDOW,
)
COSINE_SIMILARITY_CHANGE_TIMESTAMP = Family(
    "embedding_drift_cosine_similarity_change_timestamp_seconds",
    "gauge",
    "Time at which the level of cosine similarity stepped, in the last two weeks; absent without a "
    "step.",
    _WINDOW,
)
NORM = Family(
    "embedding_drift_norm",
    "gauge",
    "Mean Euclidean norm of the vectors; window is also baseline.",
    _WINDOW,
)
EFFECTIVE_RANK = Family(
    "embedding_drift_effective_rank",
    "gauge",
    "Dimensions that the vectors really use (participation ratio of the covariance's "
    "eigenvalues); window is also baseline.",
    _WINDOW,
)
DEAD_DIMENSIONS = Family(
    "embedding_drift_dead_dimensions",
    "gauge",
    "Dimensions that hardly vary among the vectors; window is also baseline.",
    _WINDOW,
)
DUPLICATE_RATIO = Family(
    "embedding_drift_duplicate_ratio",
    "gauge",
    "Share of vectors that equal an earlier one (0 to 1); window is also baseline.",
    _WINDOW,
)
WINDOW_VECTORS = Family(
    "embedding_drift_window_vectors",
    "gauge",
    "Vectors in the window.",
    _WINDOW,
)
WINDOW_START_TIMESTAMP = Family(
    "embedding_drift_window_start_timestamp_seconds",
    "gauge",
    "Time at which the oldest vector of the window was stored.",
    _WINDOW,
)
COLLECT_DURATION = Family(
    "embedding_drift_collect_duration_seconds",
    "gauge",
    "Time this scrape spent computing statistics.",
)

COLLECT_OVERDUE = Family(
    "embedding_drift_collect_overdue_windows",
    "gauge",
    "Windows whose statistics are those of an earlier scrape, to keep within Prometheus's timeout.",
)

FAMILIES = (
    UP,
    BUILD_INFO,
    POLL_TIMESTAMP,
    POLL_DURATION,
    POLL_FAILURES,
    CHECK_TIMESTAMP,
    CHECK_FAILURES,
    MODELS,
    SHARD_ORDINAL,
    TOTAL_SHARDS,
    DIMENSIONS,
    VECTORS,
    LAST_VECTOR_TIMESTAMP,
    BASELINE_VERSION,
    BASELINE_VECTORS,
    BASELINE_TIMESTAMP,
    BASELINE_COSINE_SIMILARITY,
    BASELINE_SEASONAL,
    STATE,
    SCORE,
    COMPONENT_SCORE,
    MAGNITUDE,
    KS_STATISTIC,
    WASSERSTEIN_DISTANCE,
    TOP_DIMENSION_WASSERSTEIN,
    COSINE_SIMILARITY,
    HISTORY_STATE,
    COSINE_SIMILARITY_EXPECTED,
    COSINE_SIMILARITY_LOWER,
    COSINE_SIMILARITY_UPPER,
    SEASONAL_ANOMALY,
    COSINE_SIMILARITY_SLOPE,
    COSINE_SIMILARITY_TREND_SCORE,
    COSINE_SIMILARITY_CHANGE_TIMESTAMP,
    NORM,
    EFFECTIVE_RANK,
    DEAD_DIMENSIONS,
    DUPLICATE_RATIO,
    WINDOW_VECTORS,
    WINDOW_START_TIMESTAMP,
    COLLECT_DURATION,
    COLLECT_OVERDUE,
)
