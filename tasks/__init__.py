"""Standardized problems, one TOML file each."""
