"""Devices and dtypes: transfers to a GPU, offloading of caches to main memory, precision."""
