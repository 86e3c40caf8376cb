"""Looks at the guest from inside, for the tests: what the kernel's input devices say, what X says, what commands say.

Runs in the guest as root, at the other end of an ssh process of the tests' own. Reads one JSON request a line and
answers each with one JSON line. When its input ends, it ends everything that it started.
"""

import fcntl
import glob
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading

EVENT = struct.Struct("llHHi")
EV_KEY = 1
KEY_BYTES = 96  # KEY_MAX is 0x2ff


def ioctl_number(number, size):
    """_IOC(_IOC_READ, 'E', number, size) of the kernel's ioctl.h."""
    return 2 << 30 | size << 16 | ord("E") << 8 | number


EVIOCGNAME = ioctl_number(0x06, 256)
EVIOCGKEY = ioctl_number(0x18, KEY_BYTES)


class Devices:
    """All input devices, opened anew where one came or went, with a log of their key and button events."""

    def __init__(self):
        self.lock = threading.Lock()
        self.open = {}
        self.names = {}
        self.log = []
        self.refresh()
        threading.Thread(target=self.listen, daemon=True).start()

    def refresh(self):
        with self.lock:
            present = set(glob.glob("/dev/input/event*"))
            for path in set(self.open) - present:
                os.close(self.open.pop(path))
            for path in present - set(self.open):
                device = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                name = fcntl.ioctl(device, EVIOCGNAME, bytes(256))
                self.open[path] = device
                self.names[path] = name.split(b"\0")[0].decode()

    def listen(self):
        while True:
            with self.lock:
                devices = dict(self.open)
            ready, _, _ = select.select(list(devices.values()), [], [], 0.5)
            for path, device in devices.items():
                if device in ready:
                    self.take(path, device)

    def take(self, path, device):
        try:
            data = os.read(device, EVENT.size * 64)
        except OSError:
            return  # It went away.
        for seconds, micros, kind, code, value in EVENT.iter_unpack(data):
            if kind == EV_KEY:
                at = seconds * 1000 + micros / 1000
                self.log.append({"device": self.names[path], "at_ms": at, "code": code, "value": value})

    def down(self):
        self.refresh()
        down = []
        with self.lock:
            for path in self.open:
                # Opened anew, as the kernel takes what it tells here out of the same opening's log.
                with open(path, "rb", buffering=0) as device:
                    state = fcntl.ioctl(device, EVIOCGKEY, bytes(KEY_BYTES))
                codes = [at for at in range(KEY_BYTES * 8) if state[at // 8] >> at % 8 & 1]
                down += [{"device": self.names[path], "code": code} for code in codes]
        return down


class Programs:
    """Programs that run until they are ended; their output lines are kept."""

    def __init__(self):
        self.running = {}
        self.lines = {}

    def start(self, name, argv, user):
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **({"user": user, "group": user, "extra_groups": []} if user else {}),
        )
        self.running[name] = process
        self.lines[name] = []
        threading.Thread(target=self.read, args=(process, self.lines[name]), daemon=True).start()

    @staticmethod
    def read(process, lines):
        for line in process.stdout:
            lines.append(line.decode(errors="replace").rstrip("\n"))

    def end(self, name):
        process = self.running.pop(name)
        for signal_ in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, signal_)
            except ProcessLookupError:
                pass
            try:
                process.wait(3)
                return
            except subprocess.TimeoutExpired:
                pass

    def end_all(self):
        for name in list(self.running):
            self.end(name)


class Inside:
    def __init__(self):
        self.devices = Devices()
        self.programs = Programs()

    def run(self, line):
        """A shell line to its end."""
        done = subprocess.run(["sh", "-c", line], capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
        return {
            "code": done.returncode,
            "stdout": done.stdout.decode(errors="replace"),
            "stderr": done.stderr.decode(errors="replace"),
        }

    def start(self, name, argv, user):
        self.programs.start(name, argv, user)

    def lines(self, name):
        return list(self.programs.lines[name])

    def end(self, name):
        self.programs.end(name)

    def end_all(self):
        self.programs.end_all()

    def mark(self):
        """Where the log of events is now."""
        return len(self.devices.log)

    def events(self, mark):
        return self.devices.log[mark:]

    def down(self):
        return self.devices.down()


def main():
    inside = Inside()
    try:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"ok": getattr(inside, request["do"])(*request["with"])}
            except Exception as error:  # The test on the other side shall see what is wrong.
                answer = {"error": repr(error)}
            print(json.dumps(answer), flush=True)
    finally:
        inside.end_all()


main()
