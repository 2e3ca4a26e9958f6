"""Files in and out: CXI, HDF5, manifests, TIFF."""
