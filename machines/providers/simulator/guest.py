"""The inside of a simulated machine: accounts, a few files and a shell that knows a dozen words."""

import hmac
import posixpath
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from .machine import VirtualMachine
from .world import World

MAX_FILES, MAX_FILE_CHARACTERS = 64, 64 * 1024
FLOOD_LINE = "".join(chr(33 + number % 94) for number in range(72))

HELP = """This machine is simulated. It knows:
  ls  cat FILE  echo TEXT [> FILE]  touch FILE  rm FILE  pwd  whoami  hostname  uname
  date  uptime  free  nproc  stty size  sync  clear  flood (until ^C)  reboot  poweroff  exit
"""


class Exit(Exception):
    """The shell is left."""


def password_opens(machine: VirtualMachine, username: str, password: str) -> bool:
    disk = machine.disk
    return bool(disk.password) and username == disk.username and hmac.compare_digest(password.encode(), disk.password.encode())


def banner(machine: VirtualMachine, world: World) -> str:
    """What the guest calls itself."""
    template = world.templates.get(machine.template)
    return template.system if template else machine.template


class Shell:
    """One log-in. `size` answers rows and columns of the terminal."""

    def __init__(self, world: World, machine: VirtualMachine, size: Callable[[], tuple[int, int]]) -> None:
        self.world, self.machine, self.size = world, machine, size
        self.home = f"/home/{machine.disk.username}"

    @property
    def prompt(self) -> str:
        return f"{self.machine.disk.username}@{self.machine.disk.hostname}:~$ "

    def execute(self, line: str) -> Iterator[str]:
        """Pieces of output, perhaps without end: whoever reads decides when it is enough. Raises Exit."""
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError as error:
            yield f"sh: {error}\n"
            return
        command: list[str] = []
        for word in [*words, ";"]:
            if word == ";":
                if command:
                    yield from self._command(command)
                command = []
            else:
                command.append(word)

    def _command(self, words: list[str]) -> Iterator[str]:
        target, mode = "", ""
        if len(words) > 2 and words[-2] in (">", ">>"):
            target, mode, words = words[-1], words[-2], words[:-2]
        name, *arguments = words
        run = getattr(self, f"_do_{name}", None)
        if run is None:
            yield f"sh: {name}: not found (help lists what there is)\n"
            return
        output: Iterator[str] = run(arguments)
        if not target:
            yield from output
            return
        path = self._path(target)
        text = self.machine.disk.files.get(path, "") if mode == ">>" else ""
        for piece in output:
            text += piece
            if len(text) > MAX_FILE_CHARACTERS:
                break
        yield from self._write(path, text)

    def _path(self, name: str) -> str:
        return posixpath.normpath(posixpath.join(self.home, name))

    def _write(self, path: str, text: str) -> Iterator[str]:
        files = {**self.machine.disk.files, path: text}
        if len(files) > MAX_FILES or len(text) > MAX_FILE_CHARACTERS:
            yield "sh: write error: No space left on device\n"
            return
        self.world.write(self.machine, replace(self.machine.disk, files=files))

    # -- the words it knows ----------------------------------------------------------------

    def _do_help(self, arguments: list[str]) -> Iterator[str]:
        yield HELP

    def _do_ls(self, arguments: list[str]) -> Iterator[str]:
        folder = self._path(arguments[0]) if arguments else self.home
        yield from (f"{posixpath.basename(path)}\n" for path in sorted(self.machine.disk.files) if posixpath.dirname(path) == folder)

    def _do_cat(self, arguments: list[str]) -> Iterator[str]:
        made_up = {"/proc/sys/kernel/random/boot_id": self.machine.boot_id + "\n", "/etc/hostname": self.machine.disk.hostname + "\n"}
        for name in arguments:
            text = {**made_up, **self.machine.disk.files}.get(self._path(name))
            yield text if text is not None else f"cat: {name}: No such file or directory\n"

    def _do_echo(self, arguments: list[str]) -> Iterator[str]:
        yield " ".join(arguments) + "\n"

    def _do_touch(self, arguments: list[str]) -> Iterator[str]:
        for name in arguments:
            path = self._path(name)
            yield from self._write(path, self.machine.disk.files.get(path, ""))

    def _do_rm(self, arguments: list[str]) -> Iterator[str]:
        files = dict(self.machine.disk.files)
        for name in arguments:
            if files.pop(self._path(name), None) is None:
                yield f"rm: {name}: No such file or directory\n"
        self.world.write(self.machine, replace(self.machine.disk, files=files))

    def _do_pwd(self, arguments: list[str]) -> Iterator[str]:
        yield self.home + "\n"

    def _do_whoami(self, arguments: list[str]) -> Iterator[str]:
        yield self.machine.disk.username + "\n"

    def _do_hostname(self, arguments: list[str]) -> Iterator[str]:
        yield self.machine.disk.hostname + "\n"

    def _do_uname(self, arguments: list[str]) -> Iterator[str]:
        yield f"Linux {self.machine.disk.hostname} 6.1.0-simulated x86_64\n" if "-a" in arguments else "Linux\n"

    def _do_date(self, arguments: list[str]) -> Iterator[str]:
        yield time.strftime("%a %b %e %H:%M:%S UTC %Y\n", time.gmtime())

    def _do_uptime(self, arguments: list[str]) -> Iterator[str]:
        yield f"up {time.time() - self.machine.boots_until:.0f} s\n"

    def _do_free(self, arguments: list[str]) -> Iterator[str]:
        yield f"Mem: {self.machine.memory_mib} MiB\n"

    def _do_nproc(self, arguments: list[str]) -> Iterator[str]:
        yield f"{self.machine.cores}\n"

    def _do_stty(self, arguments: list[str]) -> Iterator[str]:
        rows, columns = self.size()
        yield f"{rows} {columns}\n"

    def _do_sync(self, arguments: list[str]) -> Iterator[str]:
        yield ""

    def _do_clear(self, arguments: list[str]) -> Iterator[str]:
        yield "\x1b[H\x1b[2J"

    def _do_flood(self, arguments: list[str]) -> Iterator[str]:
        number = 0
        while True:
            yield "".join(f"{number + line:7d} {FLOOD_LINE}\n" for line in range(200))
            number += 200

    def _do_reboot(self, arguments: list[str]) -> Iterator[str]:
        self.world.boot_again(self.machine)
        raise Exit
        yield

    def _do_poweroff(self, arguments: list[str]) -> Iterator[str]:
        self.world.switch_off(self.machine)
        raise Exit
        yield

    def _do_exit(self, arguments: list[str]) -> Iterator[str]:
        raise Exit
        yield
