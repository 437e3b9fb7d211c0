"""The enxame command: one module a noun; talks HTTP only."""
