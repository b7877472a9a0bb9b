"""Measurements of what modules have learnt, and trainings side by side."""
