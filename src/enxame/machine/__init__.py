"""Machines: hosts that run ``enxamed``, made and looked after by drivers (``enxame machine …``).

``hosts`` has the use cases, ``store`` what is remembered of each machine, ``driver`` the interface that drivers fill.
The command imports this package lazily; it knows nothing of the daemon's own packages.
"""
