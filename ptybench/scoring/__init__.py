"""Alignment and metrics."""
