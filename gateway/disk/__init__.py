"""The disk as people see it: one state at a time, its words, and what is given up in which order.

Money is never given up. Knows no lane and no device.
"""
