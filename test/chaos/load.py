"""Subscriptions that come and go without end, and how many became ready when, by the database's own clock."""

import bisect
import collections
import threading
import time

import psycopg2

from harness import Database, Expected, Subscription


class Load(threading.Thread):
    """
    A closed loop: so many subscriptions are on their way, to ready or to their end. For each that gets ready the oldest
    one is terminated, for each that has ended a new one is ordered. What slows the machine down slows it alike before a
    fault and after it. While a fault lasts orders go on coming (press), as buyers do not wait for it either: then there
    is a backlog.
    """

    ALIVE = 40  # ready ones that are let be
    EVERY_S = 0.05
    FAQ_EVERY = 4  # that one needs no collection

    def __init__(self, stage, seed, outstanding, organizations=20, organization=None, data=None):
        """
        organizations: how many they are of; organization: the one that all are of. data: members of each created event.
        """
        super().__init__(daemon=True)
        self.stage, self.seed, self.outstanding = stage, seed, outstanding
        self.organizations, self.organization, self.data = organizations, organization, data or {}
        self.expected = {}
        self.creating, self.ending = {}, {}  # by UUID
        self.alive = collections.deque()
        self.ended = 0
        self.failure = None
        self._db = Database(stage.database_url)
        self._lock = threading.Lock()
        self._over = False
        self._pressure = None  # events a second, since, sent since

    # ---- from outside ----

    def press(self, per_second):
        """Order that many a second whatever becomes of them; 0: closed again."""
        with self._lock:
            self._pressure = [per_second, time.monotonic(), 0] if per_second else None

    def backlog(self):
        """The UUIDs of those that are on their way."""
        return {*self.creating, *self.ending}

    def on_their_way(self):
        return len(self.creating) + len(self.ending)

    def end(self):
        """No more orders, and nobody who counts; raises what went wrong meanwhile."""
        self.stop()
        self.check()
        self.stage.producer.flush()

    def stop(self):
        self._over = True
        if self.is_alive():
            self.join()
        self._db.close()

    def check(self):
        if self.failure:
            raise self.failure

    # ---- the loop ----

    def run(self):
        try:
            while not self._over:
                began = time.monotonic()
                self._look()
                self._feed()
                time.sleep(max(0.0, self.EVERY_S - (time.monotonic() - began)))
        except Exception as e:
            self.failure = e

    def _look(self):
        """Which of them have arrived. The database may be away."""
        awaited = [*self.creating, *self.ending]
        try:
            rows = self._db.rows("SELECT subscription_uuid::text AS uuid, status FROM agent_config WHERE "
                                 "subscription_uuid = ANY (%s::uuid[]) AND status IN ('ready', 'archived', 'purged')",
                                 awaited)
        except psycopg2.Error:
            return
        for row in rows:
            if row["status"] == "ready" and row["uuid"] in self.creating:
                self.alive.append(self.creating.pop(row["uuid"]))
            elif row["status"] != "ready":
                self.ended += self.ending.pop(row["uuid"], None) is not None

    def _feed(self):
        while len(self.alive) > self.ALIVE:
            sub = self.alive.popleft()
            self.ending[sub.uuid] = sub
            self.expected[sub.uuid] = Expected.of(sub, False, known=False)
            self.stage.producer.send(sub.terminated(), flush=False)
        while self.on_their_way() < self.outstanding or self._pressed():
            self._order()

    def _pressed(self):
        with self._lock:
            if not self._pressure:
                return False
            per_second, since, sent = self._pressure
            self._pressure[2] += 1
            return sent < per_second * (time.monotonic() - since)

    def _order(self):
        number = len(self.expected)
        sub = Subscription(self.seed, number, organizations=self.organizations, organization=self.organization,
                           offering="faq" if number % self.FAQ_EVERY == 0 else "csa")
        self.creating[sub.uuid] = sub
        self.expected[sub.uuid] = Expected.of(sub)
        self.stage.producer.send(sub.created(**self.data), flush=False)


class Arrivals:
    """When subscriptions of one runtime became ready."""

    def __init__(self, db, runtime):
        self._times = [r["at"] for r in db.rows(
            "SELECT extract(epoch FROM ready_at)::float8 AS at FROM agent_config "
            "WHERE runtime_name = %s AND ready_at IS NOT NULL ORDER BY ready_at", runtime)]

    def count(self, begin, end):
        return bisect.bisect_left(self._times, end) - bisect.bisect_left(self._times, begin)

    def per_second(self, begin, end):
        """The mean of a second, without the worst and the best eighth of them: hiccups of the machine are there."""
        n = int(end - begin)
        counts = sorted(self.count(begin + i, begin + i + 1) for i in range(n))
        kept = counts[n // 8:n - n // 8]
        return sum(kept) / len(kept)

    def back_at(self, since, wanted, until):
        """The moment since when a second had that many; until, where none has."""
        at = since
        while at < until and self.count(at, at + 1) < wanted:
            at += 0.1
        return min(at, until)
