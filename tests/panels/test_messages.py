"""Nothing that a kernel says of widgets is lost where the server is slow to take it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import IPython
import pytest
import zmq
from ipykernel.inprocess.socket import DummySocket
from ipykernel.iostream import IOPubThread

from frostline.panels.base import Panel

MESSAGES = 6_000


@pytest.fixture
def kernel(monkeypatch):
    """What the panels see of a kernel, whose messages go where nobody reads them yet; and who will."""
    with zmq.Context() as context:
        said, server = context.socket(zmq.PUB), context.socket(zmq.SUB)
        said.linger = server.linger = 0
        server.subscribe(b"")
        server.connect(f"tcp://127.0.0.1:{said.bind_to_random_port('tcp://127.0.0.1')}")
        thread = IOPubThread(said)
        thread.start()
        try:
            until_connected(thread, server)
            shell = SimpleNamespace(kernel=SimpleNamespace(iopub_thread=thread))
            monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
            yield thread, server
        finally:
            thread.stop()
            thread.close()
            server.close()


def until_connected(thread: IOPubThread, server: zmq.Socket) -> None:
    for _ in range(500):
        thread.send_multipart([b"hello"])
        if server.poll(20):
            break
    while server.poll(200):
        server.recv_multipart()


def say(thread: IOPubThread, word: bytes) -> None:
    """As much as five panels say, and more bytes than wait on the way."""
    for _ in range(MESSAGES):
        thread.send_multipart([word, bytes(10_000)])
    done = []
    thread.schedule(lambda: done.append(True))
    while not done:
        time.sleep(0.01)


def taken(server: zmq.Socket, word: bytes, patience: int) -> int:
    """Messages that arrive, until they are all there or none has come for so many milliseconds."""
    found = 0
    while found < MESSAGES and server.poll(patience):
        found += server.recv_multipart()[0] == word
    return found


def test_what_is_said_while_nobody_reads_arrives_once_there_is_a_panel(kernel):
    thread, server = kernel
    say(thread, b"before")
    assert taken(server, b"before", 500) < MESSAGES
    Panel([], "of-a-test").close()
    say(thread, b"after")
    assert taken(server, b"after", 10_000) == MESSAGES


def test_a_kernel_without_sockets_has_panels_too(monkeypatch):
    shell = SimpleNamespace(kernel=SimpleNamespace(iopub_thread=IOPubThread(DummySocket())))
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    Panel([], "of-a-test").close()
    assert not hasattr(shell.kernel.iopub_thread.socket, "sndhwm")
