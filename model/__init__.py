"""The science: the spectral-spatial duality model. Imports nothing else of ours."""
