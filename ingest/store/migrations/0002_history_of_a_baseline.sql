-- Numbers measured against different baselines do not make one series.
alter table drift_history add column baseline_version integer;
alter table drift_history add column norm double precision;
