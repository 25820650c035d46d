#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# Makes an older server, or another one, out of the one that runs: passes everything on between a socket of its own and that of the
# real server, but names another version and answers what such a version does not know as it would.
# Usage: older-server.py mysql|redis|postgresql SOCKET OF-THE-REAL-ONE VERSION
import os, re, socket, struct, sys, threading

kind, path, real, version = sys.argv[1:]
version = version.encode()


def mysql_error(number, state, text):
    body = b"\xff" + struct.pack("<H", number) + b"#" + state + text
    return struct.pack("<I", len(body))[:3] + b"\x01" + body


# What the others answer, where they do not know the words.
UNKNOWN = [
    (rb"\x03BACKUP STAGE", mysql_error(1064, b"42000", b"You have an error in your SQL syntax near 'BACKUP STAGE'")),
    (rb"\x03SET SESSION.*max_statement_time", mysql_error(1193, b"HY000", b"Unknown system variable 'max_statement_time'")),
    (rb"\x03.*INNODB_SYS_TABLESPACES", mysql_error(1109, b"42S02", b"Unknown table 'INNODB_SYS_TABLESPACES'")),
    (rb"\*4\r\n\$6\r\nCLIENT\r\n\$5\r\nPAUSE",
     b"-ERR Unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.\r\n"),
]


def renamed(data):
    if kind == "mysql":  # the greeting: length, 0, protocol 10, version
        body = b"\x0a" + version + data[data.index(b"\0", 5):]
        return struct.pack("<I", len(body)) + body
    if kind == "redis":  # INFO in one bulk string
        begin = data.index(b"\r\n") + 2
        body = re.sub(rb"redis_version:[^\r]*", b"redis_version:" + version, data[begin:-2])
        return b"$%d\r\n%s\r\n" % (len(body), body)
    # ParameterStatus: 'S', length, name, value
    old = re.search(rb"S....server_version\0[^\0]*\0", data, re.DOTALL).group()
    body = b"server_version\0" + version + b"\0"
    return data.replace(old, b"S" + struct.pack(">I", 4 + len(body)) + body)


NAMED = {"mysql": rb"^....\x0a[^\0]*\0", "redis": rb"^\$\d+\r\n# Server", "postgresql": rb"server_version\0"}[kind]


def upwards(client, server):
    while data := client.recv(65536):
        answer = next((a for words, a in UNKNOWN if kind != "postgresql" and re.search(words, data, re.DOTALL)), None)
        client.sendall(answer) if answer else server.sendall(data)
    server.shutdown(socket.SHUT_RDWR)


def downwards(client, server):
    while data := server.recv(65536):
        client.sendall(renamed(data) if re.search(NAMED, data, re.DOTALL) else data)
    client.shutdown(socket.SHUT_RDWR)


def serve(client):
    server = socket.socket(socket.AF_UNIX)
    server.connect(real)
    for work in upwards, downwards:
        threading.Thread(target=work, args=(client, server), daemon=True).start()


listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, 0o777)
listener.listen()
while True:
    serve(listener.accept()[0])
