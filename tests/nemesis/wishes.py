"""What the ledger of commands must do, told once more and shorter: the model it is held against (R14).

Written from docs/commands.md and the wire contract; of `commands` it shares not even the names. One
unit, in memory, without a clock: whatever time does is an event of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ON, OFF = "enabled", "offline_disabled"
PING = None
"""The mode of a command that sets none."""

WAITING = "awaiting_approval"
ANSWERABLE = frozenset({"queued", "sending", "sent"})
OPEN = ANSWERABLE | {WAITING, "acknowledged"}
GIVEN_UP = frozenset({"superseded", "cancelled", "expired"})
NO_END = frozenset({"stale_epoch", "bad_unit_clock"})
SUSPICIOUS = frozenset({"epoch_went_back", "epoch_ahead", "epoch_absurd"})
"""A person is to look whatever the unit reports next, and must agree before power is taken away."""

BELIEVED = 2**31
SENDINGS = 2
"""The setting under which model and ledger are compared."""


@dataclass
class Told:
    """One command; `heard` when an answer of its unit is written down on it."""

    mode: str | None
    state: str
    epoch: int = 0
    attempt: int = 0
    refusal: str | None = None
    by: str = "person"
    heard: bool = False
    approved: bool = False

    @property
    def open(self) -> bool:
        """Whether it is under way."""
        return self.state in OPEN


@dataclass
class Drift:
    """A kind of contradiction, and how often the wish was sent for it."""

    open: bool = True
    sendings: int = 0
    given_up: bool = False
    dismissed: bool = False
    wish: str | None = None
    given: int = 0
    """The last epoch that had been given when it was seen."""


@dataclass
class Model:
    """One unit's commands, the last epoch that was given or adopted, and its newest report."""

    commands: list[Told] = field(default_factory=list)
    given: int = 0
    mode: str = ON
    epoch: int = 0
    drifts: dict[str, Drift] = field(default_factory=dict)

    # -- what follows from it

    @property
    def wished(self) -> Told | None:
        """The mode command under way that counts."""
        return next((one for one in self._of_mode() if one.open and one.state != WAITING), None)

    @property
    def wanted(self) -> Told | None:
        """The newest wish that nobody gave up: an enable only people and units give up, an off time too.

        Who takes an off back takes back all before it.
        """
        given = [one for one in self._of_mode() if one.epoch]
        for one in sorted(given, key=lambda one: -one.epoch):
            newest = one.epoch == max(other.epoch for other in given)
            if one.mode == OFF and any(
                other.mode == OFF and other.epoch > one.epoch and other.state == "cancelled"
                for other in given
            ):
                continue
            if one.state == "refused":
                carried_on = one.refusal in NO_END and (newest or one.mode == ON)
                if carried_on and not self._taken_back_since(one):
                    return one
            elif one.open or one.state == "confirmed" or (one.mode == ON and one.state != "cancelled"):
                return one
        return None

    @property
    def desired(self) -> str | None:
        """The mode that is wanted; who was to be off and is not any more is to be on."""
        if self.wanted:
            return self.wanted.mode
        return ON if any(one.mode == OFF and one.epoch for one in self.commands) else None

    @property
    def ours(self) -> int:
        """The last epoch that was given here."""
        return max((one.epoch for one in self._of_mode()), default=0)

    @property
    def proven(self) -> int:
        """The highest epoch that a report confirmed."""
        return max((one.epoch for one in self._of_mode() if one.state == "confirmed"), default=0)

    @property
    def floor(self) -> int:
        """Likewise, or sent and then given up: below it the unit may still meet a command of ours."""
        lost = [one.epoch for one in self._of_mode() if one.state in GIVEN_UP and one.attempt]
        return max([self.proven, *lost])

    # -- what people do

    def order(self, mode: str | None, *, suspected: bool = False) -> str:
        """Order a mode or a ping; `suspected` that two units share the name."""
        living = [
            one
            for one in self._of_mode()
            if one.open and not (suspected and one.mode == OFF and one.state != WAITING and not one.approved)
        ]
        if mode and (same := [one for one in living if one.mode == mode]):
            if any(one.state != WAITING for one in same):
                self._supersede(WAITING)
            return "same"
        if mode and not living and self._holds(mode):
            return "same"
        if mode == OFF and (self.mode != ON or any(one.state != WAITING for one in living)):
            return "NotEnabled"
        if mode == OFF and suspected:
            self._supersede(WAITING)
            self.commands.append(Told(OFF, WAITING))
        elif mode:
            self._supersede()
            self.commands.append(Told(mode, "queued", self._next()))
        else:
            self.commands.append(Told(PING, "queued"))
        return "new"

    def cancel(self, one: Told) -> str:
        """Take a command back."""
        if one.state == "cancelled":
            return "done"
        if not one.open:
            return "CommandEnded"
        one.state = "cancelled"
        return "done"

    def approve(self, one: Told, *, themselves: bool = False) -> str:
        """Agree to a command that waits; who ordered it may not."""
        if one.state != WAITING:
            return "NothingToApprove"
        if themselves and one.by == "person":
            return "SecondPersonNeeded"
        if one.by == "person" and (self.wished or self.mode != ON):
            return "NotEnabled"
        self._supersede(but=one)
        one.state, one.epoch, one.approved = "queued", self._next(), True
        return "done"

    def dismiss(self) -> str:
        """Have looked at every contradiction that is open; the next of its kind is a new one."""
        for drift in self.drifts.values():
            drift.dismissed = drift.dismissed or drift.open
            drift.open = False
        return "done"

    # -- what the gateway does

    def claim(self) -> str:
        """Lease what is queued: all of it is due, and the unit listens; one at a time, a ping last."""
        if any(one.state in {"sending", "sent"} for one in self.commands):
            return "done"
        queued = [one for one in self.commands if one.state == "queued"]
        for one in sorted(queued, key=lambda one: one.mode is PING)[:1]:
            one.state, one.attempt = "sending", one.attempt + 1
        return "done"

    def settle(self, one: Told, outcome: str, *, late: bool = False) -> str:
        """Write down what the broker said to the newest attempt, or `late` to the one before."""
        if one.state == "sending" and not late:
            one.state = "sent" if outcome == "taken" else "queued"
            one.attempt -= outcome == "unheard"
        return "done"

    def lapse(self, one: Told) -> str:
        """Let the wait for the broker, an ack or the evidence end."""
        if one.state in {"sending", "sent", "acknowledged"}:
            one.state = "queued"
        return "done"

    def expire(self, one: Told) -> str:
        """Let its life end."""
        if one.open:
            one.state = "expired"
        return "done"

    # -- what the unit does

    def ack(self, one: Told, reason: str | None = None) -> str:
        """Hear that it was applied, or refused for a reason."""
        done = "confirmed" if one.mode is PING else "acknowledged"
        to = "refused" if reason else done
        welcome = ANSWERABLE | ({"expired"} if to == "confirmed" else set())
        if one.attempt == 0 or one.state not in welcome:
            if one.state == to or (one.state == "confirmed" and not reason) or one.heard:
                return "repeated"
            one.heard = True
            return "news"
        one.state = to
        if reason:
            one.refusal = "bad_unit_clock" if reason == "expired" else reason
            if one.refusal in NO_END and one.mode and self.desired:
                ahead = self.epoch > self.ours and self.desired == OFF
                self._contradicted("epoch_ahead" if ahead else "not_obeyed", self.epoch)
        elif to == "acknowledged":
            one.heard = True
        return "news"

    def report(self, mode: str, epoch: int, *, live: bool = True) -> str:
        """Hear a newest heartbeat; one that is not live had waited on its way."""
        self.mode, self.epoch = mode, epoch
        for one in self._of_mode():
            if one.attempt and (one.mode, one.epoch) == (mode, epoch):
                if one.open or one.state == "expired":
                    one.state = "confirmed"
                elif one.state != "confirmed":
                    one.heard = True
        cause = self._cause(mode, epoch)
        if cause and (live or cause in {"epoch_ahead", "epoch_absurd"}):
            self._contradicted(cause, epoch)
        elif not cause and live:
            for kind, drift in self.drifts.items():
                drift.open = drift.open and kind in SUSPICIOUS
        return "done"

    # -- inside

    def _taken_back_since(self, one: Told) -> bool:
        [place] = [place for place, other in enumerate(self.commands) if other is one]
        later = self.commands[place + 1 :]
        return any(other.mode == one.mode and other.state == "cancelled" for other in later)

    def _ordered_since(self, drift: Drift) -> bool:
        return any(one.by == "person" and one.epoch > drift.given for one in self._of_mode())

    def _of_mode(self) -> list[Told]:
        return [one for one in self.commands if one.mode]

    def _next(self) -> int:
        self.given = 1 + max(self.given, self.epoch if self.epoch <= BELIEVED else 0)
        return self.given

    def _holds(self, mode: str) -> bool:
        """Whether the unit is known to do what is wished: proven, and in accord ever since."""
        proof = next((one for one in self._of_mode() if one.epoch == self.proven), None)
        accord = self.mode == mode == self.desired and self.floor <= self.epoch <= self.given
        return accord and proof is not None and proof.mode == mode

    def _supersede(self, *states: str, but: Told | None = None) -> None:
        for one in self._of_mode():
            if one.open and one is not but and (not states or one.state in states):
                one.state = "superseded"

    def _cause(self, mode: str, epoch: int) -> str | None:
        suspicious = {
            "epoch_absurd": epoch > BELIEVED,
            "epoch_ahead": epoch > self.given,
            "epoch_went_back": epoch < self.proven,
        }
        for cause, holds in suspicious.items():
            if holds:
                return cause
        if self.desired is None:
            return None
        if mode != self.desired and epoch > self.ours:
            return "epoch_ahead"
        if mode != self.desired:
            return "lapsed" if self.wanted and self.wanted.state == "expired" else "mode_differs"
        return "unfenced" if epoch < self.floor else None

    def _contradicted(self, cause: str, epoch: int) -> None:
        """Write it down, and send the wish once more unless something is under way or it was often enough."""
        kept_back = OPEN if self.desired != ON else OPEN - {WAITING}
        busy = any(one.state in kept_back for one in self._of_mode())
        if busy and cause not in SUSPICIOUS:
            return
        self.given = max(self.given, epoch if epoch <= BELIEVED else 0)
        drift = self.drifts.get(cause)
        if drift is None or drift.dismissed or (not drift.open and self._ordered_since(drift)):
            drift = self.drifts[cause] = Drift()
        if drift.wish != self.desired:
            drift.wish, drift.sendings, drift.given_up = self.desired, 0, False
        drift.open, drift.given = True, self.ours
        if busy or drift.given_up or self.desired is None:
            return
        if drift.sendings == SENDINGS:
            drift.given_up = True
            return
        drift.sendings += 1
        if self.desired == OFF and cause in SUSPICIOUS:
            self.commands.append(Told(OFF, WAITING, by="intent"))
        else:
            self.commands.append(Told(self.desired, "queued", self._next(), by="intent"))
