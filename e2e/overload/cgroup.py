"""A cgroup with a memory limit, of whichever version this machine has."""
import os
import pathlib
import time

ROOT = pathlib.Path("/sys/fs/cgroup")


def create(name, limit):
    """The group, or a text that says why there is none."""
    if os.geteuid() != 0:
        return "only root can make a cgroup"
    name = f"{name}-{os.getpid()}"
    reasons = []
    for make in (V2, V1):
        try:
            return make(name, limit)
        except OSError as error:
            reasons.append(f"version {make.version}: {error}")
    return f"no cgroup can limit memory here ({'; '.join(reasons)})"


class Group:
    def __init__(self, directory, limit, **more):
        self.directory = directory
        directory.mkdir()
        try:
            self.write(self.LIMIT, limit)
            for file, value in more.items():
                if (directory / file).exists():
                    self.write(file, value)
        except OSError:
            directory.rmdir()
            raise

    def write(self, file, value):
        (self.directory / file).write_text(str(value))

    def number(self, file):
        return int((self.directory / file).read_text())

    def enter(self):
        """Puts the calling process in."""
        self.write("cgroup.procs", os.getpid())

    def usage(self):
        return self.number(self.USAGE)

    def peak(self):
        return self.number(self.PEAK) if (self.directory / self.PEAK).exists() else 0

    def killed(self):
        """How many processes the kernel has ended for want of memory."""
        lines = (self.directory / self.EVENTS).read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    def remove(self):
        # A process that has just ended is still there for a moment.
        for _ in range(100):
            try:
                return self.directory.rmdir()
            except OSError:
                time.sleep(0.05)


class V2(Group):
    version = 2
    LIMIT, USAGE, PEAK, EVENTS = "memory.max", "memory.current", "memory.peak", "memory.events"

    def __init__(self, name, limit):
        if "memory" not in (ROOT / "cgroup.controllers").read_text().split():
            raise OSError("the memory controller is not there")
        if "memory" not in (ROOT / "cgroup.subtree_control").read_text().split():
            (ROOT / "cgroup.subtree_control").write_text("+memory")
        super().__init__(ROOT / name, limit, **{"memory.swap.max": 0})


class V1(Group):
    version = 1
    LIMIT, USAGE, PEAK, EVENTS = "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"

    def __init__(self, name, limit):
        super().__init__(ROOT / "memory" / name, limit, **{"memory.swappiness": 0})
