"""The world of the smoke scale: a directory, a ledger and a calendar behind six functions, as a notebook.

A task is `<difficulty>/<number>`, from which its state follows. Loaded inside the sandbox (inside.py), where
there is the standard library alone, and by the code that makes tasks and demonstrations, which runs nothing
that a model wrote. What a world's module defines: prepare, World.

    find(name) -> number       directory
    owed(number) -> amount     ledger
    free(number) -> day        calendar
    pay(number, amount), book(number, day), finish()
"""

import ast
import contextlib
import io
import random
import signal
import traceback
from typing import Any

VERSION = "1"
PEOPLE = ("Ann", "Bob", "Cem", "Dan", "Eva", "Fay", "Gus", "Hal", "Ida", "Jan", "Kim", "Leo")
IN_A_WORLD = 4
# Difficulty -> what the task asks, by the turns that it takes
DIFFICULTIES = {
    "easy": "Pay {name} {amount}.",
    "medium": "Pay {name} what is owed.",
    "hard": "Pay {name} what is owed and book the free day.",
}
UNKNOWN_NAME, UNKNOWN_NUMBER = "no such name", "no such number"


def prepare(options: dict) -> dict:
    """What the host is told of this world. options: none are read."""
    del options
    return {"version": VERSION}


class WorldError(Exception):
    """What a function of the world says of a wrong argument."""


class State:
    """The records of one task, and what was done."""

    def __init__(self, task: str) -> None:
        self.difficulty, _, number = task.partition("/")
        if self.difficulty not in DIFFICULTIES or not number.isdigit():
            raise ValueError(f"no task {task!r}: expected {' or '.join(DIFFICULTIES)}, a slash and a number")
        rng = random.Random(f"smoke_shell/{task}")
        names = rng.sample(PEOPLE, IN_A_WORLD)
        numbers = rng.sample(range(10, 100), IN_A_WORLD)
        self.directory = dict(zip(names, numbers, strict=True))
        self.ledger = {number: rng.randint(1, 9) for number in numbers}
        self.calendar = {number: rng.randint(1, 9) for number in numbers}
        self.name = rng.choice(names)
        self.payments: list[tuple[Any, Any]] = []
        self.bookings: list[tuple[Any, Any]] = []
        self.is_finished = False
        # What an easy task names is not what is owed: both have to be right by themselves
        self.amount = self.ledger[self.number] if self.difficulty != "easy" else rng.randint(1, 9)

    @property
    def number(self) -> int:
        """Of the person whom the task is about."""
        return self.directory[self.name]

    def instruction(self) -> str:
        """The task, as the model reads it."""
        return DIFFICULTIES[self.difficulty].format(name=self.name, amount=self.amount)

    def goals(self) -> list[bool]:
        """Whether the right one was paid, the right amount, and, where it was asked for, the day was booked;
        and nothing else was done.
        """
        wanted_days = [(self.number, self.calendar[self.number])] if self.difficulty == "hard" else []
        return [
            [number for number, _ in self.payments] == [self.number],
            [amount for _, amount in self.payments] == [self.amount],
            self.bookings == wanted_days,
        ]

    def functions(self) -> dict[str, Any]:
        """What a model's code may call."""

        def look_up(records: dict, key: Any, complaint: str) -> Any:
            try:
                return records[key]
            except (KeyError, TypeError):
                raise WorldError(complaint) from None

        def pay(number: Any, amount: Any) -> None:
            look_up(self.ledger, number, UNKNOWN_NUMBER)
            self.payments.append((number, amount))

        def book(number: Any, day: Any) -> None:
            look_up(self.calendar, number, UNKNOWN_NUMBER)
            self.bookings.append((number, day))

        def finish() -> None:
            self.is_finished = True

        return {
            "find": lambda name: look_up(self.directory, name, UNKNOWN_NAME),
            "owed": lambda number: look_up(self.ledger, number, UNKNOWN_NUMBER),
            "free": lambda number: look_up(self.calendar, number, UNKNOWN_NUMBER),
            "pay": pay,
            "book": book,
            "finish": finish,
        }


class OutOfTime(BaseException):
    """The code ran longer than it may. No Exception: the code's own `except Exception` lets it through."""


class Cut(io.StringIO):
    """Standard output that keeps the first `limit` characters."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, text: str) -> int:
        super().write(text[: max(self._limit - self.tell(), 0)])
        return len(text)


class World:
    """One task as a notebook: what is printed is seen, and the value of a cell's last expression."""

    OUTPUT_CHARACTERS = 4000

    def __init__(self, task: str, options: dict | None = None) -> None:
        del options
        self.state = State(task)
        self._names: dict[str, Any] = self.state.functions()

    def execute(self, code: str, seconds: float) -> str:
        """Run a cell for at most `seconds`: what it prints, or its error's last line."""
        output = Cut(self.OUTPUT_CHARACTERS)

        def out_of_time(*_: object) -> None:
            raise OutOfTime

        signal.signal(signal.SIGALRM, out_of_time)
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # again, for code that swallows everything
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                self._run(code)
        except OutOfTime:
            output.write(f"no end after {seconds:g} s")
        except WorldError as error:
            output.write(str(error))
        except BaseException as error:  # noqa: BLE001  the model's code, SystemExit included
            output.write(traceback.format_exception_only(error)[-1].strip())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return output.getvalue().strip()

    def _run(self, code: str) -> None:
        tree = ast.parse(code)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, "<cell>", "exec"), self._names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), self._names)
            if value is not None:
                print(value)

    def is_done(self) -> bool:
        """Whether the task was marked as finished."""
        return self.state.is_finished

    def goals(self) -> tuple[int, int]:
        """(passed, of how many)."""
        met = self.state.goals()
        return sum(met), len(met)
