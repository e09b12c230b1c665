"""Foreign objects, and tenants' own hands, in the products themselves."""

from harness import Case, Expected, MARKER, Subscription, flow_data, flow_uuid, main, say


class Foreign(Case):
    partitions = 1

    def conflict(self, stage, sub, step):
        stage.settled()
        job = stage.db.jobs(sub.uuid)[-1]
        self.assertEqual((job["state"], job["step"], job["error_class"]), ("failed", step, "conflict"), job["error"])
        self.assertIn(sub.name, job["error"])
        self.assertEqual(stage.db.config(sub.uuid)["status"], "failed")

    def test_a_username_that_is_taken(self):
        for langflow in ("1.8", "1.10", "1.13"):
            with self.subTest(langflow=langflow):
                stage = self.stage(dialect="native", profiles=(langflow, None))
                sub, good = Subscription("clash", 1), Subscription("clash", 2)
                # Others whose names hold it: a search finds them too.
                foreign = (stage.langflow.plant_foreign(2, [sub.name, sub.name + "-2", "x-" + good.name]),
                           stage.ragflow.plant_foreign(2))
                stage.setup.tenants = {t["id"]: t for t in stage.ragflow.tenants()}
                stage.producer.send(sub.created(), good.created())
                self.conflict(stage, sub, "workspace")
                stage.producer.send(sub.terminated())
                stage.promise({sub.uuid: Expected.of(sub, False), good.uuid: Expected.of(good)}, foreign)

    def test_a_user_of_another_subscription(self):
        """Our marker, but not this subscription's."""
        stage = self.stage(dialect="native")
        sub, other = Subscription("marked", 1), Subscription("marked", 2)
        stage.langflow.plant({"username": sub.name, "optins": {"waldur_subscription": MARKER + other.uuid}})
        foreign = stage.langflow.plant_foreign(0), {}
        stage.producer.send(sub.created())
        self.conflict(stage, sub, "workspace")
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False)}, foreign)

    def test_a_dataset_without_our_marker(self):
        for ragflow in ("0.27-python", "0.27-go"):
            with self.subTest(ragflow=ragflow):
                stage = self.stage(dialect="native", profiles=(None, ragflow))
                sub, good = Subscription("dataset", 1), Subscription("dataset", 2)
                foreign = stage.langflow.plant_foreign(2), stage.ragflow.plant_foreign(2, [sub.name])
                stage.setup.tenants = {t["id"]: t for t in stage.ragflow.tenants()}
                stage.producer.send(sub.created(), good.created())
                self.conflict(stage, sub, "collection")
                self.assertEqual([e for e in stage.ragflow.mutations() if sub.name in e["body"]], [])
                stage.producer.send(sub.terminated())
                stage.promise({sub.uuid: Expected.of(sub, False), good.uuid: Expected.of(good)}, foreign)

    def test_the_same_name_in_another_tenant(self):
        """Even one that is shown to us, as a team's, and bears the marker."""
        stage = self.stage(dialect="native")
        sub = Subscription("elsewhere", 1)
        other = stage.ragflow.add_tenant("other@example.com", member=stage.ragflow.platform)
        stage.ragflow.plant([{"tenant": other["id"], "name": sub.name, "description": MARKER + sub.uuid,
                              "permission": "team", "documents": ["theirs.pdf"]}])
        foreign = stage.langflow.plant_foreign(0), stage.ragflow.plant_foreign(0)
        stage.setup.tenants = {t["id"]: t for t in stage.ragflow.tenants()}
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub)}, foreign)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False)}, foreign)

    def test_names_that_only_look_alike(self):
        """RAGFlow's database compares without case and trailing spaces."""
        stage = self.stage(dialect="native")
        sub = Subscription("alike", 1)
        foreign = (stage.langflow.plant_foreign(0, [sub.name.upper()]),
                   stage.ragflow.plant_foreign(0, [sub.name.upper()]))
        stage.setup.tenants = {t["id"]: t for t in stage.ragflow.tenants()}
        stage.producer.send(sub.created())
        self.conflict(stage, sub, "collection")
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False)}, foreign)


class Tenants(Case):
    partitions = 1

    def test_what_a_tenant_made_of_its_account_stays(self):
        stage = self.stage(dialect="native", overrides={"retention.chat_history": "30d"})
        sub = Subscription("own", 1)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub)})
        key, edited = stage.runtime_key(sub.uuid), flow_data("edited by the tenant")

        def tenant(method, path, body):
            return stage.langflow.do(method, path, body, key=key)

        own, = stage.langflow.account(sub.uuid)["flows"]
        tenant("PATCH", "/flows/" + own["id"], {"name": "renamed", "data": edited})
        flow = tenant("POST", "/flows/", {"name": "mine", "data": flow_data("mine")})["id"]
        tenant("POST", "/variables/", {"name": "MINE", "value": "mine", "type": "Generic", "default_fields": []})
        tenant("POST", "/api_key/", {"name": "mine"})
        own = {"flow": edited, "own_flows": [flow], "own_variables": ["MINE"], "own_keys": ["mine"]}
        stage.promise({sub.uuid: Expected.of(sub, **own)})
        say("a second order, and one of the platform's variables gone astray")
        there = {v["name"]: v for v in stage.langflow.account(sub.uuid)["variables"]}
        collection = there["ragflow_collection_id"]
        tenant("PATCH", "/variables/" + collection["id"], {**collection, "value": "somebody else's"})
        tenant("DELETE", "/variables/" + there["ragflow_url"]["id"], None)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub, **own)})
        mine, = (v for v in stage.langflow.account(sub.uuid)["variables"] if v["name"] == "MINE")
        self.assertEqual(mine["value"], "mine")
        say("terminated, and nothing of it opens anything")
        theirs = [k["api_key"] for k in stage.langflow.account(sub.uuid)["keys"]]
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False, kept=True)})
        for one in theirs:
            self.assertEqual(stage.langflow.call("POST", "/run/" + flow_uuid(sub.uuid), {}, key=one)[0], 403)
        stage.retention(31)
        stage.promise({sub.uuid: Expected.of(sub, False)})

    def test_a_tenant_that_hides(self):
        """It may rename its user and take the marker away: what is recorded leads to it all the same."""
        stage = self.stage(dialect="native")
        sub, other = Subscription("hidden", 1), Subscription("hidden", 2)
        stage.producer.send(sub.created(), other.created())
        stage.promise({s.uuid: Expected.of(s) for s in (sub, other)})
        user = stage.langflow.account(sub.uuid)["object"]["id"]
        stage.langflow.do("PATCH", "/users/" + user, {"username": "nobody", "optins": {
            "waldur_subscription": MARKER + other.uuid}}, key=stage.runtime_key(sub.uuid))
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False), other.uuid: Expected.of(other)})

    def test_a_public_flow_is_shut(self):
        stage = self.stage(dialect="native", overrides={"retention.chat_history": "30d"})
        sub = Subscription("public", 1)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub)})
        path = "/flows/" + flow_uuid(sub.uuid)
        stage.langflow.do("PATCH", path, {"access_type": "PUBLIC"}, key=stage.runtime_key(sub.uuid))
        public = "/flows/public_flow/" + flow_uuid(sub.uuid)
        self.assertEqual(stage.langflow.call("GET", public, key="")[0], 200)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False, kept=True)})
        self.assertEqual(stage.langflow.call("GET", public, key="")[0], 403)


if __name__ == "__main__":
    main()
