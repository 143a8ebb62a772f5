-- A vector that revises an earlier one of the same id has the cosine between the two; null where it
-- revises none, where one of the two is all zeros, or where the earlier one has expired.
-- Keys first: a writer reads them before it stores vectors, so this waits for it and cannot
-- deadlock with it.
alter table idempotency_key add column revisions integer;
alter table embedding add column revised_cosine real;
