"""The ledger as a state machine: whatever workers do in whatever order, the rules hold."""

import itertools
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import text

from catalog.ledger import ClaimLost, Ledger, NotClaimable, NotMovable, SceneState
from catalog.session import connect, migrate
from catalog.states import BY_HAND, HELD, MOVES, IllegalMove
from tests.unit.catalog.products import HOUR, discovery

S = SceneState
ATTEMPTS = 3
NUMBERS = st.integers(0, 2)


class LedgerMachine(RuleBasedStateMachine):
    """A model of the ledger in a few dictionaries beside the real one."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name) / 'ledger.sqlite'}"
        migrate(url)
        self.database = connect(url)
        self.ledger = Ledger(self.database, max_attempts=ATTEMPTS)
        self.states, self.attempts, self.holder, self.old = {}, {}, {}, []

    def teardown(self):
        self.database.close()
        self.folder.cleanup()

    @rule(number=NUMBERS)
    def discover(self, number):
        (found,) = self.ledger.discover([discovery(number)], actor="watch")
        assert (found.outcome == "new") == (found.scene_id not in self.states)
        self.states.setdefault(found.scene_id, S.DISCOVERED)
        self.attempts.setdefault(found.scene_id, 0)

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def claim(self, data):
        scene = data.draw(st.sampled_from(sorted(self.states)))
        if self.states[scene] in HELD or self.states[scene] is S.SUPERSEDED:
            with pytest.raises(NotClaimable):
                self.ledger.claim(scene, actor="late", lease=HOUR)
            return
        claim = self.ledger.claim(scene, actor="worker", lease=HOUR)
        self.attempts[scene] += 1
        assert claim.attempt == self.attempts[scene]
        self.states[scene], self.holder[scene] = S.CLAIMED, claim

    @precondition(lambda self: self.holder)
    @rule(data=st.data(), step=st.sampled_from(["begin", "reject", "pass", "stay", "heartbeat"]))
    def work(self, data, step):
        scene = data.draw(st.sampled_from(sorted(self.holder)))
        claim = self.holder[scene]
        if step == "heartbeat":
            self.ledger.heartbeat(claim, HOUR)
        elif step == "begin":
            if self.states[scene] is S.PROCESSING:
                with pytest.raises(IllegalMove):
                    self.ledger.begin(claim, "r1")
            else:
                self.ledger.begin(claim, "r1")
                self.states[scene] = S.PROCESSING
        elif step == "reject":
            self.ledger.reject(claim, gate="cloud", reason="many")
            self._ended(scene, S.REJECTED)
        else:
            transient = step == "pass"
            state = self.ledger.fail(claim, error_class="E", message="m", transient=transient)
            assert (state is S.FAILED) == (transient and self.attempts[scene] < ATTEMPTS)
            self._ended(scene, state)

    @precondition(lambda self: self.states)
    @rule(data=st.data(), after=st.sampled_from(sorted(BY_HAND)), dry_run=st.booleans())
    def intervene(self, data, after, dry_run):
        """People move what no worker holds, where the table says so; a dry run tells the same and changes nothing."""
        scene = data.draw(st.sampled_from(sorted(self.states)))
        if self.states[scene] not in BY_HAND[after]:
            with pytest.raises(NotMovable):
                self.ledger.intervene(scene, after, actor="operator", why="w", dry_run=dry_run)
            return
        assert self.ledger.intervene(scene, after, actor="operator", why="w", dry_run=dry_run).id == scene
        if dry_run:
            return
        self.states[scene] = after
        if after is S.DISCOVERED:
            self.attempts[scene] = 0

    @precondition(lambda self: self.holder)
    @rule(data=st.data())
    def die(self, data):
        """The lease ends: by the clock, moved here."""
        scene = data.draw(st.sampled_from(sorted(self.holder)))
        with self.database.write() as session:
            session.execute(
                text("UPDATE scenes SET lease_until = :t WHERE id = :i"), {"t": time.time() - 1, "i": scene}
            )
        assert self.ledger.release_expired(actor="reconcile") == [scene]
        spent = self.attempts[scene] >= ATTEMPTS
        self._ended(scene, S.QUARANTINED if spent else S.DISCOVERED)

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def old_claims_can_do_nothing(self, data):
        claim = data.draw(st.sampled_from(self.old))
        for step in (lambda: self.ledger.heartbeat(claim, HOUR), lambda: self.ledger.begin(claim, "r")):
            with pytest.raises(ClaimLost):
                step()

    @invariant()
    def states_are_as_expected_and_history_agrees(self):
        for scene, state in self.states.items():
            assert self.ledger.scene(scene).state is state
            steps = self.ledger.history(scene)
            assert steps[-1].after is state
            for earlier, later in itertools.pairwise(steps):
                assert later.before is earlier.after
                assert later.after in MOVES[later.before]
        assert sum(self.ledger.counts().values()) == len(self.states)
        assert {row.id for row in self.ledger.due()} == {i for i, state in self.states.items() if state is S.DISCOVERED}

    def _ended(self, scene, state):
        self.old.append(self.holder.pop(scene))
        self.states[scene] = state


LedgerMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=timedelta(seconds=5), derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
TestLedger = LedgerMachine.TestCase
