"""Physics: geometry, waves, probes, scans, detector (numpy) and the solvers' forward model (torch)."""
