"""Whom the box believes on its lines to the centre and the brokers, and what it shows them."""

import ssl
from pathlib import Path


def context(ca: Path | None, certificate: Path | None) -> ssl.SSLContext | None:
    """`ca`: PEM; None: the system's. `certificate`: PEM, the box's own with its key in one file, so
    that they are never of different age. Neither: None, everybody's defaults.

    Raises: OSError, also for what is no certificate.
    """
    if ca is None and certificate is None:
        return None
    made = ssl.create_default_context(cafile=None if ca is None else str(ca))
    if certificate is not None:
        made.load_cert_chain(certificate)
    return made


def nobody() -> ssl.SSLContext:
    """For a box whose files cannot be read: no line outwards, and nothing said in clear."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
