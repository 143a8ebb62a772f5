"""Every metric family of the exporter, once: name, type, help, labels, and how it is read.

The collector, the documentation, and the tests of rules and dashboards read this table. A family
reads its samples from a snapshot. A value that is not known gives no sample: neither 0 nor NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metrics.shapes import (
    DEFINED,
    MODEL,
    SLICED,
    Sample,
    every_series,
    family,
    of_baseline,
    of_each,
    of_each_measured,
    of_examination,
    of_explanation,
    of_forecast,
    of_magnitude,
    of_measurement,
    of_model,
    of_models,
    of_process,
    of_quality,
    of_series,
    of_shares,
    seconds,
)
from exporter.monitor.snapshot import Snapshot
from exporter.monitor.verdict import AGGREGATES
from ingest.runtime.version import __version__
from ingest.store.changes import ModelRow
from ingest.store.explanations import ExplanationRow
from ingest.store.standbys import REPLICATIONS

RANKS = ("1", "2", "3")
"""Values of the label `rank`, of the groups that grew most."""
CANARY_AGGREGATES = ("median", "max")
"""How the distances of the canaries become two numbers."""


def _group_ratios(row: ExplanationRow) -> Iterator[tuple[str, float]]:
    grown = [each["share"] for each in row.told["groups"] if each["change"] == "grown"]
    return zip(RANKS, sorted(grown, reverse=True), strict=False)


def _summaries(snapshot: Snapshot) -> Iterator[Sample]:
    for each in every_series(snapshot, SLICED):
        if each.explanation is not None and snapshot.has_words:
            yield (*each.series, each.explanation.summary), 1.0


def _canary_distances(row: ModelRow) -> Iterator[tuple[str, float]]:
    distances = (row.canary_median_distance, row.canary_max_distance)
    for aggregate, distance in zip(CANARY_AGGREGATES, distances, strict=True):
        if distance is not None:
            yield aggregate, distance


UP = of_process(
    "embedding_drift_up",
    "gauge",
    "Whether the last poll of the store succeeded (1), or failed or hangs (0). If it stays 0, "
    "the state of all windows becomes not_followed.",
    lambda s: float(s.polls.up),
)
BUILD_INFO = family(
    "embedding_drift_build_info",
    "gauge",
    "Always 1; the label carries the version of the exporter.",
    ("version",),
    lambda _: [((__version__,), 1.0)],
)
POLL_TIMESTAMP = of_process(
    "embedding_drift_store_poll_timestamp_seconds",
    "gauge",
    "Time of the last successful poll of the store.",
    lambda s: s.polls.timestamp,
)
POLL_DURATION = of_process(
    "embedding_drift_store_poll_duration_seconds",
    "gauge",
    "Duration of the last successful poll of the store.",
    lambda s: s.polls.duration,
)
POLL_FAILURES = of_process(
    "embedding_drift_store_poll_failures_total",
    "counter",
    "Polls of the store that failed, for all models or for one.",
    lambda s: s.polls.failures,
)
STORE_REWINDS = of_process(
    "embedding_drift_store_rewinds_total",
    "counter",
    "Models whose windows were reloaded because the store was set back, as by a restore.",
    lambda s: s.polls.rewinds,
)
STORE_STANDBYS = family(
    "embedding_drift_store_standbys",
    "gauge",
    "Standbys that stream from the PostgreSQL that is written to, as of the last check. If none is "
    "synchronous, acknowledged vectors may be lost when one is promoted. The role may not see "
    "those that are hidden: it needs pg_monitor.",
    ("replication",),
    lambda s: (
        ()
        if s.standbys is None
        else (((each,), getattr(s.standbys, each)) for each in REPLICATIONS)
    ),
)
CHECK_TIMESTAMP = of_process(
    "embedding_drift_check_timestamp_seconds",
    "gauge",
    "Time of the last check that succeeded for every model. A check runs the examinations that are "
    "due and records the verdicts.",
    lambda s: s.checks.timestamp,
)
CHECK_INTERVAL = of_process(
    "embedding_drift_check_interval_seconds",
    "gauge",
    "Time between two checks, as configured.",
    lambda s: s.check_interval,
)
CHECK_FAILURES = of_process(
    "embedding_drift_check_failures_total",
    "counter",
    "Checks that failed, for one model at least.",
    lambda s: s.checks.failures,
)
EXAMINATION_SUCCESS = of_examination(
    "embedding_drift_examination_success",
    "Whether the examination succeeded for every model (1) or not (0) when it last ran.",
    lambda s, name: float(s.examinations[name].success),
)
EXAMINATION_DURATION = of_examination(
    "embedding_drift_examination_duration_seconds",
    "Time that the examination took when it last ran, for the models that were due.",
    lambda s, name: s.examinations[name].duration,
)
MODELS = of_process(
    "embedding_drift_models",
    "gauge",
    "Number of models that this exporter follows.",
    lambda s: len(s.models) + s.missing,
)
MODELS_MISSING = of_process(
    "embedding_drift_models_missing",
    "gauge",
    "Models that this exporter follows but could not judge at this scrape. Their series are "
    "absent; the log has the errors.",
    lambda s: s.missing,
)
SHARD_ORDINAL = of_process(
    "embedding_drift_shard_ordinal",
    "gauge",
    "Number of this exporter's shard, from 0. It follows the models of that shard only.",
    lambda s: s.shard.ordinal,
)
TOTAL_SHARDS = of_process(
    "embedding_drift_total_shards",
    "gauge",
    "Number of shards that share the models.",
    lambda s: s.shard.total,
)

DIMENSIONS = of_model(
    "embedding_drift_dimensions",
    "gauge",
    "Number of components of the model's vectors.",
    lambda m: m.row.dimension,
)
VECTORS = of_model(
    "embedding_drift_vectors_total",
    "counter",
    "Vectors ever stored for the model.",
    lambda m: m.row.last_seq,
)
LAST_VECTOR_TIMESTAMP = of_model(
    "embedding_drift_last_vector_timestamp_seconds",
    "gauge",
    "Time at which the model's newest vector was stored.",
    lambda m: seconds(m.row.last_received_at),
)
MISMATCH_TIMESTAMP = of_models(
    "embedding_drift_dimension_mismatch_timestamp_seconds",
    "gauge",
    "Time at which vectors with another number of components (the label dimensions) were last "
    "refused; absent without any, or since somebody resolved it.",
    ("model_name", "dimensions"),
    lambda m: (
        ()
        if m.row.mismatch is None
        else [((m.row.model_name, str(m.row.mismatch[0])), m.row.mismatch[1].timestamp())]
    ),
)
FOLLOWED_TIMESTAMP = family(
    "embedding_drift_followed_timestamp_seconds",
    "gauge",
    "Time up to which the windows have every vector that was acknowledged for the model.",
    MODEL,
    # Of the snapshot, because it changes with every poll.
    lambda s: (((m.row.model_name,), m.following.followed_at) for m in s.models),
)
VECTORS_BEHIND = of_model(
    "embedding_drift_vectors_behind",
    "gauge",
    "Acknowledged vectors of the model that were not followed at the last poll of the store.",
    lambda m: m.following.behind,
)
NOT_FOLLOWED = of_models(
    "embedding_drift_not_followed",
    "gauge",
    "Why the model is not followed (1); absent while it is. The state of its windows is then "
    "not_followed.",
    ("model_name", "reason"),
    lambda m: () if m.not_followed is None else [((m.row.model_name, m.not_followed), 1.0)],
)
BASELINE_VERSION = of_baseline(
    "embedding_drift_baseline_version",
    "Version of the baseline in use; absent while there is none.",
    lambda b: b.version,
)
BASELINE_VECTORS = of_baseline(
    "embedding_drift_baseline_vectors",
    "Vectors in the baseline in use; absent while there is none.",
    lambda b: b.detector.n_reference,
)
BASELINE_TIMESTAMP = of_baseline(
    "embedding_drift_baseline_timestamp_seconds",
    "Time at which the baseline in use was pinned.",
    lambda b: b.pinned_at.timestamp(),
)
BASELINE_COSINE_SIMILARITY = of_baseline(
    "embedding_drift_baseline_cosine_similarity",
    "Mean cosine similarity of the baseline's vectors to their own centroid.",
    lambda b: b.detector.reference_cosine_similarity,
)
BASELINE_STAGE = of_models(
    "embedding_drift_baseline_stage",
    "gauge",
    "How much of the usual traffic the baseline has seen (1 for its stage): less than a day "
    "(provisional), a day or more (daily), a week or more (weekly).",
    ("model_name", "stage"),
    lambda m: () if m.baseline is None else [((m.row.model_name, m.baseline.stage), 1.0)],
)
BASELINE_WAITS = of_models(
    "embedding_drift_baseline_waits",
    "gauge",
    "What the next baseline of the model waits for (1): the end of a day or week (time) or of one "
    "without drift (drift), more vectors (vectors), more vectors that are measured when they come "
    "(scores). Or why it was refused: it finds drift in the vectors of the baseline in use or in "
    "newer ones (unlike), or no detector can be fitted to it (unfit). Or that another one is only "
    "suggested, because the last week was a little unlike it (person). Absent if it is not "
    "known, or nothing is to come.",
    ("model_name", "reason"),
    lambda m: (
        ()
        if m.maturing is None or m.maturing.waits_for is None
        else [((m.row.model_name, m.maturing.waits_for), 1.0)]
    ),
)

CANARY_DISTANCE = of_models(
    "embedding_drift_canary_distance",
    "gauge",
    "How far the newest canaries are from their reference: 1 - cosine (0 to 2), the median over "
    "the texts or the largest. Canaries are the same texts, embedded again. Absent without any.",
    ("model_name", "aggregate"),
    lambda m: (
        ((m.row.model_name, aggregate), distance)
        for aggregate, distance in _canary_distances(m.row)
    ),
)
CANARY_TIMESTAMP = of_model(
    "embedding_drift_canary_timestamp_seconds",
    "gauge",
    "Time at which the newest canaries were stored.",
    lambda m: seconds(m.row.canaries_received_at),
)
CANARY_GAP = of_model(
    "embedding_drift_canary_gap_seconds",
    "gauge",
    "Longest time between two of the newest sets of canaries; absent until that is known.",
    lambda m: m.row.canary_gap,
)

STATE = of_each(
    "embedding_drift_state",
    "Always 1; the label says whether drift of the window can be measured (ok), or the reason why "
    "not. Other states have no series.",
    "state",
    lambda s: [(s.verdict.state, 1.0)],
    SLICED,
)
SCORE = of_measurement(
    "embedding_drift_score",
    "Minus log10 of the p-value: without drift, one window in 10^s has a score of s or more.",
    lambda m: m.score,
    SLICED,
)
SCORE_RISE = of_series(
    "embedding_drift_score_rise",
    "How much higher the slow window's average scores of 8 hours and of the last hour are than in "
    "the same 8 hours of the last week without drift, as of the last check: the lower of both. "
    "Absent while there is nothing to compare.",
    lambda s: s.rise,
    SLICED,
)
COMPONENT_SCORE = of_each_measured(
    "embedding_drift_component_score",
    "Minus log10 of the p-value of one component of the score alone.",
    "component",
    lambda m: m.components.items(),
)
MAGNITUDE = of_magnitude(
    "embedding_drift_magnitude",
    "Size of the drift: share of the window's vectors that the baseline does not explain (0 to 1). "
    "About 0 without drift. Computed at each check, and every minute while the score is above 2.",
    lambda ratio: ratio.estimate,
)
MAGNITUDE_LOWER = of_magnitude(
    "embedding_drift_magnitude_lower",
    "Lower end of the magnitude's interval of 2 standard errors: at least this share has changed.",
    lambda ratio: ratio.lower,
)
MAGNITUDE_UPPER = of_magnitude(
    "embedding_drift_magnitude_upper",
    "Upper end of the magnitude's interval of 2 standard errors. The true share may be larger: "
    "known and new topics overlap.",
    lambda ratio: ratio.upper,
)
KS_STATISTIC = of_each_measured(
    "embedding_drift_ks_statistic",
    "Kolmogorov-Smirnov statistic against the baseline, aggregated over dimensions (0 to 1).",
    "aggregate",
    lambda m: ((aggregate, m.ks[aggregate]) for aggregate in AGGREGATES),
)
WASSERSTEIN_DISTANCE = of_each_measured(
    "embedding_drift_wasserstein_distance",
    "Wasserstein-1 distance to the baseline in baseline standard deviations, less its expectation "
    "without drift, aggregated over dimensions. The mean is about 0 without drift; p95 and max are "
    "above.",
    "aggregate",
    lambda m: ((aggregate, m.wasserstein[aggregate]) for aggregate in AGGREGATES),
)
TOP_DIMENSION_WASSERSTEIN = of_each(
    "embedding_drift_top_dimension_wasserstein_distance",
    "Exact Wasserstein-1 distance, in baseline standard deviations, of each of the dimensions that "
    "moved furthest. Present only while the score is above 2, as of the last check.",
    "dimension",
    lambda s: (
        ()
        if s.findings.exact is None
        else zip(map(str, s.findings.exact.dimension), s.findings.exact.wasserstein, strict=True)
    ),
)
COSINE_SIMILARITY = of_measurement(
    "embedding_drift_cosine_similarity",
    "Mean cosine similarity of the window's vectors to the baseline's centroid.",
    lambda m: m.cosine_similarity,
)
HISTORY_STATE = of_each(
    "embedding_drift_history_state",
    "Always 1; the label says which seasons the history of the window's cosine similarity is long "
    "enough for (daily or weekly), or why it is for none. Other states have no series.",
    "state",
    lambda s: () if s.findings.forecast is None else [(s.findings.forecast.state, 1.0)],
)
COSINE_SIMILARITY_EXPECTED = of_forecast(
    "embedding_drift_cosine_similarity_expected",
    "Cosine similarity forecast for the last hour, one day ahead, from trend and season.",
    lambda f: f.expected,
)
COSINE_SIMILARITY_LOWER = of_forecast(
    "embedding_drift_cosine_similarity_lower",
    "Lower end of the band around the forecast cosine similarity: 3 robust standard deviations of "
    "errors near the same hour of the day.",
    lambda f: f.lower,
)
COSINE_SIMILARITY_UPPER = of_forecast(
    "embedding_drift_cosine_similarity_upper",
    "Upper end of the band around the forecast cosine similarity: 3 robust standard deviations of "
    "errors near the same hour of the day.",
    lambda f: f.upper,
)
SEASONAL_ANOMALY = of_forecast(
    "embedding_drift_seasonal_anomaly",
    "Distance of the last hour's cosine similarity from its forecast, in robust standard "
    "deviations of day-ahead forecast errors. Negative is less similar.",
    lambda f: f.anomaly,
)
COSINE_SIMILARITY_SLOPE = of_forecast(
    "embedding_drift_cosine_similarity_slope_per_day",
    "Change of the cosine similarity per day over the last two weeks, with the season removed.",
    lambda f: f.slope_per_day,
)
COSINE_SIMILARITY_TREND_SCORE = of_forecast(
    "embedding_drift_cosine_similarity_trend_score",
    "Minus log10 of the p-value of that change, which allows for autocorrelation.",
    lambda f: f.trend_score,
)
COSINE_SIMILARITY_CHANGE_TIMESTAMP = of_forecast(
    "embedding_drift_cosine_similarity_change_timestamp_seconds",
    "Time of a step in the level of the cosine similarity within the last two weeks; absent "
    "without a step.",
    lambda f: f.changed_at,
)
CAUSE = of_explanation(
    "embedding_drift_cause",
    "Always 1; the label says what probably changed while the window drifts. Other causes have no "
    "series. Absent without drift, and until it is explained.",
    "cause",
    lambda row: [(row.told["cause"]["kind"], 1.0)],
)
GROUP_RATIO = of_explanation(
    "embedding_drift_group_ratio",
    "Share of the window's vectors in each of the three groups that grew and are largest (0 to 1), "
    "as of the last explanation.",
    "rank",
    _group_ratios,
)
EXPLANATION_TIMESTAMP = of_explanation(
    "embedding_drift_explanation_timestamp_seconds",
    "Time of the last explanation of the window, while it drifts. A drift is explained when it "
    "begins and after 5 minutes, 30 minutes, 2 hours and 8 hours.",
    None,
    lambda row: [("", row.explained_at)],
)
EXPLANATION_INFO = family(
    "embedding_drift_explanation_info",
    "gauge",
    "Always 1; the label carries in words what changed. Present only while the window drifts; the "
    "words change at most four times in that time. Absent unless explanation.in_alerts is set.",
    (*SLICED, "summary"),
    _summaries,
)
NORM = of_quality("embedding_drift_norm", "Mean Euclidean norm of the vectors", lambda q: q.norm)
EFFECTIVE_RANK = of_quality(
    "embedding_drift_effective_rank",
    "Effective number of dimensions of the vectors (participation ratio of the eigenvalues of "
    "their covariance)",
    lambda q: q.effective_rank,
)
DEAD_DIMENSIONS = of_quality(
    "embedding_drift_dead_dimensions",
    "Dimensions that hardly vary among the vectors",
    lambda q: q.dead_dimensions,
)
DUPLICATE_RATIO = of_quality(
    "embedding_drift_duplicate_ratio",
    "Share of vectors that equal an earlier one (0 to 1)",
    lambda q: q.duplicate_ratio,
)
WINDOW_VECTORS = of_series(
    "embedding_drift_window_vectors",
    "Vectors in the window.",
    lambda s: s.verdict.vectors,
    SLICED,
)
WINDOW_SAMPLED_RATIO = of_series(
    "embedding_drift_window_sampled_ratio",
    "Share of the vectors of the window's seconds that it holds (0 to 1); below 1 where more "
    "arrive than it may hold.",
    lambda s: s.verdict.sampled_ratio,
)
WINDOW_REVISIONS = of_series(
    "embedding_drift_window_revisions",
    "Vectors in the window that came under the id of an earlier, different vector.",
    lambda s: s.revisions.vectors,
)
REVISION_COSINE = of_series(
    "embedding_drift_revision_cosine",
    "Median cosine between these vectors and the earlier vectors of their ids; absent without any.",
    lambda s: s.revisions.median_cosine,
)
WINDOW_START_TIMESTAMP = of_series(
    "embedding_drift_window_start_timestamp_seconds",
    "Time at which the oldest vector of the window was stored.",
    lambda s: s.verdict.start,
)
SLICE_RATIO = of_shares(
    "embedding_drift_slice_ratio",
    "Share of a value of the metadata among the vectors of the slow window (0 to 1). The slice is "
    "the key; it has at most 20 values and (other).",
    lambda share: share.share,
)
SLICE_BASELINE_RATIO = of_shares(
    "embedding_drift_slice_baseline_ratio",
    "Share of the same value among the vectors of the baseline (0 to 1).",
    lambda share: share.share_before,
)
SLICES_FOLDED = of_model(
    "embedding_drift_slices_folded",
    "gauge",
    "Values of the metadata with enough vectors in the baseline that have no series of their own, "
    "because a model has at most 20; absent without slices.",
    lambda m: None if m.slicing is None else m.slicing.folded,
)
COLLECT_DURATION = of_process(
    "embedding_drift_collect_duration_seconds",
    "gauge",
    "Time that this scrape spent on computing statistics.",
    lambda s: s.duration,
)
COLLECT_OVERDUE = of_process(
    "embedding_drift_collect_overdue_windows",
    "gauge",
    "Windows whose statistics are those of an earlier scrape, because there was no time to "
    "recompute them before the scrape timeout.",
    lambda s: sum(each.verdict.is_overdue for each in every_series(s)),
)

FAMILIES = tuple(DEFINED)
"""All of the above, in this order, which is that of the page."""
