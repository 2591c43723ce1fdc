"""Take one safeguard away at a time: each time some test must notice.

python -m tests.mutations [NAME …]: prints each and what noticed it; exit 1 if one was survived.
"""
