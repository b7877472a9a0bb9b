"""Schedules: which module is trained when."""
