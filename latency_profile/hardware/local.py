"""Whether a server is on this machine: only then are this machine's GPUs the server's."""

import ipaddress
import socket
from pathlib import Path


def is_local(family: int, address: tuple[str | int, ...], root: Path = Path("/")) -> bool:
    """Whether an address, as socket.connect takes it, is one of this machine's own.

    A socket can be bound to its own addresses only. Where the kernel was told to allow others too (ip_nonlocal_bind, on
    machines that take over addresses), nothing can be learned so, and only loopback counts. What listens on a local
    address and passes everything on to another machine, as `kubectl port-forward` and `ssh -L` do, cannot be told apart
    from a server here.
    """
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if host.is_loopback or host.is_unspecified:  # connect() takes 0.0.0.0 for this machine
        return True
    if _binds_anything(root, family):
        return False
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address[0], 0, *address[2:]))
        except OSError:
            return False
    return True


def _binds_anything(root: Path, family: int) -> bool:
    version = "ipv6" if family == socket.AF_INET6 else "ipv4"
    try:
        return (root / f"proc/sys/net/{version}/ip_nonlocal_bind").read_text().strip() == "1"
    except OSError:
        return False
