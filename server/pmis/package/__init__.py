"""Packages: units of procured or executed work, with a life cycle from draft to completed."""
