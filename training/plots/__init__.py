"""Plots of the reports: pure functions from arrays to a figure, one kind a file."""
