"""Specimens, one module each, and manifests of real measurements."""
