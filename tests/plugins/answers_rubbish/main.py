"""Sends bytes that are no msgpack-RPC as its first answer."""

import socket

rpc = socket.socket(fileno=3)
rpc.recv(65536)
rpc.sendall(b"\xc1 HTTP/1.1 200 OK\r\n\r\n")
while rpc.recv(65536):
    pass
