"""Servers that let nobody in: limits, lost databases, unknown keys, versions that are too old. Nothing fails of it."""

from harness import Case, Expected, Subscription, eventually, main, say


class Waits(Case):
    partitions = 1

    def test_logins_are_limited(self):
        limit, window_s, n = 5, 6, 13
        stage = self.stage(dialect="native", login_limit=limit)
        stage.langflow.settings(login_window_ms=window_s * 1000, retry_after_s=window_s)
        subs = [Subscription("login", i) for i in range(n)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, timeout=120)
        logins = [e for e in stage.langflow.log() if e["path"] == "/api/v1/login"]
        refused = [e for e in logins if e["status"] == 429]
        say(f"{len(logins)} logins for {n} accounts, {len(refused)} refused")
        self.assertGreater(len(refused), 0)
        # One finds out that the limit is reached, and what is under way with it; the rest waits as it was told.
        self.assertLessEqual(len(refused), 2 * n)
        self.assertEqual(stage.db.value("SELECT max(attempts) FROM provisioning_job"), 0, "waiting costs no attempt")
        self.assertEqual({j["state"] for s in subs for j in stage.db.jobs(s.uuid)}, {"succeeded"})

    def waits(self, stage, sub, words, state=("held", "retrying")):
        """The job waits and says why; it has not failed."""
        def told():
            job = stage.db.jobs(sub.uuid)[-1]
            self.assertNotEqual(job["state"], "failed", job["error"])
            return job["state"] in state and words in (job["error"] or "") and job

        return eventually(told, 30, f"the job of {sub.uuid} says: {words}", describe=stage.describe)

    def test_ragflow_loses_its_database(self):
        """It knows no key then, and says 401."""
        stage = self.stage(dialect="native")
        there, sub = Subscription("away", 1), Subscription("away", 2)
        stage.producer.send(there.created())
        stage.promise({there.uuid: Expected.of(there)})
        stage.ragflow.settings(database_down=True)
        stage.ragflow.clear_log()
        stage.producer.send(there.terminated(), sub.created())
        for one in (there, sub):
            self.waits(stage, one, "")
        stage.taken_in()
        self.assertEqual([e for e in stage.ragflow.mutations() if e["status"] == 200], [])
        stage.ragflow.settings(database_down=False)
        stage.promise({there.uuid: Expected.of(there, False), sub.uuid: Expected.of(sub)}, timeout=90)

    def test_a_key_that_is_not_known(self):
        for product in ("langflow", "ragflow"):
            with self.subTest(product=product):
                stage = self.stage(workers=0, dialect="native")
                env, name = stage.installation.env, product.upper() + "_API_KEY"
                right, env[name] = env[name], "wrong"
                worker = stage.start_workers()
                sub = Subscription("unknown-" + product, 1)
                stage.producer.send(sub.created())
                eventually(lambda: stage.db.jobs(sub.uuid), 30, "there is a job", describe=stage.describe)
                self.waits(stage, sub, "40")
                self.assertEqual([o for o in stage.langflow.objects() + stage.ragflow.objects()
                                  if not o["planted"] and product == "ragflow"], [])
                worker.stop()
                env[name] = right
                worker.start()
                stage.promise({sub.uuid: Expected.of(sub)}, timeout=90)

    def test_a_version_that_is_too_old(self):
        stage = self.stage(dialect="native", profiles=(None, "0.24"))
        sub = Subscription("old", 1)
        stage.producer.send(sub.created())
        eventually(lambda: stage.db.jobs(sub.uuid), 30, "there is a job", describe=stage.describe)
        self.waits(stage, sub, "0.2", state=("held",))
        self.assertEqual(stage.ragflow.mutations(), [])
        self.assertEqual(stage.ragflow.objects(), [])

    def test_a_server_that_becomes_too_old(self):
        """A delete means something else there: none is sent."""
        stage = self.stage(dialect="native")
        sub = Subscription("older", 1)
        stage.producer.send(sub.created())
        stage.promise({sub.uuid: Expected.of(sub)})
        stage.workers[0].stop()
        stage.ragflow.settings(version="v0.24.0")
        stage.ragflow.clear_log()
        stage.workers[0].start()
        stage.producer.send(sub.terminated())
        eventually(lambda: len(stage.db.jobs(sub.uuid)) == 2, 30, "there is a job", describe=stage.describe)
        self.waits(stage, sub, "0.24", state=("held",))
        self.assertEqual(stage.ragflow.mutations(), [])
        self.assertEqual(len(stage.ragflow.objects()), 1)
        say("it is newer again")
        stage.workers[0].stop()
        stage.ragflow.settings(version="v0.27.0")
        stage.workers[0].start()
        stage.installation.command("resume", "--all", check=None)
        stage.promise({sub.uuid: Expected.of(sub, False)}, timeout=90)

    def test_langflow_is_away_while_it_is_found_out(self):
        stage = self.stage(dialect="native")
        for path in ("/api/v1/version", "/api/v1/users/whoami", "/api/v1/flows/"):
            stage.langflow.fault("lose_reply", method="GET", path_prefix=path)
        for path in ("/api/v1/system/version", "/api/v1/language", "/api/v1/users/me"):
            stage.ragflow.fault("fail_before", method="GET", path_prefix=path, status=502)
        subs = [Subscription("found-out", i) for i in range(5)]
        stage.producer.send(*(s.created() for s in subs))
        stage.promise({s.uuid: Expected.of(s) for s in subs}, timeout=90)


if __name__ == "__main__":
    main()
