"""Chips and readers for tests: twins on simulated links, and on a virtual PC/SC reader."""
