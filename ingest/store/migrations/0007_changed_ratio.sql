-- The magnitude was a mean distance in standard deviations, most of it sampling noise. The changed
-- ratio takes its place: a share, with its interval. In one column both would read as one series.
-- The column magnitude stays for old rows, and for the previous release.
alter table drift_history add column changed_ratio double precision;
alter table drift_history add column changed_ratio_lower double precision;
alter table drift_history add column changed_ratio_upper double precision;
