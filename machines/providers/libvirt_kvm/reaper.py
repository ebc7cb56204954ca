#!/usr/bin/env python3
"""Run a libvirt daemon as its init: collect the QEMU processes that end, start the daemon again when it is killed.

    reaper.py [--user NAME] PROGRAM [ARGUMENT…]

QEMU detaches itself and becomes a child of process 1. Where that one collects the dead only now
and then, as in many containers, every power-off takes 2 s, since libvirt waits for the process
to vanish. Here it is adopted and collected at once. That also is why a killed daemon is started
again from here: the machines that run stay children of this process.

A script of its own, without imports of ours: it may run where the portal's code cannot be read.
"""

import argparse
import ctypes
import grp
import os
import pwd
import signal
import sys
import time
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
START_SECONDS = 5.0  # who ends by itself within this has not started


class Reaper:
    def __init__(self, command: list[str], user: str = "") -> None:
        self.command, self.user = command, user
        self.daemon = 0
        self.started = 0.0
        self.stopping = False

    def run(self) -> int:
        """Until the daemon ends for good. Returns its exit status."""
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever supervises: machines are shut down first
        self.start()
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid != self.daemon:
                continue
            code = os.waitstatus_to_exitcode(status)
            lived = time.monotonic() - self.started
            if self.stopping or (code >= 0 and lived < START_SECONDS):
                return code if code >= 0 else 0
            sys.stderr.write(f"The daemon ended with status {code} and is started again; its machines go on.\n")
            sys.stderr.flush()
            if lived < START_SECONDS:
                time.sleep(1)
            self.start()

    def start(self) -> None:
        self.started = time.monotonic()
        # Blocked across the fork: a SIGTERM between here and exec would be forgotten.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self.daemon = os.fork()
        if self.daemon == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
                if self.user:
                    become(self.user)
                os.execvp(self.command[0], self.command)  # noqa: S606 - no shell is meant
            except OSError as error:
                sys.stderr.write(f"{self.command[0]}: {error}\n")
            finally:
                os._exit(127)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True
        try:
            os.kill(self.daemon, signal.SIGTERM)
        except ProcessLookupError:  # it has just ended by itself
            sys.exit(0)


def become(name: str) -> None:
    """Give up root for this account, for good. The group kvm stays: it opens /dev/kvm."""
    account = pwd.getpwnam(name)
    groups = set(os.getgrouplist(name, account.pw_gid)) | {group.gr_gid for group in grp.getgrall() if group.gr_name == "kvm"}
    os.setgroups(sorted(groups))
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--user", default="", help="the account to run PROGRAM as; needs root")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="PROGRAM …")
    options = parser.parse_args()
    if not options.command:
        parser.error("no program")
    return Reaper(options.command, options.user).run()


if __name__ == "__main__":
    sys.exit(main())
