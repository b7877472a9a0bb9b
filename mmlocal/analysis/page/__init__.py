"""Several trainings side by side, on one HTML page."""

from .page import make_page
from .runs import Run, read_run, read_runs

__all__ = ['Run', 'make_page', 'read_run', 'read_runs']
