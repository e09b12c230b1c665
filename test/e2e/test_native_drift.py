"""What others did to our objects in the products themselves is mended by the next order, and odd values go through."""

from harness import Case, Expected, Subscription, eventually, flow_data, flow_uuid, main, say

LONG = "x" * 60_000  # the longest that an event may have is 65536


class Drift(Case):
    partitions = 1

    def again(self, stage, *subs, **more):
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s, **more) for s in subs})

    def provisioned(self, n=1, **options):
        stage = self.stage(dialect="native", **options)
        subs = [Subscription("drift", i) for i in range(n)]
        self.again(stage, *subs)
        return stage, *subs

    @staticmethod
    def delete_user(stage, sub):
        """Until it is erased: some versions take their time."""
        config = stage.db.config(sub.uuid)
        stage.langflow.do("DELETE", "/users/" + config["runtime_workspace_id"])
        eventually(lambda: config["name"] not in stage.langflow.users_there(), 10, "the user is erased")

    def test_the_tenant_deletes_what_is_ours(self):
        stage, sub = self.provisioned()
        key = stage.runtime_key(sub.uuid)
        entry = stage.langflow.account(sub.uuid)
        stage.langflow.do("DELETE", "/flows/" + flow_uuid(sub.uuid), key=key)
        for v in entry["variables"]:
            stage.langflow.do("DELETE", "/variables/" + v["id"], key=key)
        stage.langflow.do("DELETE", "/api_key/" + entry["keys"][0]["id"], key=key)
        self.again(stage, sub)
        self.assertNotEqual(stage.runtime_key(sub.uuid), key)
        self.assertEqual(stage.langflow.call("GET", "/users/whoami", key=key)[0], 403)

    def test_the_tenant_deletes_its_project(self):
        stage, sub = self.provisioned()
        entry = stage.langflow.account(sub.uuid)
        stage.langflow.do("DELETE", "/projects/" + entry["projects"][0]["id"], key=stage.runtime_key(sub.uuid))
        self.assertEqual(stage.langflow.account(sub.uuid)["flows"], [])
        self.again(stage, sub)

    def test_an_administrator_deletes_the_user(self):
        for langflow in ("1.8", "1.10", "1.13"):
            with self.subTest(langflow=langflow):
                stage, sub = self.provisioned(profiles=(langflow, None))
                before = stage.db.config(sub.uuid)
                self.delete_user(stage, sub)
                self.again(stage, sub)
                after = stage.db.config(sub.uuid)
                self.assertNotEqual(after["runtime_workspace_id"], before["runtime_workspace_id"])
                self.assertEqual(after["knowledge_base_id"], before["knowledge_base_id"])

    def test_an_administrator_shuts_the_user(self):
        stage, sub = self.provisioned()
        user = "/users/" + stage.db.config(sub.uuid)["runtime_workspace_id"]
        stage.langflow.do("PATCH", user, {"is_active": False})
        self.again(stage, sub)

    def test_the_dataset_is_gone(self):
        stage, sub = self.provisioned()
        before = stage.db.config(sub.uuid)["knowledge_base_id"]
        stage.ragflow.do("DELETE", "/datasets", {"ids": [before]})
        self.again(stage, sub)
        self.assertNotEqual(stage.db.config(sub.uuid)["knowledge_base_id"], before)

    def test_the_datasets_settings_are_others(self):
        for ragflow in ("0.27-python", "0.27-go"):
            with self.subTest(ragflow=ragflow):
                stage, sub = self.provisioned(profiles=(None, ragflow))
                path = "/datasets/" + stage.db.config(sub.uuid)["knowledge_base_id"]
                stage.ragflow.do("PUT", path, {"parser_config": {"chunk_token_num": 128}})
                self.again(stage, sub)

    def test_everything_is_gone_before_it_ends(self):
        stage, sub, other = self.provisioned(2, overrides={"retention.chat_history": "30d"})
        stage.ragflow.do("DELETE", "/datasets", {"ids": [stage.db.config(sub.uuid)["knowledge_base_id"]]})
        self.delete_user(stage, sub)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False), other.uuid: Expected.of(other)})

    def test_the_kept_user_is_gone_before_it_is_purged(self):
        stage, sub = self.provisioned(overrides={"retention.chat_history": "30d"})
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False, kept=True)})
        self.delete_user(stage, sub)
        stage.retention(31)
        stage.promise({sub.uuid: Expected.of(sub, False)})

    def test_messages_that_outlived_their_user(self):
        """Before 1.13 Langflow leaves them behind when an administrator deletes the user."""
        for langflow in ("1.8", "1.10"):
            with self.subTest(langflow=langflow):
                stage, sub = self.provisioned(profiles=(langflow, None),
                                              overrides={"retention.chat_history": "30d"})
                stage.langflow.message(flow_uuid(sub.uuid))
                stage.producer.send(sub.terminated())
                stage.promise({sub.uuid: Expected.of(sub, False, kept=True)})
                stage.retention(31)
                stage.promise({sub.uuid: Expected.of(sub, False)})

    def test_what_the_server_could_not_take_away(self):
        stage, sub = self.provisioned()
        stage.ragflow.settings(delete_errors=1)
        stage.producer.send(sub.terminated())
        stage.settled()
        config = stage.db.config(sub.uuid)
        self.assertEqual(config["status"], "purged")
        self.assertIn("doc store", config["residue"])
        self.assertEqual([j["state"] for j in stage.db.jobs(sub.uuid)], ["succeeded"] * 2)
        self.assertEqual(stage.ragflow.marked(sub.uuid), [])

    def test_odd_variables(self):
        for langflow in ("1.8", "1.10", "1.13"):
            with self.subTest(langflow=langflow):
                stage = self.stage(dialect="native", profiles=(langflow, None))
                sub = Subscription("odd", 1, variables={
                    "plain": "a", "unicode": "Grüße, 世界 \U0001f600", "quotes": "\"'\\ \n\t", "long": LONG,
                    "percent": "100%25 & a=b; ?", "with space": "v", "OPENAI_API_KEY": "sk-x"})
                stage.producer.send(sub.created())
                stage.promise({sub.uuid: Expected.of(sub)})
                stage.producer.send(sub.created())
                stage.promise({sub.uuid: Expected.of(sub)})
                stage.producer.send(sub.terminated())
                stage.promise({sub.uuid: Expected.of(sub, False)})

    def test_variables_that_the_server_does_not_take(self):
        """Blank ones are none; what looks encrypted is kept as a secret; what lists do not show is made once."""
        for langflow in ("1.8", "1.13"):
            with self.subTest(langflow=langflow):
                stage = self.stage(dialect="native", profiles=(langflow, None))
                sub = Subscription("refused", 1, variables={"blank": "", "encrypted": "gAAAAABx", "__hidden__": "v",
                                                            "number": 12, "yes": True, "none": None,
                                                            "FLOW_ID": "taken by a placeholder"})
                stage.producer.send(sub.created())
                stage.settled()
                for _ in range(2):
                    self.check_odd(stage, sub)
                    stage.producer.send(sub.created())
                    stage.settled()

    def check_odd(self, stage, sub):
        self.assertEqual(stage.db.config(sub.uuid)["status"], "ready", stage.describe())
        there = {v["name"]: (v["type"], v["value"]) for v in stage.langflow.account(sub.uuid)["variables"]}
        names = [v["name"] for v in stage.langflow.account(sub.uuid)["variables"]]
        self.assertEqual(len(names), len(set(names)), names)
        self.assertNotIn("blank", there)
        self.assertNotIn("none", there)
        self.assertEqual(there["encrypted"], ("Credential", "gAAAAABx"))
        self.assertEqual(there["__hidden__"], ("Generic", "v"))
        self.assertEqual((there["number"][1], there["yes"][1]), ("12", "true"))
        self.assertEqual(there["FLOW_ID"][1], "taken by a placeholder")

    def test_a_large_template(self):
        stage = self.stage(dialect="native")
        data = flow_data("y" * 2_000_000)
        stage.langflow.template("large-v1", data)
        stage.setup.users = {o["object"]["id"]: o for o in stage.langflow.objects() if o["planted"]}
        subs = [Subscription("large", i) for i in range(3)]
        stage.producer.send(*(s.created(offering={"uuid": s.uuid, "type": "csa", "flow_id": "large-v1"})
                              for s in subs))
        stage.promise({s.uuid: Expected.of(s, flow=data) for s in subs})

    def test_a_model_that_is_not_there(self):
        stage = self.stage(dialect="native")
        sub = Subscription("model", 1)
        stage.producer.send(sub.created(knowledge_base={"embedding_model": "nowhere@Nobody"}))
        stage.settled()
        job, = stage.db.jobs(sub.uuid)
        say(job["error"])
        self.assertEqual((job["state"], job["step"]), ("failed", "collection"))
        self.assertEqual([o for o in stage.ragflow.objects() + stage.langflow.objects() if not o["planted"]], [])

    def test_a_slow_erasure(self):
        """1.13 keeps the name until a deleted user is erased: who comes back at once waits for that."""
        stage, sub = self.provisioned(profiles=("1.13", None))
        stage.langflow.settings(erase_ms=3000)
        stage.producer.send(sub.terminated(), sub.created())
        stage.promise({sub.uuid: Expected.of(sub)}, timeout=120)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False)}, timeout=120)

    def test_late_commits(self):
        for langflow in ("1.8", "1.13"):
            with self.subTest(langflow=langflow):
                stage = self.stage(dialect="native", profiles=(langflow, None))
                stage.langflow.settings(commit_ms=150)
                subs = [Subscription("late", i) for i in range(6)]
                for _ in range(2):
                    self.again(stage, *subs)
                    stage.producer.send(*(s.terminated() for s in subs))
                    stage.settled(timeout=120)
                    # What was deleted last is still there until that is committed.
                    eventually(lambda: stage.promise({s.uuid: Expected.of(s, False) for s in subs}) or True, 10,
                               "all is committed", describe=stage.describe)

    def test_pages_in_place_of_answers(self):
        """A frontend answers a page where there is nothing."""
        stage = self.stage(dialect="native", overrides={"retention.chat_history": "30d"})
        stage.langflow.settings(frontend=True)
        subs = [Subscription("pages", i) for i in range(4)]
        self.again(stage, *subs)
        stage.producer.send(*(s.terminated() for s in subs))
        stage.promise({s.uuid: Expected.of(s, False, kept=True) for s in subs})
        self.again(stage, *subs)
        stage.producer.send(*(s.terminated() for s in subs))
        stage.promise({s.uuid: Expected.of(s, False, kept=True) for s in subs})
        stage.retention(31)
        stage.promise({s.uuid: Expected.of(s, False) for s in subs})

    def test_many_users_in_no_order(self):
        """1.8 cannot search: pages, in which users may come twice or not at all."""
        stage = self.stage(dialect="native", profiles=("1.8", None))
        stage.langflow.settings(shuffle=True)
        foreign = stage.plant_foreign(700)
        subs = [Subscription("many", i) for i in range(12)]
        stage.langflow.fault("lose_reply", method="POST", path_prefix="/api/v1/users/", every=True, count=6)
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, foreign, timeout=120)
        stage.producer.send(*(s.terminated() for s in subs))
        stage.promise({s.uuid: Expected.of(s, False) for s in subs}, foreign, timeout=120)


if __name__ == "__main__":
    main()
