"""Read files of vectors, one block of rows at a time.

Start with `reader.py`: it has the registry of formats, and `read`, which opens any of them. Each
format has a module with one function, which yields the `Block`s that `rows.py` defines.
"""
