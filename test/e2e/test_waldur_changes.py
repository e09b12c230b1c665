"""What Waldur changes of a subscription that lives: paused and resumed resources, orders that update."""

from harness import MarketCase, dashed, eventually, main


class Changes(MarketCase):
    def status(self, m, order, wanted):
        eventually(lambda: m.config(order)["status"] == wanted, 60, f"it is {wanted}", describe=m.describe)

    def test_paused_and_resumed(self):
        """A flag of the resource's: no order tells of it, the sweep sees it."""
        m = self.market(sweep="1s")
        order = m.waldur.order(m.catalogue)
        m.wait("done", order)
        m.wait_row(order, phase="reported")
        m.waldur.pause(order.resource)
        self.status(m, order, "suspended")
        m.waldur.resume(order.resource)
        self.status(m, order, "ready")
        told = m.waldur.told(order.order)
        self.assertEqual((told["done"], told["erred"], told["erred_late"]), (1, 0, 0))
        self.assertEqual(m.row(order)["told"], "done")
        m.waldur.pause(order.resource)
        self.status(m, order, "suspended")
        ending = m.waldur.terminate(order.resource)
        m.wait("done", ending)
        self.assertEqual(m.stage.langflow.objects(), [])

    def test_updated(self):
        """Another plan, while it lives and while it is paused."""
        m = self.market(sweep="1s")
        order = m.waldur.order(m.catalogue)
        m.wait("done", order)
        plus = m.waldur.plan(m.catalogue.offering, "plus")
        change = m.waldur.update(order.resource, plan=plus)
        m.wait("done", change)
        self.assertEqual(m.config(order)["plan_tier"], "plus")
        m.wait_row(change, phase="reported", told="done")
        m.waldur.pause(order.resource)
        self.status(m, order, "suspended")
        back = m.waldur.update(order.resource, plan=m.catalogue.plan)
        m.wait("done", back)
        m.waldur.resume(order.resource)
        self.status(m, order, "ready")
        self.assertEqual(m.config(order)["plan_tier"], "pro")


if __name__ == "__main__":
    main()
