"""A new table run over the last passages before it takes effect: what would have been charged?

A child process at the lowest priority replays journaled passages and prices each with the tables in
force and with the coming one. The difference is shown, stored and told to the centre; it decides
nothing.
"""
