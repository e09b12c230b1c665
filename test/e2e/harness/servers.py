"""Private PostgreSQL and Kafka, through the shell tools under test/tools."""

import os
import subprocess
import time
import urllib.parse

import psycopg2
import psycopg2.extras
from confluent_kafka.admin import AdminClient, NewTopic

from .process import WITH_US, at_end, environment, eventually, guard, run_tool, tool, unguard, workdir


class _Server:
    program = None

    def __init__(self, name):
        self.dir = os.path.join(workdir(), name)
        self.tool = tool(self.program)
        guard(self.tool, self.dir)
        self.address = self._run("start").splitlines()[-1]
        at_end(self.close)

    def _run(self, command, *more):
        return run_tool(self.tool, command, self.dir, *more, env={"KAFKA_OWNER_PID": str(os.getpid())})

    def stop(self):
        self._run("stop")

    def start(self):
        self._run("start")

    def restart(self):
        self._run("restart")

    def kill(self):
        self._run("kill")

    def close(self):
        self._run("kill")
        unguard(self.tool, self.dir)


class PrivatePostgres(_Server):
    program = "pg_private"

    def __init__(self, name="postgres"):
        super().__init__(name)
        self.url = self.address
        self._databases = 0

    def admin_url(self):
        return self._run("admin")

    def create_database(self):
        """A database of its own for one stage; returns its URL."""
        self._databases += 1
        name = f"stage_{self._databases}"
        url = urllib.parse.urlsplit(self.url)
        conn = psycopg2.connect(self.url)
        try:
            conn.autocommit = True
            with conn.cursor() as c:
                c.execute(f'CREATE DATABASE "{name}"')
        finally:
            conn.close()
        return urllib.parse.urlunsplit(url._replace(path="/" + name))


class PrivateKafka(_Server):
    program = "kafka_private"

    def __init__(self, name="kafka"):
        super().__init__(name)
        self.bootstrap = self.address

    def start(self):
        self.restart()  # the tool's start makes a new node

    def create_topics(self, partitions, **settings):
        """partitions: {topic: number}. Through the client: the tool starts a JVM for each topic."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = [NewTopic(name, number, 1, config=settings) for name, number in partitions.items()]
        for future in admin.create_topics(wanted, operation_timeout=30).values():
            future.result(30)
        # Made is not yet known: the broker takes its time to tell of them.
        for name, number in partitions.items():
            eventually(lambda: self._leaders(admin, name) == number, 30, f"topic {name} is told of")

    def group(self, name):
        """(state, number of members, those that died a moment ago among them)"""
        found = AdminClient({"bootstrap.servers": self.bootstrap}).list_groups(name, timeout=10)
        return (found[0].state, len(found[0].members)) if found else ("", 0)

    @staticmethod
    def _leaders(admin, topic):
        found = admin.list_topics(topic, timeout=10).topics[topic]
        return 0 if found.error else sum(p.leader >= 0 for p in found.partitions.values())


class Database:
    """Short questions to one database. Reconnects, since tests restart the server."""

    def __init__(self, url):
        self.url = url
        self._conn = None

    def _connect(self):
        if self._conn is None or self._conn.closed:
            self._conn = psycopg2.connect(self.url, connect_timeout=10,
                                          options="-c search_path=agent_marketplace,public")
            self._conn.autocommit = True
        return self._conn

    def rows(self, sql, *args):
        """Rows as dictionaries."""
        for last in (False, True):
            try:
                with self._connect().cursor(cursor_factory=psycopg2.extras.RealDictCursor) as c:
                    c.execute(sql, args or None)
                    return [dict(r) for r in c.fetchall()] if c.description else []
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self.close()
                if last:
                    raise
                time.sleep(0.2)

    def one(self, sql, *args):
        rows = self.rows(sql, *args)
        assert len(rows) == 1, f"{len(rows)} rows in place of one: {sql} {args}"
        return rows[0]

    def value(self, sql, *args):
        return next(iter(self.one(sql, *args).values()))

    def config(self, uuid):
        rows = self.rows("SELECT * FROM agent_config WHERE subscription_uuid = %s", uuid)
        return rows[0] if rows else None

    def jobs(self, uuid):
        return self.rows("SELECT * FROM provisioning_job WHERE subscription_uuid = %s ORDER BY id", uuid)

    def live_jobs(self):
        return self.value("SELECT count(*) FROM provisioning_job WHERE state IN ('queued','running','retrying','held')")

    def events(self):
        return self.value("SELECT count(*) FROM subscription_event")

    def close(self):
        if self._conn is not None:
            self._conn.close()
            self._conn = None


class MockKafka:
    """librdkafka's mock brokers, for what needs no real one. topics: "name:partitions", there from the start."""

    def __init__(self, topics):
        tool = os.path.join(os.path.dirname(environment("STANDIN")), "mockbroker")
        self.process = subprocess.Popen([*WITH_US, tool, "1", *topics], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        at_end(self.close)
        self.bootstrap = self.process.stdout.readline().strip()
        assert self.bootstrap, "the mock broker did not start"

    def create_topics(self, partitions, **settings):
        pass  # they came with the start

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
