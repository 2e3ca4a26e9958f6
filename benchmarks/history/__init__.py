"""Benchmarks of airspeed velocity: how fast every hot operation and every method is, from commit to commit."""
