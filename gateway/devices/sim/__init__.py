"""Twins of the devices. They speak bytes, so that all code above them is the real code."""
