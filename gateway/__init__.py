"""The exit lane's edge box. Start reading at `devices/ports.py`, then `flow/rules.py`."""

__version__ = "0.1.0"
