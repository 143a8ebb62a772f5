"""Following: ok only while the windows have what was acknowledged a poll or two ago."""

from __future__ import annotations

from exporter.monitor.following import Following, Ledger

PATIENCE = 10.0


def test_a_model_whose_windows_have_every_vector_is_followed() -> None:
    ledger = Ledger(100.0)
    ledger.succeed(101.0, acknowledged=7, seen=7, patience=PATIENCE)
    assert ledger.following == Following(101.0, PATIENCE)
    assert ledger.following.trouble(101.0 + PATIENCE) is None


def test_without_another_poll_it_is_not_followed_when_patience_ends() -> None:
    ledger = Ledger(100.0)
    ledger.succeed(101.0, 7, 7, PATIENCE)
    assert ledger.following.trouble(101.1 + PATIENCE) == "behind"


def test_vectors_may_be_on_their_way_for_as_long_as_patience_lasts() -> None:
    ledger = Ledger(100.0)
    for second in range(1, 31):
        # A replica shows what was acknowledged five seconds ago.
        ledger.succeed(100.0 + second, 10 * second, max(0, 10 * (second - 5)), PATIENCE)
    assert ledger.following.followed_at == 125.0
    assert ledger.following.behind == 50
    assert ledger.following.trouble(130.0) is None
    for second in range(31, 41):
        ledger.succeed(100.0 + second, 10 * second, 250, PATIENCE)
    assert ledger.following.followed_at == 125.0
    assert ledger.following.behind == 150
    assert ledger.following.trouble(140.0) == "behind"


def test_one_failure_may_be_an_accident_and_two_in_a_row_are_not() -> None:
    ledger = Ledger(100.0)
    ledger.succeed(101.0, 7, 7, PATIENCE)
    ledger.fail(102.0, 9, 7, PATIENCE, "vectors_unreadable", "ValueError: no")
    assert ledger.following.trouble(102.0) is None
    ledger.fail(103.0, 9, 7, PATIENCE, "vectors_unreadable", "ValueError: no")
    assert ledger.following == Following(
        101.0, PATIENCE, 2, 102.0, "vectors_unreadable", "ValueError: no", 2
    )
    assert ledger.following.trouble(103.0) == "vectors_unreadable"
    ledger.succeed(104.0, 9, 9, PATIENCE)
    assert ledger.following == Following(104.0, PATIENCE)


def test_a_failure_with_nothing_new_to_read_is_one_too() -> None:
    """A baseline that cannot be read, say: the vectors are all there."""
    ledger = Ledger(100.0)
    for second in (101.0, 102.0, 103.0):
        ledger.fail(second, 7, 7, PATIENCE, "baseline_unreadable", "version 9")
    assert ledger.following.trouble(103.0) == "baseline_unreadable"
    assert ledger.following.followed_at == 100.0
    assert ledger.following.behind == 0


def test_a_replica_that_stands_still_for_a_day_takes_hardly_more_memory() -> None:
    ledger = Ledger(0.0)
    for second in range(1, 86_401):
        ledger.succeed(float(second), acknowledged=10 * second, seen=0, patience=PATIENCE)
    assert len(ledger._acknowledged) < 1_500
    assert ledger.following.followed_at == 0.0
    # On its way back, it has what was acknowledged in the first half of the day.
    ledger.succeed(86_401.0, 864_010, seen=432_000, patience=PATIENCE)
    assert 42_600.0 < ledger.following.followed_at <= 43_200.0
    ledger.succeed(86_402.0, 864_020, seen=864_010, patience=PATIENCE)
    assert 85_400.0 < ledger.following.followed_at <= 86_401.0
    ledger.succeed(86_403.0, 864_020, seen=864_020, patience=PATIENCE)
    assert ledger.following.followed_at == 86_403.0
