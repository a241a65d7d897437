"""Kernels forked from a process that has imported what tutorials import: ipykernel's own, without five seconds each.

As `serve`, this script is that process. Otherwise it is what a kernel's manager starts, interrupts and kills: it hands
its folder, environment and streams to the server, which forks a kernel, and lives as long as that does.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading

WHERE = "FORKED_KERNELS"
"""Environment variable with the path of the server's socket."""
IMPORTS = ("ipykernel.kernelapp", "frostline.panels", "frostline.artifacts.exports", "scanpy", "torch._dynamo", "peft")


def serve() -> None:
    """Fork a kernel for each that connects, until stdin is closed."""
    del sys.path[0]  # of the modules beside this one no notebook knows
    gc.disable()
    for name in IMPORTS:
        __import__(name)
    gc.enable()
    gc.collect()
    gc.freeze()  # no kernel looks for garbage among these
    kernels: set[int] = set()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[WHERE])
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in (ready := select.select([listener, sys.stdin], [], [], 1)[0]):
            kernels -= {kernel for kernel in kernels if os.waitpid(kernel, os.WNOHANG)[0]}
            if ready:
                connection = listener.accept()[0]
                if not (kernel := os.fork()):
                    listener.close()
                    be_kernel(connection)
                kernels.add(kernel)
                connection.close()
    for kernel in kernels:
        os.kill(kernel, signal.SIGKILL)
        os.waitpid(kernel, 0)


def be_kernel(connection: socket.socket) -> None:
    """Take the place of the process at the other end, and end with it."""
    from ipykernel import kernelapp

    os.setsid()
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    arguments, folder, environment = json.loads(connection.makefile().readline())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    connection.sendall(f"{os.getpid()}\n".encode())
    threading.Thread(target=lambda: connection.recv(1) or os.killpg(0, signal.SIGKILL), daemon=True).start()
    sys.argv[1:] = arguments
    kernelapp.launch_new_instance()
    atexit._run_exitfuncs()
    os._exit(0)  # to take all modules apart would take seconds


def stand_for_kernel() -> None:
    """Ask for a kernel, hand on what interrupts it, and wait for its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[WHERE])
        socket.send_fds(connection, [b"3"], [0, 1, 2])
        connection.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\n")
        kernel = int(connection.makefile().readline())
        signal.signal(signal.SIGINT, lambda number, _: os.kill(kernel, number))
        connection.recv(1)


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else stand_for_kernel()
