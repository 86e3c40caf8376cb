# Copies between standard input and output and libvirt's socket, as ssh would from afar.
import os, selectors, socket

peer = socket.socket(socket.AF_UNIX)
peer.connect("SOCKET")
both = selectors.DefaultSelector()
both.register(0, selectors.EVENT_READ, peer.sendall)
both.register(peer, selectors.EVENT_READ, lambda data: os.write(1, data))
while True:
    for ready, _ in both.select():
        data = os.read(ready.fd, 65536)
        if not data:
            raise SystemExit
        ready.data(data)
