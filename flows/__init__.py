"""Wires the packages: recipes, plans, runs, the command; alone knows Prefect and Dask."""
