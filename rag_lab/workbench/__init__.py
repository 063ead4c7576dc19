"""Notebooks in batches, and the pages made of them."""
