"""Whether an explanation names what changed, and stays silent when nothing did.

Read `trials.py` first: windows with new and vanished topics, and without drift. `incidents.py` has
the changes whose cause is asked for.
"""
