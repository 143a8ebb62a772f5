"""Read files of vectors, whatever their format and place, some rows at a time.

Start with `reader.py`: it has the registry of formats, and gives the rows of any file. `source.py`
finds files (through `remote.py`, on any file system of fsspec), `compression.py` opens compressed
ones. A format has a module with a function that opens a file as a `Table`: see `table.py`.
`columns.py` finds which columns hold what, by the names in `names.py`. `vectors.py` reads one
vector, `magnitudes.py` tells base64 of numbers from other texts, and `dtypes.py` bytes of float32
from those of other types. `replay.py` sends rows to a service.
"""
