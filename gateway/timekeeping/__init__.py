"""Which time it is when the clock cannot be believed: the wall clock, judged by the monotonic one,
by the kernel's word on its quality, and by the last journaled time. Knows no lane.
"""
