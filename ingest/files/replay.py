"""Send the vectors of files to a service: in batches, at a rate, and on from where it stopped."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

import embedding_drift_client
from embedding_drift_client.delivery import Answer
from ingest.files.columns import Options
from ingest.files.reader import ALL, Dimensions, Fault, File, Rows, opened
from ingest.files.source import Source
from ingest.runtime.errors import MonitorError, PayloadError, SettingsError

_MOST_FAULTS = 1_000
"""Bad rows that are held at most, until they are reported."""


@dataclass
class Counts:
    """What became of the rows.

    Attributes
    ----------
    stored, duplicates : dict of str to int
        Vectors by model.
    skipped : int
        Rows that could not be used.
    """

    stored: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    skipped: int = 0

    def add(self, model: str, answer: Answer) -> None:
        """Count what the service did with a batch."""
        self.stored[model] = self.stored.get(model, 0) + answer.stored
        self.duplicates[model] = self.duplicates.get(model, 0) + answer.duplicates

    def __str__(self) -> str:
        models = [
            f"{model}: {stored} vectors stored, {self.duplicates[model]} duplicates"
            for model, stored in sorted(self.stored.items())
        ]
        return "; ".join([*(models or ["0 vectors stored"]), f"{self.skipped} rows skipped"])


class Checkpoint(msgspec.Struct):
    """Where a replay has got to: written after every batch, also one that a bad row ended.

    Attributes
    ----------
    source : str
    batch : int
        Batches must be the same when a replay goes on, because the service knows them by a key.
    run : str
        Part of these keys.
    counts : Counts
    file : str
        The file that is being sent.
    rows : int
        Its rows, good or bad, that are done.
    ahead : dict of str to int
        How many of each model's rows after them are stored, because a bad row ended their batch.
    is_done : bool
    """

    source: str
    batch: int
    run: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
    counts: Counts = msgspec.field(default_factory=Counts)
    file: str = ""
    rows: int = 0
    ahead: dict[str, int] = msgspec.field(default_factory=dict)
    is_done: bool = False

    @classmethod
    def load(cls, path: Path | None, source: str, batch: int) -> Checkpoint:
        """Read a checkpoint, or begin a new one.

        Raises
        ------
        SettingsError
            If the file is none, or belongs to another source.
        """
        if path is None or not path.exists():
            return cls(source, batch)
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise SettingsError(f"{path}: is not a checkpoint of a replay: {error}") from error
        if found.source != source:
            raise SettingsError(f"{path}: belongs to the replay of {found.source}, not of {source}")
        return found

    def save(self, path: Path | None) -> None:
        """Replace the file as a whole, so that a kill leaves the old one or the new one.

        Raises
        ------
        SettingsError
            If it cannot be written.
        """
        if path is None:
            return
        beside = path.with_name(f"{path.name}.new")
        try:
            beside.write_bytes(msgspec.json.encode(self))
            beside.replace(path)
        except OSError as error:
            raise SettingsError(f"{path} cannot be written: {error.strerror}") from error


class Send(Protocol):
    """Sends vectors of one model."""

    def __call__(self, model: str, rows: Rows, key: str | None = None) -> Answer:
        """Send rows, stored once whatever calls there are with the same key."""


@dataclass
class Replay:
    """The files, and what to do with their rows.

    Attributes
    ----------
    source : Source
    options : Options
    model : str or None
        Name of the model. With ``options.model``, only rows of this model are sent. None means the
        names in the column of models or, without one, the title of the source.
    batch : int
        Vectors of a request, at most.
    skips : bool
        Whether bad rows are skipped. Otherwise the first one ends the replay.
    rate : float or None
        Vectors per second.
    checkpoint : Path or None
    skipped, sent : callable
        Called with each row that is skipped, and with the number of rows that are done.
    """

    source: Source
    options: Options
    model: str | None = None
    batch: int = 500
    skips: bool = False
    rate: float | None = None
    checkpoint: Path | None = None
    skipped: Callable[[Fault], object] = lambda fault: None
    sent: Callable[[int, Counts], object] = lambda rows, counts: None

    def __post_init__(self) -> None:
        self._state = Checkpoint.load(self.checkpoint, self.source.url, self.batch)

    @property
    def counts(self) -> Counts:
        """What became of the rows so far, those before an interruption included."""
        return self._state.counts

    @property
    def is_done(self) -> bool:
        """Whether everything is sent. With a checkpoint, new rows and files do not change it."""
        return self._state.is_done

    def run(self, send: Send) -> None:
        """Send everything that is not sent yet.

        Raises
        ------
        PayloadError
            If a file cannot be read, has no vectors, or a row is bad. All rows before it are
            stored.
        SettingsError
            If nothing names the model of a file.
        MonitorError
            If a batch cannot be delivered.
        """
        state = self._state
        if state.is_done:
            return
        # Before anything is sent with a key of this run.
        state.save(self.checkpoint)
        dimensions = Dimensions()
        # Vectors of other names in the file are of one model then, and so of one dimension.
        want = [each for each in ALL if each != "models" or self._is_by_name]
        found = 0
        names = [self.source.name(file) for file in self.source.files]
        # The file where it stopped may be gone. Those before it are done all the same.
        first = next((at for at, name in enumerate(names) if name >= state.file), len(names))
        for file, name in list(zip(self.source.files, names, strict=True))[first:]:
            if name != state.file:
                state.file, state.rows, state.ahead = name, 0, {}
            with opened(self.source, file, self.options) as content:
                self._check_named(content)
                rows = (
                    block
                    for part in range(content.parts)
                    for block in content.rows(part, want, dimensions)
                )
                parts = batches(rows, state.batch, self._model, state.rows)
                for part in paced(parts, self.rate):
                    try:
                        self._deliver(part, send)
                    except PayloadError:
                        # The row may be repaired or skipped next time. Then the batch has another
                        # key, by which the service does not know what it stored of it.
                        state.save(self.checkpoint)
                        raise
                    state.rows += len(part) + len(part.faults)
                    state.ahead.clear()
                    state.save(self.checkpoint)
                    self.sent(len(part), state.counts)
                found += state.rows
        if not found and self.counts == Counts():
            raise PayloadError(f"{self.source.url} holds no vectors")
        state.is_done = True
        state.save(self.checkpoint)

    def _check_named(self, file: File) -> None:
        has_column = file.choice is None or file.choice.model is not None
        if self.model is None and self.source.title is None and not has_column:
            raise SettingsError(
                f"{file.name}: nothing names its model, because a pattern has no name; give"
                " --model, or --model-column if a column holds the names"
            )

    @property
    def _is_by_name(self) -> bool:
        """Whether the names in the files say which model a row belongs to."""
        return self.model is None or self.options.model is not None

    def _model(self, name: str | None) -> str | None:
        """Return the model that a row belongs to; None for one that is left out."""
        if self.model is None:
            return self.source.title if name is None else name
        return None if self.options.model and name != self.model else self.model

    def _deliver(self, part: Rows, send: Send) -> None:
        """Send a batch; what is wrong with a row ends the replay after the rows before it."""
        bad = part.faults
        if bad and not self.skips:
            good = np.flatnonzero(part.places < bad[0].place)
            self._send(part.pick(good.tolist(), ()), send)
            raise PayloadError(str(bad[0]))
        for fault in bad:
            self._skip(fault)
        self._send(part, send)

    def _skip(self, fault: Fault) -> None:
        self._state.counts.skipped += 1
        self.skipped(fault)

    def _send(self, part: Rows, send: Send) -> None:
        failure: _Refused | None = None
        for name in dict.fromkeys(part.models):
            rows = [row for row, model in enumerate(part.models) if model == name]
            rows = rows[self._state.ahead.get(str(name), 0) :]
            if failure is not None:
                rows = [row for row in rows if part.places[row] < failure.place]
            try:
                self._send_one(str(name), part.pick(rows, ()), send)
            except _Refused as error:
                failure = error
        if failure is not None:
            raise PayloadError(str(failure)) from failure

    def _send_one(self, model: str, rows: Rows, send: Send) -> None:
        if not len(rows):
            return
        try:
            # By place: one line may hold the rows of several batches.
            part = f"{rows.file} {rows.places[0]}-{rows.places[-1]} {len(rows)} {model}"
            key = uuid.uuid5(uuid.UUID(self._state.run), part).hex
            self.counts.add(model, send(model, rows, key))
            self._state.ahead[model] = self._state.ahead.get(model, 0) + len(rows)
        except embedding_drift_client.BodyTooLarge:
            if len(rows) == 1:
                raise
            half = len(rows) // 2
            self._send_one(model, rows.pick(range(half), ()), send)
            self._send_one(model, rows.pick(range(half, len(rows)), ()), send)
        except embedding_drift_client.PayloadError as error:
            refused = {p.index: p for p in reversed(error.problems) if p.index is not None}
            if not refused:
                raise
            if not self.skips:
                first = min(refused)
                self._send_one(model, rows.pick(range(first), ()), send)
                raise _Refused(_refused(rows, first, refused[first])) from error
            for row in sorted(refused):
                self._skip(_refused(rows, row, refused[row]))
            kept = [row for row in range(len(rows)) if row not in refused]
            self._send_one(model, rows.pick(kept, ()), send)


class _Refused(Exception):
    """The service refuses a row."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.place = fault.place


def _refused(rows: Rows, row: int, problem: Any) -> Fault:
    """Say what the service refuses of a row."""
    pointer = problem.pointer.split("/")
    subjects = {"ids": "an id", "id": "an id", "metadata": "metadata"}
    subject = "a time" if pointer[-1] == "timestamp" else subjects.get(pointer[1], "a vector")
    return rows.fault(row, f"has {subject} that cannot be stored: {problem.reason}")


def batches(
    blocks: Iterable[Rows],
    size: int,
    model: Callable[[str | None], str | None] = lambda name: name or "",
    skip: int = 0,
) -> Iterator[Rows]:
    """Cut rows of one file into batches.

    An id is at most once in a batch: it would be refused. So what is stored does not depend on the
    size of batches.

    Parameters
    ----------
    blocks : iterable of Rows
    size : int
        Vectors of a batch, at most.
    model : callable
        Gives the model that a row belongs to, by the name in its column; None leaves the row out.
    skip : int
        Rows, good or bad, that are left out at the beginning.
    """
    held: list[Rows] = []
    seen: set[tuple[str, str]] = set()
    count = faulty = 0
    failure: MonitorError | None = None
    blocks = iter(blocks)
    while True:
        try:
            block = next(blocks, None)
        except MonitorError as error:
            # What lies before it is sent first, whatever the size of batches.
            failure, block = error, None
        if block is None:
            break
        names = [model(name) for name in (block.models or [None] * len(block))]
        rows: list[int] = []
        faults: list[Fault] = []
        for entry in _in_order(block):
            if isinstance(entry, Fault):
                if skip:
                    skip -= 1
                    continue
                faults.append(entry)
                faulty += 1
                continue
            name = names[entry]
            if name is None:
                continue
            if skip:
                skip -= 1
                continue
            id_ = block.ids[entry] if block.ids else None
            is_again = id_ is not None and (name, id_) in seen
            if count == size or is_again or faulty >= _MOST_FAULTS:
                yield _joined([*held, replace(block, models=names).pick(rows, faults)])
                held, seen, rows, faults, count, faulty = [], set(), [], [], 0, 0
            rows.append(entry)
            count += 1
            if id_ is not None:
                seen.add((name, id_))
        if rows or faults:
            held.append(replace(block, models=names).pick(rows, faults))
    if held:
        yield _joined(held)
    if failure is not None:
        raise failure


def _in_order(block: Rows) -> Iterator[int | Fault]:
    """Yield the good rows, by index, and the bad ones in the order of the file."""
    faults = list(block.faults)
    for row, place in enumerate(block.places.tolist()):
        while faults and faults[0].place < place:
            yield faults.pop(0)
        yield row
    yield from faults


def _joined(parts: Sequence[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    some = [part for part in parts if len(part)] or parts[:1]
    faults = [fault for part in parts for fault in part.faults]

    def column(name: str) -> list[Any]:
        # A column without any value in one part may have some in another.
        filler: dict[str, Any] | None = {} if name == "metadata" else None
        columns = [getattr(part, name) or [filler] * len(part) for part in some]
        found = [value for column in columns for value in column]
        return found if any(value is not None and value != {} for value in found) else []

    times = [part.times if len(part.times) else np.full(len(part), np.nan) for part in some]
    return Rows(
        some[0].file,
        some[0].unit,
        np.concatenate([part.places for part in some]),
        np.concatenate([part.numbers for part in some]),
        _concatenated([part.vectors for part in some]),
        column("ids"),
        np.concatenate(times),
        column("models"),
        column("metadata"),
        faults,
    )


def _concatenated(vectors: Sequence[Any]) -> Any:
    if all(part.ndim == 2 for part in vectors) and len({part.shape[1] for part in vectors}) == 1:
        return np.concatenate(vectors)
    ragged = np.empty(sum(map(len, vectors)), object)
    ragged[:] = [vector for part in vectors for vector in part]
    return ragged


def paced(
    parts: Iterable[Rows],
    rate: float | None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Rows]:
    """Yield batches at no more than ``rate`` vectors per second; None means no limit."""
    due = clock()
    for part in parts:
        sleep(max(0.0, due - clock()))
        yield part
        if rate is not None:
            due += len(part) / rate


@contextmanager
def sending(url: str, token: str | None = None) -> Iterator[Send]:
    """Connect to a service; gives a function that sends a batch of a model.

    Parameters
    ----------
    url : str
        Address of the service.
    token : str, optional
        Bearer token with the scope ``write``.

    Raises
    ------
    SettingsError
        If the address or the token is not usable.
    MonitorError
        If a model's name is not allowed, or a batch cannot be delivered.
    """
    senders: dict[str, embedding_drift_client.Sender] = {}
    with ExitStack() as stack:

        def send(model: str, rows: Rows, key: str | None = None) -> Answer:
            if model not in senders:
                sender = embedding_drift_client.Sender(url, model, token=token)
                senders[model] = stack.enter_context(sender)
            return senders[model].send(
                np.stack(list(rows.vectors)),
                rows.ids or None,
                rows.metadata or None,
                _known(rows.times),
                idempotency_key=key,
            )

        try:
            yield send
        except embedding_drift_client.SettingsError as error:
            raise SettingsError(str(error)) from error
        except embedding_drift_client.ClientError as error:
            raise MonitorError(str(error)) from error


def _known(times: Any) -> list[float | None] | None:
    known = [None if np.isnan(each) else float(each) for each in times]
    return known if any(each is not None for each in known) else None
