"""What the gateway costs: each figure with its goal, on the machine where it runs.

`python -m tests.bench [money|passage|start|memory|all] [--json FILE]`
"""
