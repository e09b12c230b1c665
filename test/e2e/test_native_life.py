"""The life of a subscription in Langflow and RAGFlow themselves, in every version, and what it costs in requests."""

import json
import os

from harness import Case, Expected, MARKER, Subscription, eventually, flow_data, flow_uuid, main, say, workdir

SAMPLE = {"agent_name": "Support Assistant", "welcome_message": "Hi! How can I help?", "tone": "professional"}
# At most so many requests. Langflow 1.8 answers before it commits: a new flow and its variables are read back.
PROVISION_LANGFLOW, PROVISION_RAGFLOW = {"1.8": 11}, 4
STEADY_LANGFLOW, STEADY_RAGFLOW = 3, 1
DOCUMENTS = 130  # more than a page


def shown(entries):
    return ", ".join(f"{e['method']} {e['path']}" for e in entries)


class NativeLife(Case):
    partitions = 1

    def counted(self, stage, sub, langflow, ragflow, what):
        """Holds the requests that were sent for the subscription to their bars."""
        ours, theirs = stage.requests(sub)
        say(f"{what}: {len(ours)} requests to Langflow, {len(theirs)} to RAGFlow")
        self.assertLessEqual(len(ours), langflow, shown(ours))
        self.assertLessEqual(len(theirs), ragflow, shown(theirs))

    def clear_logs(self, stage):
        stage.langflow.clear_log()
        stage.ragflow.clear_log()

    def provision(self, stage, foreign):
        """Two: the first finds out what the servers are, the second is counted."""
        first = Subscription("native", 1, variables=SAMPLE)
        sub = Subscription("native", 2, variables=SAMPLE)
        stage.producer.send(first.created(first.traceparent))
        stage.promise({first.uuid: Expected.of(first)}, foreign)
        stage.producer.send(first.terminated())
        stage.promise({first.uuid: Expected.of(first, False, kept=True)}, foreign)
        stage.retention(31)
        self.expected = {first.uuid: Expected.of(first, False)}
        stage.promise(self.expected, foreign)
        self.clear_logs(stage)
        stage.producer.send(sub.created(sub.traceparent))
        self.expected[sub.uuid] = Expected.of(sub)
        stage.promise(self.expected, foreign)
        self.counted(stage, sub, PROVISION_LANGFLOW.get(stage.langflow.profile, 10),
                     PROVISION_RAGFLOW, "provision")
        return sub

    def rerun(self, stage, foreign, sub):
        self.clear_logs(stage)
        stage.producer.send(sub.created(sub.traceparent))
        stage.promise(self.expected, foreign)
        self.assertEqual([j["state"] for j in stage.db.jobs(sub.uuid)], ["succeeded"] * 2)
        self.counted(stage, sub, STEADY_LANGFLOW, STEADY_RAGFLOW, "once more, steady")
        self.assertEqual(stage.langflow.mutations() + stage.ragflow.mutations(), [])

    def use(self, stage, sub):
        """As its tenant does: the flow runs by its key, documents are uploaded."""
        status, answer = self.run_flow(stage, sub)
        self.assertEqual(status, 200, answer)
        stage.ragflow.documents(stage.db.config(sub.uuid)["knowledge_base_id"],
                                *(f"document-{i}.pdf" for i in range(DOCUMENTS)))

    def run_flow(self, stage, sub, key=None):
        return stage.langflow.call("POST", "/run/" + flow_uuid(sub.uuid), {"input_value": "hello"},
                                   key=key or stage.runtime_key(sub.uuid))

    def messages(self, stage, sub):
        flow, = stage.langflow.account(sub.uuid)["flows"]
        return len(flow["messages"])

    def whole_life(self, langflow=None, ragflow=None):
        stage = self.stage(dialect="native", profiles=(langflow, ragflow),
                           overrides={"retention.chat_history": "30d"})
        foreign = stage.plant_foreign(3)
        sub = self.provision(stage, foreign)
        self.rerun(stage, foreign, sub)
        self.use(stage, sub)
        key, user = stage.runtime_key(sub.uuid), stage.langflow.account(sub.uuid)["object"]["id"]
        say("terminated: closed, its chats kept, its documents gone")
        stage.producer.send(sub.terminated())
        self.expected[sub.uuid] = Expected.of(sub, False, kept=True)
        stage.promise(self.expected, foreign)
        self.assertEqual(self.run_flow(stage, sub, key)[0], 403)
        self.assertEqual(self.messages(stage, sub), 1)
        stage.retention(29)
        stage.promise(self.expected, foreign)
        say("restored: the same account, another key")
        stage.producer.send(sub.created())
        self.expected[sub.uuid] = Expected.of(sub)
        stage.promise(self.expected, foreign)
        self.assertEqual(stage.langflow.account(sub.uuid)["object"]["id"], user)
        self.assertEqual(self.messages(stage, sub), 1)
        self.assertEqual(self.run_flow(stage, sub, key)[0], 403)
        self.use(stage, sub)
        say("terminated again, and purged")
        stage.producer.send(sub.terminated())
        self.expected[sub.uuid] = Expected.of(sub, False, kept=True)
        stage.promise(self.expected, foreign)
        self.assertEqual(self.messages(stage, sub), 2)
        stage.retention(31)
        self.expected[sub.uuid] = Expected.of(sub, False)
        stage.promise(self.expected, foreign)
        self.assertEqual(stage.db.config(sub.uuid)["status"], "purged")
        say("and made anew")
        stage.producer.send(sub.created())
        self.expected[sub.uuid] = Expected.of(sub)
        stage.promise(self.expected, foreign)
        self.assertEqual(self.messages(stage, sub), 0)

    def test_langflow_1_8(self):
        self.whole_life("1.8")

    def test_langflow_1_10(self):
        self.whole_life("1.10")

    def test_langflow_1_13(self):
        self.whole_life("1.13")

    def test_ragflow_in_go(self):
        self.whole_life(ragflow="0.27-go")

    def test_new_users_are_not_active_by_themselves(self):
        stage = self.stage(dialect="native")
        stage.langflow.settings(new_user_is_active=False)
        subs = [Subscription("waking", i) for i in range(3)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs})

    def test_chat_history_is_not_kept(self):
        stage = self.stage(dialect="native")
        foreign = stage.plant_foreign(2)
        subs = [Subscription("at-once", i, offering="faq" if i % 2 else "csa") for i in range(4)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, foreign)
        for sub in subs:
            self.assertEqual(self.run_flow(stage, sub)[0], 200)
        stage.producer.send(*(s.terminated() for s in subs))
        stage.promise({s.uuid: Expected.of(s, False) for s in subs}, foreign)

    def test_a_template_in_a_file(self):
        data, path = flow_data("out of a file"), os.path.join(workdir(), "csa.json")
        with open(path, "w") as f:
            json.dump({"id": "11111111-1111-4111-8111-111111111111", "name": "Exported", "endpoint_name": "exported",
                       "user_id": "theirs", "folder_id": "22222222-2222-4222-8222-222222222222", "data": data,
                       "access_type": "PUBLIC", "is_component": False}, f)
        stage = self.stage(dialect="native", overrides={"flows": {"customer-support-agent-v1": path}})
        stage.setup.templates["csa"] = data
        subs = [Subscription("file", i) for i in range(2)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs})

    def test_a_template_by_its_id(self):
        stage = self.stage(dialect="native")
        data = flow_data("by id")
        flow = stage.langflow.template("another one", data)
        stage.setup.users = {o["object"]["id"]: o for o in stage.langflow.objects() if o["planted"]}
        sub = Subscription("by-id", 1)
        stage.producer.send(sub.created(offering={"uuid": sub.uuid, "type": "csa", "flow_id": flow}))
        stage.promise({sub.uuid: Expected.of(sub, flow=data)})

    def test_there_is_no_template(self):
        stage = self.stage(dialect="native")
        sub = Subscription("no-template", 1)
        stage.producer.send(sub.created(offering={"uuid": sub.uuid, "type": "csa", "flow_id": "nowhere-v1"}))

        def told():
            jobs = stage.db.jobs(sub.uuid)
            return jobs and jobs[-1]["error"] and "nowhere-v1" in jobs[-1]["error"]

        eventually(told, 30, "the job says which flow is missing", describe=stage.describe)
        stage.producer.send(sub.terminated())
        stage.promise({sub.uuid: Expected.of(sub, False)})

    def test_the_marker_is_what_the_contract_says(self):
        stage = self.stage(dialect="native")
        sub = Subscription("marker", 1)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub)})
        optins = stage.langflow.account(sub.uuid)["object"]["optins"]
        self.assertEqual((optins.pop("waldur_subscription"), sorted(optins)), (MARKER + sub.uuid, ["waldur_proof"]))
        self.assertRegex(optins["waldur_proof"], "^[0-9a-f]{32}$")
        dataset, = stage.ragflow.marked(sub.uuid)
        self.assertEqual(dataset["description"], MARKER + sub.uuid)


if __name__ == "__main__":
    main()
