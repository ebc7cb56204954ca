"""Steps on the terminal: name, time, a tick. Plain lines where the output is no terminal."""

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TextIO

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
QUICK = 0.3  # seconds; a step that took less is told without its time


class StepFailed(Exception):
    """A step could not be done. The message is one sentence, for the person at the terminal."""


class Step:
    """A step under way. `note` stands behind its name at the end, `detail` only while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.note = ""
        self.detail = ""
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def run(self, argv: Sequence[object], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, failed: str) -> str:
        """Run a command, its output going to `log`, its last line shown. Returns the output;
        raises StepFailed with `failed` and the last lines where it ends badly."""
        last: deque[str] = deque(maxlen=400)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(map(str, argv))}\n")
            process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=env,
                cwd=cwd,
            )
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    file.write(line)
                    last.append(line.rstrip())
                    self.detail = line.strip()
                status = process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
        self.detail = ""
        if status:
            tail = "\n".join(f"    {line}" for line in list(last)[-12:])
            raise StepFailed(f"{failed}\n{tail}\n    (all of it: {log})")
        return "\n".join(last)


class Progress:
    """The list of steps on the terminal, one line each."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._lock = threading.Lock()

    def say(self, text: str = "") -> None:
        with self._lock:
            print(text, file=self.stream, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        step = Step(name)
        with _Ticker(self, step) if self.live else _Announcement(self, step):
            try:
                yield step
            except BaseException:
                self._end(step, "✗")
                raise
        self._end(step, "✓")

    def _end(self, step: Step, mark: str) -> None:
        took = f"  {step.seconds:.1f} s" if step.seconds >= QUICK else ""
        note = f"  ({step.note})" if step.note else ""
        with self._lock:
            print(("\r\x1b[2K" if self.live else "") + f"  {mark} {step.name}{note}{took}", file=self.stream, flush=True)

    def _draw(self, step: Step, frame: int) -> None:
        width = os.get_terminal_size(self.stream.fileno()).columns
        line = f"  {SPINNER[frame % len(SPINNER)]} {step.name}  {step.seconds:.0f} s  {step.detail}"
        with self._lock:
            self.stream.write("\r\x1b[2K" + line[: width - 1])
            self.stream.flush()


class _Ticker:
    """Redraws a step's line while it runs."""

    def __init__(self, progress: Progress, step: Step) -> None:
        self._progress, self._step = progress, step
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def _tick(self) -> None:
        frame = 0
        while not self._done.wait(0.1):
            self._progress._draw(self._step, frame)
            frame += 1

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()


class _Announcement:
    """For logs: says what began only when it takes a while, so that quick steps are one line."""

    def __init__(self, progress: Progress, step: Step) -> None:
        self._timer = threading.Timer(5, lambda: progress.say(f"  … {step.name}"))
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()
