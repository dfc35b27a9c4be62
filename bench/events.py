"""The events: what is done to a cluster while the probe writes, and what is measured.

An event is over when clients write again without a pause and, for those that
take something away, when the cluster is whole again by itself. Only then the
probe stops and every member is read back.

Never repairs anything: what does not heal within its bound is a failed run.
"""

import time

from probe import TABLE, Probe, answer, longest_gap, missing_rows, servers_in_turn
from processes import wait_until

STEADY_SECONDS = 1.5
WRITES_SECONDS = 150
HEALED_SECONDS = 240
TOLD_SECONDS = 15
STAYS_STOPPED_SECONDS = 3
PAUSE_SECONDS = 0.3
POLL_SECONDS = 0.25


class Scene:
    """One run of one event: a stage, a probe that writes, and the moment of the deed."""

    def __init__(self, stage, run):
        self.stage, self.run = stage, run
        wait_until(stage.is_healthy, HEALED_SECONDS, "healthy before the event", POLL_SECONDS)
        self.old = stage.leader()
        answer(stage.server_dsn(self.old), TABLE)
        self.facts, self.terms = {}, stage.terms()
        self.probe = Probe(stage.dsn, run)
        self.probe.start()

    def begin(self):
        """Waits until clients write, and marks the moment of the deed."""
        self.wait_until_writing()
        self.errors_before = self.probe.errors
        self.at = time.monotonic()

    def wait_until_writing(self):
        """Until clients have written for a while without a pause."""
        since = time.monotonic()

        def steady():
            nonlocal since
            now = time.monotonic()
            if now - self.probe.last_ack() > PAUSE_SECONDS:
                since = now
            return now - since > STEADY_SECONDS

        wait_until(steady, WRITES_SECONDS, "clients write")

    def wait_until_refused(self):
        """Until a client has met the failure."""
        wait_until(lambda: self.probe.errors > self.errors_before, WRITES_SECONDS, "a client sees an error")

    def wait_until_another_leads(self, limit=WRITES_SECONDS, what="another member leads"):
        def another():
            return self.stage.leader() not in (None, self.old)

        wait_until(another, limit, what, POLL_SECONDS)

    def wait_until_old_follows(self):
        """Takes the time from now until the old leader is a standby again."""
        began = time.monotonic()
        wait_until(lambda: self.stage.is_standby(self.old), HEALED_SECONDS, "the old leader follows", POLL_SECONDS)
        self.facts["back_s"] = time.monotonic() - began

    def first_ack_after(self, moment):
        """Seconds from `moment` to the first acknowledgement after it."""
        wait_until(lambda: self.probe.last_ack() > moment, WRITES_SECONDS, "the first acknowledgement")
        return min(ack[1] for ack in list(self.probe.acks) if ack[1] > moment) - moment

    def result(self):
        """Stops the probe when all is whole, and reads every member back."""
        stage, probe = self.stage, self.probe
        wait_until(stage.is_healthy, HEALED_SECONDS, "healthy after the event", POLL_SECONDS)
        healed = time.monotonic()
        self.wait_until_writing()
        until = time.monotonic()
        probe.stop()
        dsns = {name: stage.server_dsn(name) for name in stage.databases}
        leader = stage.leader()
        missing = missing_rows(probe.acks, self.run, dsns, dsns[leader])
        turns = servers_in_turn(probe.acks)
        return {
            "gap_s": longest_gap(probe.acks, self.at, until), "healed_s": healed - self.at,
            "acknowledged": len(probe.acks), "lost": missing[leader], "missing_anywhere": max(missing.values()),
            "errors": probe.errors, "messages": probe.messages, "turns": turns,
            "side_by_side": len(turns) != len(set(turns)), "old": self.old, "new": leader,
            "terms": stage.terms() - self.terms, **self.facts}


def switchover(scene):
    """Over when another leads; one that ends with the same leader is a failed run."""
    said = scene.stage.switchover()
    scene.wait_until_another_leads(TOLD_SECONDS, f"another member leads, as the answer was {said}")


def postmaster(scene):
    scene.stage.kill_postmaster(scene.old)
    scene.wait_until_refused()
    scene.wait_until_writing()


def node(scene):
    scene.stage.kill_node(scene.old)
    scene.wait_until_refused()
    scene.wait_until_writing()
    scene.stage.start_node(scene.old)
    scene.wait_until_old_follows()


def replaced_while_hurt(scene, hurt, mend):
    """Once another leads, a client beside the old server tries to write there; then it is mended."""
    hurt(scene.old)
    try:
        scene.wait_until_another_leads()
        scene.wait_until_writing()
        scene.facts["old_acknowledges"] = scene.stage.acknowledges_directly(scene.old, scene.run)
    finally:
        mend(scene.old)
    scene.wait_until_old_follows()


def agent(scene):
    """The leader's agent stops for ever."""
    replaced_while_hurt(scene, scene.stage.stop_agent, scene.stage.release_agent)


def link(scene):
    """The leader's host is cut silently."""
    replaced_while_hurt(scene, scene.stage.cut, scene.stage.heal)


def standbys(scene):
    """Both standbys gone, then one back: writes stop, then go on by themselves."""
    others = [name for name in scene.stage.nodes if name != scene.old]
    for name in others:
        scene.stage.kill_node(name)
    time.sleep(PAUSE_SECONDS)
    gone = time.monotonic()
    time.sleep(STAYS_STOPPED_SECONDS)
    scene.facts["stopped"] = scene.probe.last_ack() < gone
    began = time.monotonic()
    scene.stage.start_node(others[0])
    scene.facts["resumed_s"] = scene.first_ack_after(began)
    scene.stage.start_node(others[1])


def everything(scene):
    """Every process of every node at once, then all started again."""
    scene.stage.kill_all()
    began = time.monotonic()
    scene.stage.start_all()
    scene.facts["resumed_s"] = scene.first_ack_after(began)


EVENTS = {f.__name__: f for f in (switchover, postmaster, node, agent, link, standbys, everything)}
WITNESS_EVENTS = ("switchover", "postmaster", "node", "agent", "everything")
PEER_EVENTS = ("switchover", "postmaster", "node", "agent")


def play(stage, event, run):
    """One run of one event; whatever happens, the probe is stopped."""
    scene = Scene(stage, run)
    try:
        scene.begin()
        EVENTS[event](scene)
        return scene.result()
    finally:
        scene.probe.stop()
