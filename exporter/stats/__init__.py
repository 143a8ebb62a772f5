"""Statistics: pure functions of arrays, one statistic a file."""
