"""Several processes at one piece of work, as torchrun starts them: which of them this one is, what they count together, how they end.

They meet in torchrun's own key-value store, which outlives every one of them. Whoever waits does so in Python, looking again and again, so
that Ctrl-C and torchrun's signals are heard at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Protocol

from .errors import CadError, first_line

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""What torchrun sets in the environment of each process that it starts."""
ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
"""How often torchrun has started these processes before."""
LOOK_AGAIN = 0.05
"""Seconds between two looks at what others are to say."""


class Ended(BaseException):
    """torchrun ends this process, as another one has failed or as it was told to; no Exception, so that nothing on the way catches it."""


class Store(Protocol):
    """What is needed of torch.distributed.Store."""

    def add(self, key: str, amount: int) -> int: ...
    def set(self, key: str, value: str) -> object: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...


class OwnStore:
    """The store of a process that is alone."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._texts: dict[str, bytes] = {}

    def add(self, key: str, amount: int) -> int:
        self._counts[key] = self._counts.get(key, 0) + amount
        return self._counts[key]

    def set(self, key: str, value: str) -> None:
        self._texts[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self._texts[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self._texts for key in keys)


class Processes:
    """All processes of a run, seen from one of them.

    Attributes:
        rank: this one's number; number 0 prints and, where all make one file, writes it.
        size: how many there are.
        local_rank: this one's number on its machine, and that of its GPU.
        store: where they meet.
        name: of the work that they are at; keys in the store begin with it.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, store: Store | None = None, name: str = "") -> None:
        self.rank, self.size, self.local_rank, self.name = rank, size, local_rank, name
        self.store = OwnStore() if store is None else store
        self._works = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that prints."""
        return self.rank == 0

    def next_work(self) -> Processes:
        """The same processes at a piece of work with counters and texts of its own; all must call this in the same order."""
        self._works += 1
        return Processes(self.rank, self.size, self.local_rank, self.store, f"{self.name}{self._works}/")

    def add(self, counter: str, amount: int = 1) -> int:
        """Add to a counter that all share, from 0; what it is afterwards."""
        return self.store.add(f"{self.name}count {counter}", amount)

    def wait_for(self, counter: str, value: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Until a shared counter has reached `value`, calling `meanwhile` every LOOK_AGAIN seconds."""
        while self.add(counter, 0) < value:
            meanwhile()
            time.sleep(LOOK_AGAIN)

    def tell(self, what: str, text: str) -> None:
        """Say something to all, once."""
        self.store.set(f"{self.name}text {what}", text)

    def heard(self, what: str) -> str:
        """What one of them told, waiting for it."""
        key = f"{self.name}text {what}"
        while not self.store.check([key]):
            time.sleep(LOOK_AGAIN)
        return self.store.get(key).decode()

    def device(self, name: str) -> str:
        """The device of this process where all are asked for the device `name`: "cuda" is the GPU of its own number.

        Raises CadError for one GPU by number, which all would have to share.
        """
        if self.size == 1 or not name.startswith("cuda"):
            return name
        if name != "cuda":
            raise CadError(f"--device {name} is one GPU, and this run has {self.size} processes; give --device cuda, which is one for each")
        return f"cuda:{self.local_rank}"


@cache
def joined() -> Processes:
    """The processes that torchrun has started together with this one; this one alone where there are no others.

    From then on, torchrun's signal to end raises Ended. Raises CadError when the others cannot be reached.
    """
    if LAUNCHED not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return Processes()
    from torch.distributed import PrefixStore, is_available

    if not is_available():
        raise CadError("this PyTorch is built without torch.distributed, which several processes need; start this without torchrun")
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://"))
    except (RuntimeError, ValueError) as error:
        raise CadError(f"the processes of this run do not find each other ({first_line(error)}); start torchrun again") from error

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended

    signal.signal(signal.SIGTERM, end)
    attempt = os.environ.get(ATTEMPT, "0")  # of --max-restarts, which may find the store with what an earlier one has counted
    return Processes(rank, size, int(os.environ["LOCAL_RANK"]), PrefixStore(f"cad {attempt}", store))


def alone() -> bool:
    """Whether this process has joined no others."""
    return joined.cache_info().currsize == 0 or joined().size == 1


def leaving() -> None:
    """Let this process, which is at its end, end by itself: torchrun's signal says nothing new to it any more."""
    if not alone():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def speaks() -> bool:
    """Whether this process is the one to say why the run ends: the first of all that asks."""
    try:
        return joined().size == 1 or joined().add("speakers") == 1
    except (CadError, RuntimeError):  # the others cannot be reached
        return True
