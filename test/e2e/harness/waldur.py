"""Waldur, as its stand-in plays it: the provider's API, and what consumers, staff and cron do.

    waldur = Waldur()                           # profile "26"; Waldur(profile="24") is the one of 2024
    catalogue = waldur.catalogue()              # a customer, a project, an offering, a plan
    order = waldur.order(catalogue)             # a Create that waits for the provider; .order, .resource
    orders = waldur.orders_in_bulk(catalogue, 500)
    waldur.hook("http://127.0.0.1:9464/hooks/waldur/secret")     # webhooks; form="stomp" for the bus's messages
    waldur.settings(drop=0.3, duplicate=0.1, window_ms=200, seed=7)
    waldur.wait("done", orders)
    waldur.terminate(order.resource)
    waldur.told(order.order)                    # how often it was reported done, erred, erred too late ...
    waldur.texts()                              # every text that was ever sent to it: look for secrets there

UUIDs are 32 hex digits without dashes, as Waldur shows them; it takes both, and so does everything here. `dashed`
makes the other form. Faults, log and `down` are those of every stand-in (standin.py); the routes begin with /api/.
The worker's base URL is `waldur.api`, its token `waldur.token`.
"""

import collections
import uuid

from .process import eventually
from .standin import Standin

WALDUR_PROFILES = ("26", "24")
OPEN = ("pending-consumer", "pending-provider", "pending-project", "pending-start-date", "executing")

Catalogue = collections.namedtuple("Catalogue", "customer project offering plan")
Order = collections.namedtuple("Order", "order resource")


def dashed(text):
    return str(uuid.UUID(text))


def undashed(text):
    return uuid.UUID(text).hex


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from _strings(member)


class Waldur(Standin):
    def __init__(self, token="waldur-provider-token", profile=None):
        super().__init__("waldur", token, profile)
        self.profile = profile or WALDUR_PROFILES[0]
        self.api = self.url + "/api/"

    # ---- the API, as its provider ----

    def call(self, method, path, body=None, token=None, headers=None):
        """(status, parsed body, headers) of a call below /api/. token None: the right one; "": none."""
        sent = dict(headers or {})
        if token != "":
            sent["Authorization"] = "Token " + (token or self.token)
        return self.request(method, "/api/" + path, body, token="", headers=sent)

    def do(self, method, path, body=None):
        """The parsed body, where nothing else than success will do."""
        status, answer, _ = self.call(method, path, body)
        assert status < 300, f"{method} /api/{path}: {status} {answer}"
        return answer

    def order_details(self, order):
        return self.do("GET", f"marketplace-orders/{order}/")

    def resource_details(self, resource):
        return self.do("GET", f"marketplace-provider-resources/{resource}/")

    def pages(self, path, **arguments):
        """All of a list. Arguments that are lists are repeated."""
        query = "".join(f"&{name}={one}" for name, value in arguments.items()
                        for one in (value if isinstance(value, (list, tuple)) else [value]))
        rows, page = [], 1
        while True:
            status, answer, headers = self.call("GET", f"{path}?page_size=100&page={page}{query}")
            assert status == 200, f"GET /api/{path}: {status} {answer}"
            rows += answer
            if len(rows) >= int(headers["X-Result-Count"]):
                return rows
            page += 1

    def events(self, **filters):
        """What was fired, whether or not anybody was told, oldest first."""
        return self.pages("events/", o="created", **filters)

    # ---- what it is told to be ----

    def settings(self, **settings):
        """See struct wd_settings (test/standin/waldur.h); the answer is what was before."""
        return self.admin("POST", "/settings", settings)

    # ---- what is on offer ----

    def customer(self, name, **more):
        return self.plant({"kind": "customer", "name": name, **more})[0]

    def project(self, customer, name, **more):
        return self.plant({"kind": "project", "customer": customer, "name": name, **more})[0]

    def offering(self, provider, name, **more):
        """more: slug, type (Marketplace.Slurm), plugin_options, hidden, uuid ..."""
        return self.plant({"kind": "offering", "customer": provider, "name": name, **more})[0]

    def plan(self, offering, name, **more):
        return self.plant({"kind": "plan", "offering": offering, "name": name, **more})[0]

    def catalogue(self, customer="Acme Corp", project="Website Support", offering="Customer Support Agent", plan="pro",
                  **offering_more):
        provider = self.customer("AI Provider")
        consumer = self.customer(customer)
        offering_more.setdefault("plugin_options", {"can_restore_resource": True})
        offered = self.offering(provider, offering, **offering_more)
        return Catalogue(consumer, self.project(consumer, project), offered, self.plan(offered, plan))

    def change(self, thing, **members):
        """Of a customer, project, offering or plan: slug, name, hidden, blocked; a project's customer."""
        self.admin("POST", "/things/" + thing, members)

    # ---- what consumers and cron do ----

    def _wanted(self, catalogue, name, **more):
        wanted = {"project": catalogue.project, "offering": catalogue.offering, "plan": catalogue.plan, "name": name,
                  "attributes": {"name": name}}
        wanted.update(more)
        return wanted

    def place(self, wanted):
        """Orders as /admin/orders takes them, one or many; [Order]."""
        made = self.admin("POST", "/orders", wanted)["orders"]
        return [Order(one["order"], one["resource"]) for one in made]

    def order(self, catalogue, name="my-agent", **more):
        """A Create. more: state (pending-consumer, pending-provider, executing), attributes, limits, resource_uuid,
        by="system"."""
        return self.place(self._wanted(catalogue, name, **more))[0]

    def orders_in_bulk(self, catalogue, n, prefix="agent", **more):
        return self.place([self._wanted(catalogue, f"{prefix}-{i}", **more) for i in range(n)])

    def act(self, order, action, **body):
        """approve (as the consumer), execute (past the provider's approval), reject, cancel, retry, unlink."""
        self.admin("POST", f"/orders/{order}/{action}", body)

    def _about(self, resource, action, body):
        made = self.admin("POST", f"/resources/{resource}/{action}", body)
        return Order(made["order"], made["resource"])

    def terminate(self, resource, **more):
        return self._about(resource, "terminate", more)

    def expire(self, resource, **more):
        """A termination by the system's robot: its events name no user."""
        return self._about(resource, "expire", more)

    def update(self, resource, **more):
        return self._about(resource, "update", more)

    def restore(self, resource, **more):
        return self._about(resource, "restore", more)

    def pause(self, resource):
        self.admin("POST", f"/resources/{resource}/pause", {})

    def resume(self, resource):
        self.admin("POST", f"/resources/{resource}/resume", {})

    def rotate(self, resource, client_id=None):
        """Asks for new API keys: all, or one client's."""
        self.admin("POST", f"/resources/{resource}/rotate", {"client_id": client_id} if client_id else {})

    def unlink(self, resource):
        self.admin("POST", f"/resources/{resource}/unlink", {})

    def put(self, resource, **members):
        """Members of a resource, `state` and `slug` too, without anything that would follow from it."""
        self.admin("POST", f"/resources/{resource}/set", members)

    # ---- webhooks ----

    def hook(self, url, form="webhook", event_types=None):
        """Of the staff. form "stomp": the message bus's unified messages; "stomp-legacy": the older ones."""
        wanted = {"url": url, "form": form}
        if event_types is not None:
            wanted["event_types"] = event_types
        return self.admin("POST", "/hooks", wanted)["uuid"]

    def resend(self, event, url):
        self.admin("POST", "/resend", {"event": event, "url": url})

    def send(self, url, body):
        self.admin("POST", "/send", {"url": url, "body": body})

    def deliveries(self):
        """[{"event","type","url","outcome","status","at_ms"}]; outcomes: sent, failed, dropped, skipped, guarded."""
        return self.admin("GET", "/deliveries")["deliveries"]

    def wait_sent(self, timeout=30):
        """Until nothing waits to be sent; the deliveries."""
        def sent():
            answer = self.admin("GET", "/deliveries")
            return None if answer["waiting"] else answer
        return eventually(sent, timeout, "webhooks are sent")["deliveries"]

    # ---- what became of it ----

    def short(self):
        """Every order in few words: order, type, state, error_message, resource, resource_state, backend_id, told."""
        return self.admin("GET", "/orders")

    def everything(self):
        """objects (resources), orders, keys (with the key itself), hooks, customers, projects, offerings, plans."""
        return self.admin("GET", "/objects")

    def keys(self, resource=None):
        keys = self.everything()["keys"]
        return [k for k in keys if resource is None or k["resource_uuid"] == undashed(resource)]

    def states(self):
        """{state: how many orders}."""
        return collections.Counter(o["state"] for o in self.short())

    def wait(self, state, orders=None, timeout=60):
        """Until those orders (Order or UUID; None: all there are) are in one of the states; their short forms."""
        states = (state,) if isinstance(state, str) else state
        wanted = None if orders is None else {undashed(getattr(o, "order", o)) for o in orders}

        def there():
            found = [o for o in self.short() if wanted is None or o["order"] in wanted]
            assert wanted is None or len(found) == len(wanted), "an order is gone"
            others = collections.Counter(o["state"] for o in found if o["state"] not in states)
            assert not others, f"orders are {dict(others)}"
            return found or None
        return eventually(there, timeout, f"orders are {' or '.join(states)}")

    def counters(self):
        """calls: {"POST marketplace-orders/{}/set_state_done/": n}; ignored_arguments: filters that were none; orders:
        what they were told."""
        return self.admin("GET", "/counters")

    def told(self, order):
        """approved, executing, done, done_refused, erred, erred_late (not executing), erred_refused: how often."""
        return self.counters()["orders"][undashed(order)]

    def texts(self):
        """[(route, text)]: every text in every body that was sent to it, keys in report_created and set_key apart."""
        return [(route, text) for route, _, text in self.sent_texts()]

    def sent_texts(self):
        """[(route, UUID, text)]: of which order, resource or key it was said, too."""
        return [(one["route"], one["uuid"], text) for one in self.admin("GET", "/texts") for text in _strings(one["body"])]
