"""How much drift the detector finds, how often it cries wolf, how late it is, what it costs."""
