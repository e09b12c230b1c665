"""A stage with a Waldur: orders come in, agents come into being, Waldur is told."""

import base64
import json
import secrets as random_secrets

from .native_promise import unseal
from .process import eventually
from .stage import Case
from .waldur import Waldur, dashed

TOKEN = "planted-waldur-" + random_secrets.token_hex(16)
HOOK = "planted-hook-" + random_secrets.token_hex(16)
CHAT = "https://agents.example/{name}"


class Market:
    """
    stage, waldur, catalogue: an offering that the worker knows as csa. hooks: whether Waldur sends webhooks to the first
    worker (once it runs). Everything else is what the parts can do.
    """

    def __init__(self, case, workers=1, hooks=True, sweep="1h", profile=None, overrides=None, **options):
        self.case = case
        self.waldur = Waldur(TOKEN, profile)
        case.addCleanup(self.waldur.close)
        self.catalogue = self.waldur.catalogue()
        settings = {
            "waldur": {"url": self.waldur.api, "token": TOKEN, "hook_secret": HOOK,
                       "sweep": sweep, "timeout": "5s", "endpoints": {"chat": CHAT}},
            "offerings.csa.uuid": dashed(self.catalogue.offering),
            "offerings.csa.attributes": {"tone": "variables.tone", "model": "knowledge_base.embedding_model"},
            **(overrides or {})}
        self.stage = case.stage(workers=0, overrides=settings, **options)
        self.db = self.stage.db
        if workers:
            self.stage.start_workers(workers)
        if hooks and workers:
            self.waldur.hook(self.hook_url())

    @property
    def worker(self):
        return self.stage.workers[0]

    def hook_url(self, worker=None, secret=HOOK):
        return f"http://127.0.0.1:{(worker or self.worker).port}/hooks/waldur/{secret}"

    def describe(self):
        orders = self.db.rows("SELECT phase, order_type, order_state, reason, detail, verdict, told, attempts, error "
                              "FROM waldur_order ORDER BY created_at LIMIT 12")
        short = [{k: o[k] for k in ("type", "state", "error_message", "resource_state", "backend_id")}
                 for o in self.waldur.short()[:12]]
        return "\n".join(["--- orders here ---", *(str(dict(o)) for o in orders), "--- orders there ---",
                          *map(str, short), self.stage.describe()])

    def wait(self, state, *orders, timeout=60):
        try:
            return self.waldur.wait(state, orders or None, timeout)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.describe()}") from None

    def row(self, order):
        return self.db.one("SELECT * FROM waldur_order WHERE order_uuid = %s", dashed(getattr(order, "order", order)))

    def wait_row(self, order, timeout=60, **wanted):
        """Until the order's row is so; it."""
        def there():
            row = self.row(order)
            assert all(row[k] == v for k, v in wanted.items()), {k: row[k] for k in wanted}
            return row
        return eventually(there, timeout, f"the order is {wanted}", describe=self.describe)

    def config(self, order):
        return self.db.config(dashed(order.resource))

    def effects(self, order):
        """[(operation, state)] of what was changed at Waldur for it."""
        return [(e["operation"], e["state"]) for e in
                self.db.rows("SELECT operation, state::text FROM waldur_effect WHERE subject = %s ORDER BY id",
                             dashed(getattr(order, "order", order)))]

    def program(self, *argv, check=0):
        return json.loads(self.stage.installation.command(*argv, "--json", check=check))

    def delivery(self, prefix):
        """The clear key that is kept for Waldur under this prefix; None where none is."""
        rows = self.db.rows("SELECT subscription_uuid, sealed FROM waldur_delivery WHERE prefix = %s", prefix)
        master = base64.b64decode(self.stage.secrets["master"])
        return unseal(master, rows[0]["subscription_uuid"], prefix, rows[0]["sealed"]) if rows else None

    def assert_no_secrets(self):
        """In no log, and in nothing that Waldur was sent but where a key belongs."""
        planted = [TOKEN, HOOK, *(v for k, v in self.stage.secrets.items())]
        for worker in self.stage.workers:
            text = worker.text()
            for secret in planted:
                self.case.assertNotIn(secret, text)
            self.case.assertNotRegex(text, r"pk_live_[0-9A-Za-z]{9}")
            self.case.assertNotIn(HOOK, worker.get("/metrics")[1])
        for route, text in self.waldur.texts():
            for secret in planted:
                self.case.assertNotIn(secret, text)
            if not route.endswith(("report_created/", "set_key/")):
                self.case.assertNotRegex(text, r"pk_live_[0-9A-Za-z]{9}", route)


class MarketCase(Case):
    def market(self, **options):
        return Market(self, **options)
