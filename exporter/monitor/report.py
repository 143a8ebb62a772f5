"""Reports: the JSON of ``GET /drift``, of ``GET /drift/{model_name}`` and of what belongs to them.

These structs are the one definition of that JSON: they are encoded, described in OpenAPI, and kept
in the store, where every replica reads those of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from exporter.explain.kinds import Kind
from exporter.monitor.following import Reason
from exporter.monitor.maturing import Wait
from exporter.monitor.states import ForecastState, State
from ingest.runtime.http.fields import Count, Moment, Number
from ingest.runtime.settings.settings import Texts
from ingest.runtime.thresholds import Stage

COMPONENTS: Mapping[str, str] = {
    "topics": "Known topics in other proportions",
    "mean": "All vectors moved: another model, or several new topics",
    "direction": "A move in one direction: one new topic",
    "dimension": "Single dimensions that moved, became constant or noisy",
    "spread": "Clusters that appear or disappear while the mean stays",
    "distortion": "Scaling, missing normalisation, collapse, noise",
    "duplicates": "The same vector many more times than usual",
}
"""What each component of the score looks for."""

Age = Annotated[
    float,
    Meta(
        ge=0,
        description="Seconds since this was measured, by the clock of the store. 0 from the"
        " exporter that follows the model; others show what that one last stored, at each check.",
    ),
]
Overdue = Annotated[
    bool,
    Meta(
        description="Whether the exporter that follows the model has missed three checks: it is"
        " away, or cannot write to the store. Then nobody measures the model."
    ),
]


RiseNumber = Annotated[
    float,
    Meta(
        description="How much higher the average scores of 8 hours and of the last hour are than"
        " in the same 8 hours of the last week without drift. Of the slow window only, and only"
        " with a week to compare."
    ),
]


class ListedWindow(Struct):
    """One window of a model at a glance."""

    state: State
    vectors: Count
    score: Number
    magnitude: Number
    cause: Annotated[
        Kind | None, Meta(description="Of the drift; null without drift, and until it is known.")
    ] = None
    rise: RiseNumber | None = None


class ListedWindows(Struct):
    """The windows of a model at a glance."""

    fast: ListedWindow
    slow: ListedWindow


class ListedSlice(Struct):
    """One window of a slice at a glance."""

    slice: str
    window: str
    state: State
    vectors: Count
    score: Number
    magnitude: Number
    rise: RiseNumber | None = None


class ListedModel(Struct):
    """A model at a glance."""

    model_name: str
    stage: Annotated[Stage | None, Meta(description="Of the baseline in use; null without one.")]
    age: Annotated[
        Age | None,
        Meta(description="Null while no exporter has checked the model; then nothing is known."),
    ]
    overdue: Overdue
    windows: ListedWindows
    watched: Annotated[Count, Meta(description="Of it and its slices, how many have a score.")] = 1
    slices: Annotated[
        list[ListedSlice],
        Meta(
            description="Of each window, one slice: one that drifts, if any does; else that with"
            " the highest score."
        ),
    ] = []


class Models(Struct):
    """All models, whichever exporter follows them."""

    models: list[ListedModel]


class Quality(Struct):
    """Quality of vectors, without a comparison."""

    norm: Number
    effective_rank: Number
    dead_dimensions: Count
    duplicate_ratio: Number


class Next(Struct):
    """The baseline that follows this one by itself, or is suggested."""

    stage: Stage
    due_at: Moment
    waits_for: Annotated[
        Wait | None,
        Meta(
            description="Null if it is due. `time`: its span has not ended. `drift`: there was"
            " drift in its span. `vectors`: its span has too few. `scores`: too few of them were"
            " measured when they came. `unlike`: it finds drift in vectors of the baseline in use,"
            " or in newer ones. `unfit`: no detector can be fitted to it. `person`: another"
            " weekly one is only suggested: in the week before `due_at` there was no drift, but the"
            " score of the slow window was above 1 on average."
        ),
    ]


class Baseline(Struct):
    """The baseline in use."""

    version: Count
    stage: Annotated[
        Stage, Meta(description="Seen less than a day, a day, or a week of the usual traffic.")
    ]
    pinned_at: Moment
    next: Annotated[
        Next | None,
        Meta(description="Null if none comes or is suggested, or it is not known yet."),
    ]
    source: str
    first_at: Annotated[Moment, Meta(description="When its oldest vector arrived.")]
    last_at: Moment
    time_zone: Annotated[
        str, Meta(description="Its seasons follow the local time of this time zone (IANA name).")
    ]
    vectors: Count
    cosine_similarity: Number
    quality: Quality


class Aggregates(Struct):
    """A statistic of each dimension, aggregated over dimensions."""

    mean: Number
    p95: Number
    max: Number


class Dimension(Struct):
    """Statistics of one dimension."""

    dimension: Count
    ks: Number
    wasserstein: Number


class Exact(Struct):
    """Exact statistics of some dimensions, from the vectors themselves."""

    dimension: list[Count]
    ks: list[Number]
    ks_p_value: list[Number]
    wasserstein: list[Number]


Share = Annotated[float, Meta(ge=0, le=1)]


class Magnitude(Struct):
    """Share of the window's vectors that the baseline does not explain, with an interval.

    It is a lower bound: where known and new topics overlap, the true share may be larger.
    """

    estimate: Share
    lower: Share
    upper: Share
    computed_at: Moment


class Value(Struct):
    """A value of the metadata that is more frequent than in the baseline."""

    key: str
    value: str
    share: Share
    share_before: Share


class Example(Struct, omit_defaults=True):
    """A typical vector of a group. The text is present only if `explanation.texts` is `full`."""

    seq: Count
    id: str | None
    received_at: Moment
    text: str | UnsetType | None = UNSET


class Group(Struct):
    """A part of the space that holds more, or less, of the window than of the baseline."""

    id: Annotated[str, Meta(description="The same from one explanation of a drift to the next.")]
    name: str
    change: Literal["grown", "shrunk"]
    share: Share
    lower: Share
    upper: Share
    share_before: Share
    keywords: list[str]
    metadata: list[Value]
    examples: list[Example]


class Cause(Struct):
    """What has probably changed, and the facts that decided."""

    kind: Kind
    evidence: list[str]


class Interval(Struct):
    """A share and its interval."""

    estimate: Share
    lower: Share
    upper: Share


class Told(Struct):
    """What changed in a window, or in a slice of it."""

    window: str
    slice: Annotated[str, Meta(description="Empty for all vectors of the model.")]
    summary: str
    vectors: Count
    score: float
    changed_ratio: Interval
    explained: Annotated[
        float, Meta(description="Share of the vectors by which the groups grew, together.")
    ]
    cause: Cause
    metadata: list[Value]
    groups: list[Group]


class Explanation(Told):
    """What changed in a window, as it was found out at one time of its drift."""

    began_at: Annotated[Moment, Meta(description="When the drift began.")]
    explained_at: Moment
    baseline_version: Count
    texts: Annotated[Texts, Meta(description="What `explanation.texts` allowed then.")]
    metadata_keys: Annotated[
        list[str] | None, Meta(description="Those of `explanation.metadata_keys` then.")
    ]


class Place(Struct):
    """A position on a map. The vectors of the baseline lie within 1 of the middle, (0, 0)."""

    x: float
    y: float


class MapRegion(Place):
    """The middle of a part of the baseline, and its name."""

    name: str


class MapGroup(Place):
    """A group: as an island beside the map if it grew, where it was on the map if it shrank."""

    id: str
    name: str
    change: Literal["grown", "shrunk"]
    share: Share
    share_before: Share


class MapPoint(Place, omit_defaults=True):
    """A vector of the window, among those of the baseline that are most like it.

    The text is present only if `explanation.texts` is `full`.
    """

    group: Annotated[str | None, Meta(description="Id of the grown group that it belongs to.")]
    seq: Count
    id: str | None
    received_at: Moment
    text: str | UnsetType | None = UNSET


class Map(Struct):
    """The map of a window that drifts. The positions of the baseline stay from map to map."""

    model_name: str
    window: str
    explained_at: Annotated[Moment, Meta(description="Of the explanation that it belongs to.")]
    baseline: list[Place]
    regions: list[MapRegion]
    groups: list[MapGroup]
    points: list[MapPoint]


class History(Struct):
    """What the recorded past says about the cosine similarity of a window."""

    state: ForecastState
    expected: Number
    lower: Number
    upper: Number
    anomaly: Number
    slope_per_day: Number
    trend_score: Number
    changed_at: Moment | None


class Check(Struct):
    """What was recorded of a window at one time.

    Numbers are null where drift could not be measured, and those of the magnitude also where it was
    not measured.
    """

    computed_at: Moment
    state: str
    vectors: Count
    baseline_version: Count | None
    score: Number
    magnitude: Number
    magnitude_lower: Number
    magnitude_upper: Number
    cosine_similarity: Number
    norm: Number
    components: dict[str, float] | None


class Checks(Struct):
    """The history of a window, the newest check first."""

    model_name: str
    window: str
    checks: list[Check]


class Vector(Struct):
    """A stored vector and how new it is."""

    seq: Annotated[Count, Meta(description="Number of the vector within its model.")]
    id: str | None
    received_at: Moment
    embedded_at: Moment | None
    metadata: dict[str, Any] | None
    novelty: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(
            description="Share of the baseline's vectors that are closer to their neighbours in the"
            " baseline. Of usual vectors it is uniform, so half of them are above 0.5. null without"
            " a baseline."
        ),
    ]


class NewestVectors(Struct):
    """The newest vectors of a window, the newest first."""

    model_name: str
    window: str
    baseline_version: Count | None
    vectors: list[Vector]


class Following(Struct):
    """Whether the windows have every vector that was acknowledged for the model.

    `since`, `reason` and `detail` are null while the model is followed.
    """

    followed_at: Moment
    behind: Annotated[int, Meta(ge=0, description="Vectors not followed at the last poll.")]
    since: Moment | None
    reason: Reason | None
    detail: str | None


class Revisions(Struct):
    """Vectors of a window that came under the id of an earlier, different vector."""

    vectors: Count
    median_cosine: Annotated[
        float | None, Meta(description="Between new and earlier vectors; null without revisions.")
    ]


class Window(Struct):
    """One window of a model.

    The numbers from `score` to `rise` are present in the state ok only, and in the state
    dimension_changed if enough vectors of the known dimension arrive. `magnitude`, `rise`,
    `quality`, `history` and, of a window with a high score, `top_dimensions_exact` come from the
    last check.
    """

    state: State
    seconds: Count
    min_vectors: Count
    max_vectors: Count
    vectors: Count
    sampled_ratio: Annotated[
        float, Meta(gt=0, le=1, description="Share of the vectors of its seconds that it holds.")
    ]
    start: Moment | None
    revisions: Revisions
    score: Annotated[float | None, Meta(description="Minus log10 of the p-value.")] | UnsetType = (
        UNSET
    )
    components: (
        Annotated[dict[str, Number], Meta(extra_json_schema={"required": list(COMPONENTS)})]
        | UnsetType
    ) = UNSET
    ks: Aggregates | UnsetType = UNSET
    wasserstein: Aggregates | UnsetType = UNSET
    cosine_similarity: Number | UnsetType = UNSET
    top_dimensions: list[Dimension] | UnsetType = UNSET
    magnitude: Magnitude | UnsetType = UNSET
    rise: RiseNumber | UnsetType = UNSET
    explanation: (
        Annotated[Explanation, Meta(description="Present while the window drifts.")] | UnsetType
    ) = UNSET
    quality: Quality | UnsetType = UNSET
    top_dimensions_exact: Exact | UnsetType = UNSET
    history: History | UnsetType = UNSET
    exact: (
        Annotated[
            Exact,
            Meta(
                description=(
                    "Of every dimension, with `exact=true`; absent while the model has no baseline"
                    " or the window no vectors."
                )
            ),
        ]
        | UnsetType
    ) = UNSET


class SliceWindow(Struct):
    """One window of a slice; its numbers are null unless drift was measured."""

    state: State
    vectors: Count
    score: Number
    magnitude: Magnitude | None
    explanation: (
        Annotated[
            Explanation,
            Meta(description="While it drifts, of the three slices that began to drift first."),
        ]
        | UnsetType
    ) = UNSET
    rise: RiseNumber | None = None


class SliceWindows(Struct):
    """The windows of a slice; null without vectors in the window of the model."""

    fast: SliceWindow | None
    slow: SliceWindow | None


class SliceValue(Struct):
    """How frequent a value is, and the series of its vectors."""

    value: Annotated[
        str, Meta(description="`(none)`: the vectors without one. `(other)`: all not listed.")
    ]
    share: Annotated[Share, Meta(description="Of the vectors of the slow window.")]
    share_before: Annotated[Share, Meta(description="Of the vectors of the baseline.")]
    p_value: Annotated[Share, Meta(description="Chance of such a difference without a change.")]
    changed: Annotated[bool, Meta(description="Whether it is surer than chance, over all values.")]
    windows: Annotated[
        SliceWindows | None,
        Meta(description="Null if the baseline has too few of them for a series of its own."),
    ]


class Slices(Struct):
    """The values of one key of the metadata, the most frequent first."""

    key: str
    values: list[SliceValue]


class Canaries(Struct):
    """The newest canaries: the same texts, embedded again, compared with their first vectors."""

    received_at: Moment
    median_distance: Annotated[float, Meta(ge=0, le=2, description="Of 1 - cosine.")]
    max_distance: Annotated[float, Meta(ge=0, le=2)]
    longest_gap: Annotated[
        float | None,
        Meta(description="Seconds between two of the newest sets; null until that is known."),
    ]


class Windows(Struct):
    """The windows of a model."""

    fast: Window
    slow: Window


class Drift(Struct):
    """Everything known of one model."""

    model_name: str
    dimension: Count
    vectors: Annotated[int, Meta(ge=0, description="Vectors ever stored for the model.")]
    last_vector_at: Moment | None
    computed_at: Moment
    age: Age
    overdue: Overdue
    following: Following
    baseline: Baseline | None
    canaries: Annotated[Canaries | None, Meta(description="Null without any.")]
    windows: Windows
    slices: Annotated[
        list[Slices], Meta(description="By the keys in `monitoring.slices`, as of the last check.")
    ]
    slices_folded: Annotated[
        int,
        Meta(
            ge=0,
            description="Values with enough vectors that have no series of their own, because a"
            " model has at most 20.",
        ),
    ]


class Past(Struct):
    """What was recorded of a model before a time: the last check of each window and slice.

    Of each window or slice that drifted then, it has the explanation of that time. Checks of slices
    are by the name of the slice, and then by window; they are null in what only windows have.
    """

    model_name: str
    at: Moment
    checks: dict[str, Check]
    slices: dict[str, dict[str, Check]]
    explanations: list[Explanation]
