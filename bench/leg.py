"""One line of the table: a leg with both sides' figures and its goal, or the reason why it could not run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Leg:
    """What both sides took and what their ratio (ours / theirs) must not pass. `name` is `leg | against what`.

    A goal below 1 is told as how many times better ours is; `better` says in which way. With `excess` the goal is about the difference.
    """

    name: str
    ours: float
    theirs: float
    goal: float
    unit: str = "s"
    better: str = "faster"
    excess: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def is_met(self) -> bool:
        return (self.ours - self.theirs if self.excess else self.ratio) <= self.goal

    def __str__(self) -> str:
        if self.excess:
            ratio, goal = f"{self.ours - self.theirs:+.2f} {self.unit}", f"<= +{self.goal:g} {self.unit}"
        elif self.goal >= 1:
            ratio, goal = f"{self.ratio:.2f} x", f"<= {self.goal:g} x"
        else:
            ratio, goal = f"{1 / self.ratio:.1f} x {self.better}", f">= {1 / self.goal:.3g} x {self.better}"
        met = "met" if self.is_met else "missed"
        return f"{self.name} | {self.ours:.2f} {self.unit} | {self.theirs:.2f} {self.unit} | {ratio} | {goal} | {met}"


@dataclass(frozen=True)
class Figure:
    """A measured figure no goal was set for."""

    name: str
    figure: float
    unit: str

    def __str__(self) -> str:
        return f"{self.name} | {self.figure:.2f} {self.unit} | | | |"


@dataclass(frozen=True)
class NotRun:
    """A leg that could not run here. The table says so, and `make bench` fails at its end."""

    name: str
    reason: str

    def __str__(self) -> str:
        reason = " ".join(self.reason.split()).replace("|", "/")[:200]
        return f"{self.name} | not run: {reason} | | | |"


Line = Leg | Figure | NotRun
