"""The detector: fit it to a reference, score windows of embeddings.

Only numpy and scipy are needed: no I/O, no clock. The public API is `Detector`, with the methods
`alarm` and `components` that the exporter itself does not call.

Read `detector` first; then `features` (what is measured of a vector), `components` (the statistics)
and `calibration` (their null distributions). `season` says what to expect at a time, and `unrest`
how much hours differ anyway. `equality` says which vectors are equal, and `repeats` what they do.
`ratio` measures how much has changed.
"""

from exporter.detector.detector import Detector

__all__ = ["Detector"]
