"""Manifests of real measurements, one TOML file each."""
