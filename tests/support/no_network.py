"""No test asks another machine for anything, not even where it would swallow the failure."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

_asked: list[str] = []
_connect, _connect_ex, _resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
_own = {"localhost", "0.0.0.0", socket.gethostname()}
_own |= {address.address for known in psutil.net_if_addrs().values() for address in known}


def _is_here(host: object) -> bool:
    """Whether a host is this machine, by its name or an address."""
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    try:
        return name in _own or ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _note(connection: socket.socket, address: Any) -> None:
    """Datagrams are left out: to connect one sends nothing, which is how Dask asks for its own address."""
    stream = connection.family in (socket.AF_INET, socket.AF_INET6) and connection.type == socket.SOCK_STREAM
    if stream and not _is_here(address[0]):
        _asked.append(f"{address[0]}:{address[1]}")


def _connecting(connection: socket.socket, address: Any) -> None:
    _note(connection, address)
    return _connect(connection, address)


def _connecting_ex(connection: socket.socket, address: Any) -> int:
    _note(connection, address)
    return _connect_ex(connection, address)


def _resolving(host: Any, *args: Any, **kwargs: Any) -> Any:
    if not _is_here(host):
        _asked.append(str(host))
    return _resolve(host, *args, **kwargs)


@pytest.fixture(scope="session", autouse=True)
def _heard() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _connecting)
        patch.setattr(socket.socket, "connect_ex", _connecting_ex)
        patch.setattr(socket, "getaddrinfo", _resolving)
        yield


@pytest.fixture(autouse=True)
def _no_other_machine() -> Iterator[None]:
    """Fail a test during which this process has looked for another machine."""
    _asked.clear()
    yield
    if _asked:
        pytest.fail(f"it asked for {', '.join(sorted(set(_asked)))}")
