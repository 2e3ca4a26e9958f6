"""A paper's claims as tests: what is measured, on which seeds, and the verdict."""
