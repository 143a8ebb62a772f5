"""What changed in a window: how much, which groups, in words, and whether it is model or data.

Read `explanation` first: it puts the parts together. `groups` finds the parts of the space that
grew or shrank, with `clusters`; `keywords` and `metadata` name them; `cause` tells the model from
the data. `observations` is the input. Only numpy and scipy are needed: no I/O, no clock.
"""
