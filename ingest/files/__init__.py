"""Files of vectors, read a block of rows at a time. Start at `reader.py`."""
