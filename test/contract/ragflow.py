"""What the worker relies on in RAGFlow, asserted against the stand-in or a live server.

Without settings every assertion runs against the stand-in (program in $STANDIN), once for each version that it plays.
With these in the environment it runs against a live server instead:

  RAGFLOW_URL                 the API server, e.g. http://127.0.0.1:9380
  RAGFLOW_API_KEY             a key of a tenant in which the suite may work
  RAGFLOW_EMBEDDING_MODEL     a model configured in that tenant, e.g. text-embedding-3-small@OpenAI; without it
                              datasets are made with the tenant's default
  RAGFLOW_PROFILE             0.24 (0.22 and later), 0.27-python (0.25.2 and later) or 0.27-go, where the server does
                              not tell which of them its ways are
  RAGFLOW_ADMIN_URL           the admin service, e.g. http://127.0.0.1:9381; with
  RAGFLOW_ADMIN_EMAIL         (default admin@ragflow.io),
  RAGFLOW_ADMIN_PASSWORD      and
  RAGFLOW_PUBLIC_KEY          the server's conf/public.pem (RSA), with which passwords are encrypted. Without the
                              admin service the cases that need a tenant of their own are skipped.

Only objects that the suite made itself are changed or deleted: datasets, keys and users named contract-<random>. Bodies
that could mean "all" are sent with the key of a tenant that the suite made, never with RAGFLOW_API_KEY. Cases that
break the server (database away, residue, races) run against the stand-in alone.

Usage: ragflow.py [-h] [unittest's arguments, e.g. -v, -k NAME]
"""

import base64
import json
import os
import re
import secrets
import sys
import unittest

from http_api import PrivateStandin, call

PROFILES = ("0.24", "0.27-python", "0.27-go")
MODEL = "text-embedding-3-small@OpenAI"
NOWHERE = "f8aa3604e5f311f1936a02fc0badf00d"  # a version 1 UUID: old servers take no other
HEX = re.compile(r"[0-9a-f]{32}")


# ---- the admin service's passwords: RSA, PKCS#1 v1.5, of the base64 of the password ----

def read_der(data, at):
    """(tag, value, end) of the DER element that begins at `at`."""
    tag, size, at = data[at], data[at + 1], at + 2
    if size & 0x80:
        n = size & 0x7F
        size, at = int.from_bytes(data[at:at + n], "big"), at + n
    return tag, data[at:at + size], at + size


def read_public_key(path):
    """(modulus, exponent) of a PEM file with a SubjectPublicKeyInfo."""
    with open(path) as f:
        lines = [line for line in f.read().splitlines() if line and not line.startswith("-")]
    _, outer, _ = read_der(base64.b64decode("".join(lines)), 0)
    _, _, end = read_der(outer, 0)
    _, bits, _ = read_der(outer, end)
    _, numbers, _ = read_der(bits[1:], 0)
    _, modulus, end = read_der(numbers, 0)
    _, exponent, _ = read_der(numbers, end)
    return int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")


def encrypt(password, public_key):
    modulus, exponent = public_key
    size = (modulus.bit_length() + 7) // 8
    text = base64.b64encode(password.encode())
    padding = bytes(secrets.randbelow(255) + 1 for _ in range(size - 3 - len(text)))
    number = int.from_bytes(b"\0\2" + padding + b"\0" + text, "big")
    return base64.b64encode(pow(number, exponent, modulus).to_bytes(size, "big")).decode()


# ---- servers ----

class StandinServer:
    live = False

    def __init__(self, profile):
        self.profile = profile
        self.minor = 24 if profile == "0.24" else 27
        self.key = "ragflow-" + secrets.token_urlsafe(32)
        self.standin = PrivateStandin("ragflow", self.key, profile)
        self.url = self.admin_url = self.standin.url
        self.model = MODEL
        self.email, self.password = "admin@ragflow.io", "admin"
        # It cannot decrypt, so any modulus of the usual size does.
        self.public_key = (secrets.randbits(2048) | 1 << 2047 | 1, 65537)
        self.standin.admin("POST", "/models", {"model": MODEL, "api_key": "sk-provider"})

    def prepare(self, tenant):
        """The models of a tenant that the suite made."""
        self.standin.admin("POST", "/models", {"model": MODEL, "tenant": tenant})

    def close(self):
        self.standin.close()


class LiveServer:
    live = True
    standin = None

    def __init__(self):
        env = os.environ
        self.url, self.key = env["RAGFLOW_URL"], env["RAGFLOW_API_KEY"]
        self.model = env.get("RAGFLOW_EMBEDDING_MODEL")
        self.admin_url = env.get("RAGFLOW_ADMIN_URL")
        self.email = env.get("RAGFLOW_ADMIN_EMAIL", "admin@ragflow.io")
        self.password = env.get("RAGFLOW_ADMIN_PASSWORD")
        self.public_key = read_public_key(env["RAGFLOW_PUBLIC_KEY"]) if self.admin_url else None
        self.minor = self.read_minor()
        self.profile = env.get("RAGFLOW_PROFILE") or self.detect()
        if self.profile not in PROFILES:
            sys.exit(f"RAGFLOW_PROFILE is one of {', '.join(PROFILES)}")
        self.minor = self.minor or (24 if self.profile == "0.24" else 27)

    def read_minor(self):
        """27 of v0.27.1; None where the server does not tell."""
        for path in ("/api/v1/system/version", "/v1/system/version"):
            version = re.match(r"v0\.(\d+)\.", str(call(self.url, "GET", path, authorization=self.key).data))
            if version:
                return int(version[1])
        return None

    def detect(self):
        language = call(self.url, "GET", "/api/v1/language")
        if language.status == 200 and language.data:
            return "0.27-go" if language.data["language"] == "go" else "0.27-python"
        if not self.minor or self.minor < 22:
            sys.exit("can't tell which of the known versions this server is: set RAGFLOW_PROFILE")
        return "0.24" if self.minor < 25 else "0.27-python"

    def prepare(self, tenant):
        pass

    def close(self):
        pass


class Base:
    """One server for a class; what a test made goes with the test."""

    profile = None  # a stand-in's; None: the live server

    @classmethod
    def setUpClass(cls):
        cls.server = StandinServer(cls.profile) if cls.profile else LiveServer()
        cls.old, cls.go = (cls.server.profile == p for p in ("0.24", "0.27-go"))
        cls.python = cls.server.profile == "0.27-python"
        cls.session = None
        answer = cls.server_call("GET", "/api/v1/datasets?page_size=1")
        assert answer.code == 0, f"RAGFLOW_API_KEY does not work: {answer}"

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    @classmethod
    def server_call(cls, method, path, body=None, key=None, **more):
        return call(cls.server.url, method, path, body, f"Bearer {key or cls.server.key}", **more)

    def setUp(self):
        self.prefix = "contract-" + secrets.token_hex(6)

    # ---- requests ----

    def ask(self, method, path, body=None, key=None, **more):
        return self.server_call(method, path, body, key, **more)

    def good(self, method, path, body=None, key=None, **more):
        answer = self.ask(method, path, body, key, **more)
        self.assertEqual((answer.status, answer.code), (200, 0), f"{method} {path}: {answer}")
        return answer

    def bad(self, code, method, path, body=None, key=None, says=None, **more):
        """Refused in the body, under HTTP 200."""
        answer = self.ask(method, path, body, key, **more)
        self.assertEqual((answer.status, answer.code), (200, code), f"{method} {path} {body}: {answer}")
        if self.python:
            self.assertNotIn("data", answer.body)
        for text in [says] if isinstance(says, str) else says or []:
            self.assertIn(text, answer.message)
        return answer

    def unauthorized(self, answer):
        self.assertEqual((answer.status, answer.code), (200, 109) if self.old else (401, 401), answer)

    @property
    def miss(self):
        return 108 if self.old else 102

    @property
    def invalid(self):
        return 102 if self.go else 101

    # ---- datasets ----

    def creation(self, name="", **members):
        body = {"name": self.prefix + name, **members}
        if self.server.model:
            body.setdefault("embedding_model", self.server.model)
        return body

    def create(self, name="", key=None, **members):
        if self.go and self.server.live and key:
            self.skipTest("a fresh tenant of the Go server has no model to make datasets with")
        data = self.good("POST", "/api/v1/datasets", self.creation(name, **members), key).data
        self.addCleanup(self.remove, data["id"], key)
        return data

    def remove(self, dataset, key=None):
        self.assertRegex(dataset, HEX)
        self.ask("DELETE", "/api/v1/datasets", {"ids": [dataset]}, key)

    def refused(self, code, says=None, **members):
        """A create that is refused leaves nothing behind."""
        body = self.creation("-refused", **members)
        self.bad(code, "POST", "/api/v1/datasets", {k: v for k, v in body.items() if v is not Ellipsis}, says=says)
        self.bad(self.miss, "GET", f"/api/v1/datasets?name={self.prefix}-refused")

    def read(self, dataset, key=None):
        rows = self.good("GET", f"/api/v1/datasets?id={dataset}", key=key).data
        self.assertEqual([row["id"] for row in rows], [dataset])
        return rows[0]

    def names(self, query, key=None):
        return [row["name"] for row in self.good("GET", "/api/v1/datasets?" + query, key=key).data]

    def is_gone(self, dataset, key=None):
        answer = self.ask("GET", f"/api/v1/datasets?id={dataset}", key=key)
        self.assertIn((answer.status, answer.code), ((200, 0), (200, self.miss)), answer)
        return answer.code != 0

    # ---- tenants of the suite's own ----

    def admin(self, method, path, body=None, session=None, **more):
        """session None: the suite's; "": none."""
        session = type(self).session if session is None else session
        return call(self.server.admin_url, method, "/api/v1/admin" + path, body, session or None, **more)

    def encrypted(self, password):
        return encrypt(password, self.server.public_key)

    def log_in(self):
        """The service knows one session an account: the suite's cases share theirs."""
        answer = self.admin("POST", "/login", {"email": self.server.email,
                                               "password": self.encrypted(self.server.password)}, session="")
        self.assertEqual((answer.status, answer.code), (200, 0), f"admin login: HTTP {answer.status}")
        type(self).session = answer.headers["Authorization"]
        return type(self).session

    def need_admin(self):
        if not self.server.admin_url:
            self.skipTest("RAGFLOW_ADMIN_URL is not set")
        if not type(self).session:
            self.log_in()

    def user(self, name=""):
        """(email, tenant id, key) of a fresh tenant, gone with the test."""
        self.need_admin()
        email = f"{self.prefix}{name}-{secrets.token_hex(2)}@example.com"
        answer = self.admin("POST", "/users", {"username": email, "password": self.encrypted("p" + self.prefix),
                                               "role": "user"})
        self.assertEqual((answer.status, answer.code), (200, 0), answer)
        self.addCleanup(self.drop_user, email)
        tenant = answer.data["id"]
        self.server.prepare(tenant)
        answer = self.admin("POST", f"/users/{email}/keys")
        self.assertEqual((answer.status, answer.code), (200, 0), answer)
        return email, tenant, answer.data["token"]

    def drop_user(self, email):
        self.admin("PUT", f"/users/{email}/activate", {"activate_status": "off"})
        self.admin("DELETE", f"/users/{email}")


class System(Base):
    def test_open_probes(self):
        root = "/v1/system" if self.old else "/api/v1/system"
        ping = call(self.server.url, "GET", root + "/ping")
        self.assertEqual((ping.status, ping.text), (200, "pong"))
        health = call(self.server.url, "GET", root + "/healthz")
        self.assertEqual(health.status, 200)
        self.assertEqual({health.body[k] for k in ("db", "redis", "doc_engine", "storage", "status")}, {"ok"})
        self.assertNotIn("code", health.body)
        version = self.good("GET", root + "/version")
        self.assertIsInstance(version.data, str)
        if not self.old:
            self.assertEqual(call(self.server.url, "GET", root + "/version").data, version.data)
        config = call(self.server.url, "GET", root + "/config")
        self.assertIn("registerEnabled", config.data)

    def test_language_tells_the_implementation(self):
        answer = self.ask("GET", "/api/v1/language")
        if self.server.minor < 27:
            self.assertEqual(answer.status, 404)
        else:
            self.assertEqual(answer.data, {"language": "go" if self.go else "python"})

    def test_keys_that_are_none(self):
        self.unauthorized(self.ask("GET", "/api/v1/datasets", key="ragflow-unknown"))
        self.unauthorized(self.ask("DELETE", "/api/v1/datasets", {"ids": [NOWHERE]}, key="ragflow-unknown"))
        missing = call(self.server.url, "GET", "/api/v1/datasets")
        if self.old:  # code 0: success is data that is not false
            self.assertEqual((missing.status, missing.code, missing.data), (200, 0, False))
        else:
            self.unauthorized(missing)
        bare = call(self.server.url, "GET", "/api/v1/datasets?page_size=1", authorization=self.server.key)
        self.assertEqual(bare.code, 0)

    def test_whose_key_it_is(self):
        tenant = self.create()["tenant_id"]
        if self.old:
            self.assertEqual(self.ask("GET", "/api/v1/users/me").status, 404)
        else:
            self.assertEqual(self.good("GET", "/api/v1/users/me").data["id"], tenant)

    def test_what_is_not_there(self):
        answer = self.ask("POST", "/api/v1/collections", {"name": self.prefix})
        self.assertEqual(answer.status, 404)
        if not self.go:
            self.assertEqual(answer.code, 404)
            self.assertEqual(self.ask("DELETE", f"/api/v1/datasets/{NOWHERE}").code, 100)


class Create(Base):
    def test_what_was_sent_is_stored(self):
        config = {"chunk_token_num": 256, "delimiter": "\n"}
        made = self.create(description="marketplace subscription=1", permission="me", parser_config=config,
                           **({} if self.go else {"chunk_method": "naive"}))
        self.assertRegex(made["id"], HEX)
        self.assertEqual(made["name"], self.prefix)
        self.assertEqual((made["document_count"], made["permission"], made["status"]), (0, "me", "1"))
        self.assertIsInstance(made["create_time"], int)
        if self.server.model:
            self.assertEqual(made["embedding_model"], self.server.model)
        row = self.read(made["id"])
        self.assertEqual(row["tenant_id"], made["tenant_id"])
        if self.go:  # it keeps neither, and says nothing
            self.assertIsNone(row["description"])
            self.assertEqual(row["parser_config"]["chunk_token_num"], 512)
            self.assertIn("parser_id", row)
        else:
            self.assertEqual(row["description"], "marketplace subscription=1")
            self.assertEqual({k: row["parser_config"][k] for k in config}, config)
            self.assertEqual(row["chunk_method"], "naive")

    def test_envelope(self):
        answer = self.good("POST", "/api/v1/datasets", self.creation())
        self.addCleanup(self.remove, answer.data["id"])
        if self.python:
            self.assertNotIn("message", answer.body)
        if self.go:
            self.assertIsNone(answer.body["message"])

    def test_costs_are_off_only_where_a_parser_config_is_sent(self):
        def costs(made):
            config = made["parser_config"]
            return config["raptor"]["use_raptor"], config["graphrag"]["use_graphrag"]

        self.assertEqual(costs(self.create("-omitted")), (True, True))
        if not self.go:
            self.assertEqual(costs(self.create("-empty", parser_config={})), (True, True))
            self.assertEqual(costs(self.create("-sent", parser_config={"chunk_token_num": 512})), (False, False))

    def test_a_taken_name_is_silently_another(self):
        first, second, third = (self.create() for _ in range(3))
        self.assertEqual([d["name"] for d in (first, second, third)],
                         [self.prefix, self.prefix + "(1)", self.prefix + "(2)"])
        self.assertEqual(len({d["id"] for d in (first, second, third)}), 3)
        # Its case does not make it another.
        self.assertEqual(self.create(name="")["name"], self.prefix + "(3)")
        upper = self.good("POST", "/api/v1/datasets", {**self.creation(), "name": self.prefix.upper()}).data
        self.addCleanup(self.remove, upper["id"])
        self.assertNotEqual(upper["name"], self.prefix.upper())

    def test_a_rename_works_on_the_last_part_of_a_path(self):
        if self.go:
            self.skipTest("not known of the Go server")
        names = [self.create("/sub.v1")["name"] for _ in range(2)]
        self.assertEqual(names, [self.prefix + "/sub.v1", "sub(1).v1"])

    def test_the_suffix_that_is_asked_for(self):
        self.create()
        names = [self.create("(1)")["name"] for _ in range(2)]
        self.assertEqual(names, [self.prefix + "(1)", self.prefix + ("(1)(1)" if self.go else "(2)")])

    def test_surplus_members(self):
        design = {"embedding_model": "text-embedding-3-small", "chunk_size": 512, "chunk_overlap": 50}
        if self.go:
            self.create("-surplus", chunk_size=512, id=NOWHERE)
            return
        self.refused(101, ["Field: <embedding_model>", "<model_name>@<provider>",
                           "Field: <chunk_size> - Message: <Extra inputs are not permitted> - Value: <512>",
                           "Field: <chunk_overlap>"], **design)
        self.refused(101, "Field: <id>", id=NOWHERE)
        self.refused(101, "Field: <parser_config.overlapped_percent>", parser_config={"overlapped_percent": 10})

    def test_integers_are_integers(self):
        if self.go:
            self.skipTest("the Go server ignores parser_config")
        for value, says in ((0, "greater than or equal to 1"), (2049, "less than or equal to 2048"),
                            ("512", "valid integer"), (512.0, "valid integer"), (True, "valid integer"),
                            (None, "valid integer"), ([512], "valid integer")):
            self.refused(101, [f"Field: <parser_config.chunk_token_num> - Message: <Input should be", says],
                         parser_config={"chunk_token_num": value})
        for value in (1, 2048):
            made = self.create(f"-{value}", parser_config={"chunk_token_num": value})
            self.assertEqual(made["parser_config"]["chunk_token_num"], value)

    def test_values_that_are_refused(self):
        if self.go:
            self.skipTest("the Go server checks next to nothing")
        for member, value in (("permission", "Me"), ("permission", None), ("chunk_method", "other"),
                              ("chunk_method", None), ("description", "x" * 65536), ("description", 1),
                              ("embedding_model", ""), ("embedding_model", "@OpenAI"), ("embedding_model", "m@ "),
                              ("embedding_model", "m" * 250 + "@OpenAI"), ("parser_config", []),
                              ("pipeline_id", "x" * 32)):
            self.refused(101, **{member: value})
        for config in ({"delimiter": ""}, {"auto_keywords": 33}, {"topn_tags": 0}, {"raptor": {"use_raptor": 1}},
                       {"raptor": {"x": 1}}, {"graphrag": {"method": "heavy"}},
                       {"tag_kb_ids": [1]}, {"html4excel": 0}):
            self.refused(101, "Field: <parser_config.", parser_config=config)
        everything = self.bad(101, "POST", "/api/v1/datasets", {"name": "", "permission": "x", "y": 1})
        self.assertEqual(len(everything.message.split("\n")), 3)

    def test_names(self):
        def post(name):
            body = {k: v for k, v in {**self.creation(), "name": name}.items() if v is not Ellipsis}
            return self.ask("POST", "/api/v1/datasets", body)

        for name in ("", "  ", None, 7, ..., "x" * 129):
            answer = post(name)
            if self.go and name in (None, 7):
                self.assertNotEqual(answer.code, 0)
            else:
                self.assertEqual((answer.status, answer.code), (200, self.invalid), (name, answer))
        # 128 characters, but more bytes: past the first check, not the second.
        self.assertEqual(post(self.prefix + "é" * (128 - len(self.prefix))).code, 102)
        trimmed = post(f"  {self.prefix}-blanks ")
        self.addCleanup(self.remove, trimmed.data["id"])
        self.assertEqual(trimmed.data["name"], self.prefix + "-blanks")

    def test_a_model_that_is_not_configured(self):
        for model in ("no-such-model@NoSuchProvider", "no-such-model@OpenAI"):
            self.refused(101 if self.old else 102, embedding_model=model)

    def test_bodies_that_are_none(self):
        code = self.invalid
        self.bad(code, "POST", "/api/v1/datasets", raw="{")
        self.bad(code, "POST", "/api/v1/datasets", raw="")
        self.bad(code, "POST", "/api/v1/datasets", raw="[1]")
        if not self.go:
            self.bad(code, "POST", "/api/v1/datasets", raw=json.dumps(self.creation()), content_type="text/plain",
                     says="Unsupported content type")
            long = self.bad(101, "POST", "/api/v1/datasets", {**self.creation(), "x" * 10: "y" * 4000})
            self.assertLess(len(long.message), 400)  # what is echoed is cut

    def test_an_overlap_does_not_take_here(self):
        config = {"chunk_token_num": 512, "ext": {"overlapped_percent": 10}}
        if self.old:
            self.refused(101, "Field: <parser_config.ext>", parser_config=config)
        else:
            self.assertNotIn("overlapped_percent", self.create(parser_config=config)["parser_config"])

    def test_ext_goes_around_the_checks(self):
        if not self.python:
            self.skipTest("0.25 and later, Python")
        made = self.create(parser_config={"chunk_token_num": 512}, ext={"parser_config": {"chunk_token_num": 4096}})
        self.assertEqual(made["parser_config"]["chunk_token_num"], 4096)


class List(Base):
    def test_by_id_and_by_name(self):
        made = self.create()
        self.assertEqual(self.read(made["id"])["name"], self.prefix)
        self.assertEqual(self.names(f"name={self.prefix}"), [self.prefix])
        dashed = re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", made["id"])
        self.assertEqual(self.names(f"id={dashed}&name={self.prefix}"), [self.prefix])

    def test_names_are_compared_as_the_database_does(self):
        self.create()
        self.assertEqual(self.names(f"name={self.prefix.upper()}"), [self.prefix])
        self.assertEqual(self.names(f"name={self.prefix}%20"), [self.prefix])
        self.bad(self.miss, "GET", f"/api/v1/datasets?name={self.prefix[:-1]}")

    def test_an_empty_name_filters_nothing(self):
        self.create("-a")
        self.create("-b")
        self.assertLessEqual({self.prefix + "-a", self.prefix + "-b"}, set(self.names("name=&page_size=100")))

    def test_a_miss_is_an_error(self):
        says = ["lacks permission for dataset"]
        self.bad(self.miss, "GET", f"/api/v1/datasets?id={NOWHERE}", says=says + [NOWHERE])
        self.bad(self.miss, "GET", f"/api/v1/datasets?name={self.prefix}", says=says + [self.prefix])

    def test_pages(self):
        ids = [self.create(f"-{i}")["id"] for i in range(3)]
        newest = self.good("GET", "/api/v1/datasets?page=1&page_size=1&orderby=create_time&desc=true")
        self.assertGreaterEqual(newest.body["total_datasets"], 3)
        self.assertEqual([row["id"] for row in newest.data], ids[-1:])
        oldest = self.good("GET", "/api/v1/datasets?page=1&page_size=1&orderby=create_time&desc=false")
        self.assertNotIn(oldest.data[0]["id"], ids[1:])
        past = self.good("GET", "/api/v1/datasets?page=100000&page_size=100")
        self.assertEqual(past.data, [])
        self.assertEqual(past.body["total_datasets"], newest.body["total_datasets"])

    def test_arguments_that_are_refused(self):
        queries = ["id=x", "id=", "page=0", "page_size=0", "page=x", "orderby=name", "unknown=1"]
        if self.server.minor >= 26:
            queries.append("page_size=101")
        if self.server.minor >= 27:
            queries.append("ids=x")
        if self.go:
            self.skipTest("not known of the Go server")
        for query in queries:
            self.bad(101, "GET", "/api/v1/datasets?" + query, says=f"Field: <{query.split('=')[0]}>")
        if self.old:  # there only version 1 is an id
            self.bad(101, "GET", "/api/v1/datasets?id=" + "0" * 32)
            self.good("GET", "/api/v1/datasets?page_size=1000")

    def test_ids(self):
        first, second = self.create("-a"), self.create("-b")
        if self.server.minor < 27:
            self.bad(101, "GET", f"/api/v1/datasets?ids={first['id']}", says="Field: <ids>")
            return
        for query in (f"ids={first['id']},{second['id']},{NOWHERE}", f"ids={first['id']}&ids={second['id']}"):
            self.assertEqual(sorted(self.names(query)), [self.prefix + "-a", self.prefix + "-b"])
        self.assertEqual(self.names(f"ids={NOWHERE}"), [])

    def test_one_by_path(self):
        made = self.create()
        answer = self.ask("GET", f"/api/v1/datasets/{made['id']}")
        if self.old:
            self.assertEqual(answer.code, 100)
            return
        self.assertEqual((answer.code, answer.data["name"]), (0, self.prefix))
        self.bad(102, "GET", f"/api/v1/datasets/{NOWHERE}", says="lacks permission for dataset")

    def test_somebody_elses_looks_like_none(self):
        _, _, other = self.user()
        made = self.create("-theirs", key=other)
        for key, theirs in ((self.server.key, made["id"]), (other, self.create("-ours")["id"])):
            answers = [self.bad(self.miss, "GET", f"/api/v1/datasets?id={i}", key=key) for i in (theirs, NOWHERE)]
            self.assertEqual(answers[0].message.replace(theirs, NOWHERE), answers[1].message)
            self.assertTrue(self.is_gone(theirs, key))
            if not self.go:
                self.bad(self.miss, "DELETE", "/api/v1/datasets", {"ids": [theirs]}, key)
                self.bad(self.miss, "PUT", f"/api/v1/datasets/{theirs}", {"description": "mine now"}, key)
        self.assertFalse(self.is_gone(made["id"], other))


class Update(Base):
    def put(self, dataset, body):
        return self.good("PUT", f"/api/v1/datasets/{dataset}", body).data

    def test_overlap(self):
        made = self.create(parser_config={"chunk_token_num": 512})
        body = {"parser_config": {"chunk_token_num": 512, "ext": {"overlapped_percent": 10}}}
        if self.old:
            self.bad(101, "PUT", f"/api/v1/datasets/{made['id']}", body, says="Field: <parser_config.ext>")
            return
        self.put(made["id"], body)
        config = self.read(made["id"])["parser_config"]
        if self.go:  # whoever does not read back believes that it took
            self.assertNotIn("overlapped_percent", config)
        else:
            self.assertEqual((config["chunk_token_num"], config["overlapped_percent"]), (512, 10))

    def test_only_what_is_sent_changes(self):
        made = self.create(parser_config={"chunk_token_num": 256, "auto_keywords": 3, "raptor": {"max_token": 1024}})
        self.put(made["id"], {"description": "one"})
        changed = self.put(made["id"], {"parser_config": {"auto_keywords": 5}})
        self.assertEqual((changed["name"], changed["description"]), (self.prefix, "one"))
        config = self.read(made["id"])["parser_config"]
        self.assertEqual(config["auto_keywords"], 5)
        self.assertEqual(config["raptor"]["max_token"], 512 if self.go else 1024)
        self.assertEqual(config["chunk_token_num"], 512 if self.go else 256)
        self.assertGreaterEqual(changed["update_time"], made["update_time"])

    def test_parent_child_is_reset_when_not_sent(self):
        if not self.python:
            self.skipTest("0.25 and later, Python")
        wanted = {"use_parent_child": True, "children_delimiter": ";"}
        made = self.create(parser_config={"parent_child": wanted})
        self.assertEqual(made["parser_config"]["parent_child"], wanted)
        self.put(made["id"], {"parser_config": {"auto_keywords": 1}})
        self.assertFalse(self.read(made["id"])["parser_config"]["parent_child"]["use_parent_child"])

    def test_go_needs_it_for_the_marker(self):
        made = self.create(description="marker")
        self.put(made["id"], {"description": "marker"})
        self.assertEqual(self.read(made["id"])["description"], "marker")

    def test_refused(self):
        made = self.create()
        path = f"/api/v1/datasets/{made['id']}"
        self.bad(101 if self.old else 102, "PUT", path, {}, says="roperties were modified")
        self.bad(self.miss, "PUT", f"/api/v1/datasets/{NOWHERE}", {"description": "x"}, says="lacks permission")
        taken = self.create("-taken")
        self.bad(102, "PUT", path, {"name": taken["name"].upper()}, says="already exists")
        self.assertEqual(self.read(made["id"])["name"], self.prefix)
        if not self.go:
            self.bad(101, "PUT", path, {"chunk_size": 1}, says="Field: <chunk_size>")
            self.bad(101, "PUT", path, {"pagerank": 101}, says="Field: <pagerank>")

    def test_renamed(self):
        made = self.create()
        self.put(made["id"], {"name": self.prefix + "-other"})
        self.bad(self.miss, "GET", f"/api/v1/datasets?name={self.prefix}")
        self.assertEqual(self.names(f"name={self.prefix}-other"), [self.prefix + "-other"])


class Delete(Base):
    def delete(self, *ids, key=None):
        return self.ask("DELETE", "/api/v1/datasets", {"ids": list(ids)}, key)

    def test_once_and_again(self):
        made, other = self.create(), self.create("-other")
        answer = self.delete(made["id"])
        self.assertEqual((answer.status, answer.code), (200, 0))
        if self.old:
            self.assertIsNone(answer.data)
        else:
            self.assertEqual(answer.data["success_count"], 1)
            self.assertFalse(answer.data.get("errors"))
        self.assertTrue(self.is_gone(made["id"]))
        self.assertFalse(self.is_gone(other["id"]))
        again = self.delete(made["id"])
        if self.go:  # success that deleted nothing
            self.assertEqual((again.code, again.data["success_count"]), (0, 0))
        else:
            self.assertEqual(again.code, self.miss)
            self.assertIn("lacks permission for datasets", again.message)

    def test_one_that_is_unknown_spares_the_rest(self):
        if self.go:
            self.skipTest("not known of the Go server")
        made = self.create()
        self.assertEqual(self.delete(made["id"], NOWHERE).code, self.miss)
        self.assertFalse(self.is_gone(made["id"]))

    def test_refused(self):
        made = self.create()
        if self.go:
            self.skipTest("not known of the Go server")
        for body in ({"ids": ["x"]}, {"ids": [made["id"], made["id"]]}, {"ids": [made["id"]], "x": 1},
                     {"ids": made["id"]}, {"ids": [1]}, {"ids": [""]}):
            self.bad(101, "DELETE", "/api/v1/datasets", body)
        self.assertFalse(self.is_gone(made["id"]))

    def remaining(self, body):
        """How many of two datasets, all that a tenant has, such a delete leaves."""
        _, _, key = self.user()
        for i in range(2):
            self.create(f"-{i}", key=key)
        if body is None:
            answer = self.ask("DELETE", "/api/v1/datasets", key=key)
        else:
            answer = self.ask("DELETE", "/api/v1/datasets", body, key=key)
        return answer, len(self.good("GET", "/api/v1/datasets", key=key).data)

    def test_bodies_that_could_mean_all(self):
        table = {"0.24": ((101, 2), (101, 2), (0, 0), (0, 2)),
                 "0.27-python": ((101, 2), (0, 2), (0, 2), (0, 2)),
                 "0.27-go": ((102, 2), (0, 2), (0, 2), (0, 2))}[self.server.profile]
        for body, (code, left) in zip((None, {}, {"ids": None}, {"ids": []}), table):
            with self.subTest(body=body):
                answer, remaining = self.remaining(body)
                self.assertEqual((answer.status, answer.code, remaining), (200, code, left), answer)

    def test_delete_all(self):
        answer, remaining = self.remaining({"delete_all": True})
        if self.old:
            self.assertEqual((answer.code, remaining), (101, 2))
        else:
            self.assertEqual((answer.code, remaining), (0, 0))


class Documents(Base):
    def upload(self, dataset, *names):
        mark = "----" + self.prefix
        parts = [f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                 f"Content-Type: text/plain\r\n\r\nhello {name}\r\n" for name in names]
        answer = self.good("POST", f"/api/v1/datasets/{dataset}/documents", raw="".join(parts) + f"--{mark}--\r\n",
                           content_type=f"multipart/form-data; boundary={mark}")
        self.assertEqual(sorted(d["name"] for d in answer.data), sorted(names))
        return [d["id"] for d in answer.data]

    def listed(self, dataset, query="page=1&page_size=100"):
        data = self.good("GET", f"/api/v1/datasets/{dataset}/documents?{query}").data
        return [d["id"] for d in data["docs"]], data["total"]

    def delete(self, dataset, body, code=0):
        answer = self.ask("DELETE", f"/api/v1/datasets/{dataset}/documents", body)
        self.assertEqual((answer.status, answer.code), (200, code), answer)
        return answer

    def test_explicit_ids(self):
        dataset = self.create()["id"]
        self.assertEqual(self.listed(dataset), ([], 0))
        ids = self.upload(dataset, "a.txt", "b.txt", "c.txt")
        found, total = self.listed(dataset)
        self.assertEqual((sorted(found), total), (sorted(ids), 3))
        self.assertEqual([len(self.listed(dataset, f"page={p}&page_size=2")[0]) for p in (1, 2, 3)], [2, 1, 0])
        self.assertEqual(self.read(dataset)["document_count"], 3)
        answer = self.delete(dataset, {"ids": ids[:2]})
        if not self.old:
            self.assertEqual(answer.data, {"deleted": 2})
        self.assertEqual(self.listed(dataset), (ids[2:], 1))

    def test_all(self):
        dataset, other = self.create()["id"], self.create("-other")["id"]
        self.upload(dataset, "a.txt", "b.txt")
        kept = self.upload(other, "a.txt")
        if self.old:  # no ids, by whatever mistake, are all of them
            for body in ({}, {"ids": []}, {"ids": None}, {"document_ids": ["x"]}):
                self.upload(dataset, f"{len(json.dumps(body))}.txt")
                self.delete(dataset, body)
                self.assertEqual(self.listed(dataset), ([], 0))
        else:
            for body in ({}, {"ids": []}):
                answer = self.ask("DELETE", f"/api/v1/datasets/{dataset}/documents", body)
                self.assertNotEqual((answer.status, answer.code), (200, 0), answer)
            self.assertEqual(self.listed(dataset)[1], 2)
            self.assertEqual(self.delete(dataset, {"delete_all": True}).data, {"deleted": 2})
            self.assertEqual(self.delete(dataset, {"delete_all": True}).data, {"deleted": 0})
        self.assertEqual(self.listed(other), (kept, 1))

    def test_of_no_dataset(self):
        for method, body in (("GET", None), ("DELETE", {"ids": [NOWHERE]})):
            answer = self.ask(method, f"/api/v1/datasets/{NOWHERE}/documents", body)
            self.assertEqual(answer.status, 200, answer)
            self.assertIn(answer.code, (102, 108), answer)


class Keys(Base):
    def setUp(self):
        super().setUp()
        root = "/v1/system" if self.old else "/api/v1/system"
        self.mint, self.listing, self.one = (
            (root + "/new_token", root + "/token_list", root + "/token/") if self.old else
            (root + "/tokens", root + "/tokens", root + "/tokens/"))

    def fresh(self, key=None):
        data = self.good("POST", self.mint, key=key).data
        self.addCleanup(self.ask, "DELETE", self.one + data["token"], key=key)
        return data["token"], data["tenant_id"]

    def tokens(self, key=None):
        return {row["token"] for row in self.good("GET", self.listing, key=key).data}

    def test_a_key_makes_and_ends_keys(self):
        before = self.tokens()
        token, tenant = self.fresh()
        self.assertTrue(token.startswith("ragflow-"))
        self.assertEqual(self.tokens() - before, {token})  # in clear, to every key of the tenant
        made = self.create(key=token)
        self.addCleanup(self.remove, made["id"])  # its own key is gone by then
        self.assertEqual(made["tenant_id"], tenant)
        self.assertFalse(self.is_gone(made["id"], self.server.key))  # no key has objects of its own
        self.good("DELETE", self.one + token)
        self.unauthorized(self.ask("GET", "/api/v1/datasets", key=token))
        self.assertEqual(self.tokens(), before)

    def test_ending_one_always_succeeds(self):
        token, _ = self.fresh()
        _, _, other = self.user()
        theirs = self.good("POST", self.mint, key=other).data["token"]
        self.good("DELETE", self.one + token)
        for nothing in (token, "ragflow-never-there", theirs):
            self.assertIs(self.good("DELETE", self.one + nothing).data, True)
        self.good("GET", "/api/v1/datasets", key=theirs)

    def test_a_member_of_another_team_ends_none(self):
        if self.old:
            self.skipTest("the team's routes are others there")
        (_, host, host_key), (guest, _, key) = self.user("-host"), self.user("-guest")
        self.good("POST", f"/api/v1/tenants/{host}/users", {"email": guest}, host_key)
        self.good("PATCH", f"/api/v1/tenants/{host}", {}, key)
        token, _ = self.fresh(key)
        self.assertIs(self.good("DELETE", self.one + token, key=key).data, True)
        self.good("GET", "/api/v1/datasets", key=token)


class Admin(Base):
    def setUp(self):
        super().setUp()
        self.need_admin()

    def refused(self, answer, code):
        self.assertEqual((answer.status, answer.code), (400, code), answer)

    def logged_out(self, answer):
        self.assertEqual(answer.status, 401)
        self.assertIsInstance(answer.body, str)
        self.assertIn("html", answer.headers["Content-Type"])

    def test_sessions(self):
        self.assertEqual(call(self.server.admin_url, "GET", "/api/v1/admin/ping").status, 200)
        for session in ("", "nonsense", self.server.key, "Bearer " + self.server.key):
            self.logged_out(self.admin("GET", "/users", session=session))
        first = self.log_in()
        for session in (first, "Bearer " + first):
            self.assertEqual(self.admin("GET", "/users", session=session).code, 0)
        second = self.log_in()
        self.logged_out(self.admin("GET", "/users", session=first))  # one at a time
        answer = self.admin("POST", "/login", {"email": self.server.email,
                                               "password": self.encrypted(self.server.password)}, session="")
        self.logged_out(self.admin("GET", "/users", session=answer.data["access_token"]))  # the header has it
        second = type(self).session = answer.headers["Authorization"]
        self.assertEqual(self.admin("GET", "/users", session=second).code, 0)

    def test_passwords_are_encrypted(self):
        plain = self.admin("POST", "/login", {"email": self.server.email, "password": "plain"}, session="")
        self.assertGreaterEqual(plain.status, 400)
        self.assertNotIn("Authorization", plain.headers)

    def test_users(self):
        email, tenant, key = self.user()
        again = self.admin("POST", "/users", {"username": email, "password": self.encrypted("x"), "role": "user"})
        self.refused(again, 409)
        self.assertEqual([u["email"] for u in self.admin("GET", f"/users/{email}").data], [email])
        self.assertEqual(self.create(key=key)["tenant_id"], tenant)
        self.assertEqual([d["name"] for d in self.admin("GET", f"/users/{email}/datasets").data], [self.prefix])
        self.assertEqual(self.admin("GET", f"/users/no-{email}").body["data"], [])
        for wrong in ("a+b" + email, self.prefix, email + ".x"):
            answer = self.admin("POST", "/users", {"username": wrong, "password": self.encrypted("x"), "role": "user"})
            self.assertEqual(answer.status, 400, wrong)

    def test_keys(self):
        email, _, first = self.user()
        second = self.admin("POST", f"/users/{email}/keys").data["token"]
        rows = self.admin("GET", f"/users/{email}/keys").data
        self.assertEqual({row["token"] for row in rows}, {first, second})
        self.assertEqual(self.admin("DELETE", f"/users/{email}/keys/{second}").code, 0)
        self.unauthorized(self.ask("GET", "/api/v1/datasets", key=second))
        self.good("GET", "/api/v1/datasets", key=first)
        self.refused(self.admin("DELETE", f"/users/{email}/keys/{second}"), 404)
        self.refused(self.admin("POST", f"/users/no-{email}/keys"), 404)

    def test_a_users_end(self):
        email, _, key = self.user()
        dataset = self.create(key=key)["id"]
        self.assertEqual(self.admin("DELETE", f"/users/{email}").code, -1)  # while active
        for _ in range(2):
            off = self.admin("PUT", f"/users/{email}/activate", {"activate_status": "off"})
            self.assertEqual((off.status, off.code), (200, 0))
        self.assertFalse(self.is_gone(dataset, key))  # keys do not care
        self.assertEqual(self.admin("DELETE", f"/users/{email}").code, 0)
        self.unauthorized(self.ask("GET", "/api/v1/datasets", key=key))
        self.refused(self.admin("DELETE", f"/users/{email}"), 404)
        self.refused(self.admin("PUT", f"/users/{email}/activate", {"activate_status": "off"}), 404)

    def test_a_team_sees_what_is_shared_with_it(self):
        if self.old:
            self.skipTest("the team's routes are others there")
        (_, host, host_key), (guest, own, key) = self.user("-host"), self.user("-guest")
        shared = self.create("-team", host_key, permission="team")["id"]
        private = self.create("-me", host_key)["id"]
        self.good("POST", f"/api/v1/tenants/{host}/users", {"email": guest}, host_key)
        self.assertTrue(self.is_gone(shared, key))  # invited is not joined
        self.good("PATCH", f"/api/v1/tenants/{host}", {}, key)
        row = self.read(shared, key)
        self.assertEqual(row["tenant_id"], host)
        self.assertNotEqual(row["tenant_id"], own)
        self.assertTrue(self.is_gone(private, key))
        self.assertIn(self.prefix + "-team", self.names("page_size=100", key))
        self.ask("DELETE", "/api/v1/datasets", {"ids": [shared]}, key)
        self.assertFalse(self.is_gone(shared, host_key))


class StandinOnly(Base):
    """What a live server cannot be made to do, or not without harm."""

    def setUp(self):
        super().setUp()
        if self.server.live:
            self.skipTest("for the stand-in alone")
        self.standin = self.server.standin

    def settings(self, **settings):
        before = self.standin.admin("GET", "/settings")
        self.addCleanup(self.standin.admin, "PUT", "/settings", before)
        self.standin.admin("PUT", "/settings", settings)

    def test_database_away(self):
        made = self.create()
        self.settings(database_down=True)
        self.unauthorized(self.ask("GET", f"/api/v1/datasets?id={made['id']}"))
        health = self.ask("GET", ("/v1" if self.old else "/api/v1") + "/system/healthz")
        self.assertEqual((health.status, health.body["db"], health.body["status"]), (500, "nok", "nok"))
        self.assertIn("error", health.body["_meta"]["db"])
        self.standin.admin("PUT", "/settings", {"database_down": False})
        self.assertFalse(self.is_gone(made["id"]))

    def stored(self, dataset):
        return self.standin.admin("GET", "/storage")["buckets"].get(dataset, 0)

    def test_only_deleted_documents_free_their_files(self):
        kept, leaked = self.create("-a")["id"], self.create("-b")["id"]
        for dataset in (kept, leaked):
            self.standin.admin("POST", "/documents", {"dataset": dataset, "names": ["a.pdf", "b.pdf"]})
        before = self.standin.admin("GET", "/storage")["orphans"]
        docs = self.good("GET", f"/api/v1/datasets/{kept}/documents").data["docs"]
        self.good("DELETE", f"/api/v1/datasets/{kept}/documents", {"ids": [d["id"] for d in docs]})
        for dataset in (kept, leaked):
            self.good("DELETE", "/api/v1/datasets", {"ids": [dataset]})
        self.assertEqual((self.stored(kept), self.stored(leaked)), (0, 2))
        self.assertEqual(self.standin.admin("GET", "/storage")["orphans"], before + 2)

    def test_a_users_end_frees_all(self):
        email, _, key = self.user()
        dataset = self.create(key=key)["id"]
        self.standin.admin("POST", "/documents", {"dataset": dataset, "names": ["a.pdf"]})
        self.assertEqual(self.stored(dataset), 1)
        self.drop_user(email)
        self.assertEqual(self.stored(dataset), 0)

    def test_residue(self):
        made = self.create()["id"]
        self.settings(delete_errors=1)
        answer = self.good("DELETE", "/api/v1/datasets", {"ids": [made]})
        self.assertEqual((answer.data["success_count"], len(answer.data["errors"])), (1, 1))
        self.assertTrue(self.is_gone(made))  # nothing is left to repeat it with

    def test_two_processes_make_one_name_twice(self):
        self.settings(race=True)
        first, second = self.create(), self.create()
        self.assertEqual((first["name"], second["name"]), (self.prefix, self.prefix))
        self.assertEqual(self.names(f"name={self.prefix}"), [self.prefix] * 2)

    def test_objects_and_plants(self):
        made = self.create(description="waldur-subscription:x")
        if self.go:
            self.good("PUT", f"/api/v1/datasets/{made['id']}", {"description": "waldur-subscription:x"})
        tenant = self.standin.admin("POST", "/tenants", {"email": self.prefix + "@other.example"})
        planted = self.standin.admin("POST", "/objects", [
            {"name": self.prefix, "description": None, "documents": ["a", "b"]},
            {"name": self.prefix, "tenant": tenant["id"], "permission": "team", "create_time": 1}])["ids"]
        objects = {o["object"]["id"]: o for o in self.standin.admin("GET", "/objects")["objects"]}
        self.assertEqual([objects[i]["marker"] for i in (made["id"], *planted)], ["waldur-subscription:x", None, None])
        self.assertEqual([objects[i]["planted"] for i in (made["id"], *planted)], [False, True, True])
        self.assertEqual(objects[planted[0]]["object"]["document_count"], 2)
        self.assertEqual(objects[planted[1]]["object"]["tenant_id"], tenant["id"])
        self.assertEqual(objects[planted[1]]["object"]["create_time"], 1)
        self.assertEqual(len(self.names(f"name={self.prefix}")), 2)
        self.assertEqual(self.names(f"id={planted[1]}", key=tenant["key"]), [self.prefix])
        # A team of which the provisioning account is a member: its shared datasets are seen, and are not ours.
        host = self.standin.admin("POST", "/tenants", {"email": self.prefix + "@host.example",
                                                       "member": "platform@example.com"})
        shared, _ = self.standin.admin("POST", "/objects", [
            {"name": self.prefix + "-team", "tenant": host["id"], "permission": permission}
            for permission in ("team", "me")])["ids"]
        self.assertEqual([(d["id"], d["tenant_id"]) for d in
                          self.good("GET", f"/api/v1/datasets?name={self.prefix}-team").data], [(shared, host["id"])])
        for bad in ({}, {"name": "x", "tenant": "nobody"}, {"name": "x", "id": made["id"]}):
            self.assertEqual(call(self.server.url, "POST", "/admin/objects", bad).status, 422)

    def test_faults(self):
        self.addCleanup(self.standin.admin, "DELETE", "/faults")
        self.standin.admin("POST", "/faults", {"match": {"method": "POST", "path_prefix": "/api/v1/datasets"},
                                               "fault": {"kind": "lose_reply"}})
        with self.assertRaises(OSError):
            self.ask("POST", "/api/v1/datasets", self.creation())
        self.standin.admin("POST", "/faults", {
            "match": {"method": "GET"}, "fault": {"kind": "status", "status": 502, "body": "<html>Bad Gateway</html>",
                                                  "headers": {"Content-Type": "text/html"}}})
        answer = self.ask("GET", "/api/v1/datasets")
        self.assertEqual((answer.status, answer.body), (502, "<html>Bad Gateway</html>"))
        self.assertEqual(self.create()["name"], self.prefix + "(1)")  # which is what a blind repetition makes
        log = self.standin.admin("GET", "/log")["entries"]
        self.assertNotIn(self.server.key, json.dumps([e for e in log if "/system/token" not in e["path"]]))

    def test_a_document_keeps_the_settings_of_its_upload(self):
        if not self.python:
            self.skipTest("where an overlap can be set")
        dataset = self.create(parser_config={"chunk_token_num": 512})["id"]
        for i, percent in enumerate((10, 20)):
            self.good("PUT", f"/api/v1/datasets/{dataset}", {"parser_config": {"ext": {"overlapped_percent": percent}}})
            self.standin.admin("POST", "/documents", {"dataset": dataset, "names": [f"{i}.pdf"]})
        docs = self.good("GET", f"/api/v1/datasets/{dataset}/documents").data["docs"]
        self.assertEqual([d["parser_config"]["overlapped_percent"] for d in docs], [20, 10])

    def test_models(self):
        if self.old:
            self.skipTest("no provider API before 0.26")
        (_, host, host_key), (guest, _, key) = self.user("-models"), self.user("-guest")
        self.good("PUT", "/api/v1/providers", {"provider_name": "Local"}, host_key)
        self.bad(102, "PUT", "/api/v1/providers", {"provider_name": "Local"}, host_key, says="already exists")
        info = [{"model_type": ["embedding"], "model_name": "e5", "max_tokens": 512}]
        instance = {"instance_name": "one", "api_key": "sk-secret", "base_url": "http://x", "model_info": info}
        self.bad(102, "POST", "/api/v1/providers/Local/instances", {**instance, "instance_name": "default"}, host_key)
        self.good("POST", "/api/v1/providers/Local/instances", instance, host_key)
        secret = self.good("GET", "/api/v1/providers/Local/instances/one", key=host_key)
        self.assertEqual(secret.data["api_key"], "sk-secret")  # in clear, to every key of the tenant
        for model in ("e5@Local", "e5@one@Local"):
            self.assertEqual(self.create(model[2:], host_key, embedding_model=model)["embedding_model"], model)
        model_id = next(m["model_id"] for m in self.good("GET", "/api/v1/models?type=embedding", key=host_key).data
                        if m["model_name"] == "e5")
        body = self.creation("-shared", embedding_model=model_id)
        self.bad(102, "POST", "/api/v1/datasets", body, key)
        self.good("POST", f"/api/v1/tenants/{host}/users", {"email": guest}, host_key)
        self.good("PATCH", f"/api/v1/tenants/{host}", {}, key)
        self.create("-shared", key, embedding_model=model_id)
        self.bad(102, "POST", "/api/v1/datasets", self.creation(embedding_model="e5@Local"), key)  # names stay at home
        self.bad(102, "GET", "/api/v1/providers/Local/instances/one", key=key)
        self.good("PATCH", "/api/v1/models/default", {"model_type": "embedding", "model_provider": "Local",
                                                      "model_instance": "one", "model_name": "e5"}, host_key)
        without = self.good("POST", "/api/v1/datasets", {"name": self.prefix + "-default"}, host_key).data
        self.assertEqual(without["embedding_model"], "e5@Local")

    def test_a_placeholder_for_a_model(self):
        tenant = self.standin.admin("POST", "/tenants", {"email": self.prefix + "@new.example"})
        answer = self.ask("POST", "/api/v1/datasets", {"name": self.prefix}, tenant["key"])
        if self.go:
            self.assertEqual(answer.code, 102)
        else:  # a success that cannot embed
            self.assertEqual((answer.code, answer.data["embedding_model"]), (0, "bge-m3@xxxx"))

    def test_superusers(self):
        boss = self.standin.admin("POST", "/tenants", {"email": self.prefix + "@boss.example", "superuser": True})
        answer = self.ask("GET", "/api/v1/datasets", key=boss["key"])
        self.assertEqual((answer.status, answer.code), (403, 403) if self.go else (200, 0))

    def test_refused_login(self):
        self.need_admin()
        self.settings(refuse_login=True)
        answer = self.admin("POST", "/login", {"email": self.server.email, "password": self.encrypted("x")}, session="")
        self.assertEqual(answer.status, 400)
        self.assertNotIn("Authorization", answer.headers)


GROUPS = (System, Create, List, Update, Delete, Documents, Keys, Admin, StandinOnly)


def load_tests(loader, standard_tests, pattern):
    """Every group against the live server, or against each version that the stand-in plays."""
    suite = unittest.TestSuite()
    for profile in [None] if os.environ.get("RAGFLOW_URL") else PROFILES:
        for group in GROUPS:
            name = f"{group.__name__} [{profile or 'live'}]"
            case = type(name, (group, unittest.TestCase), {"profile": profile, "__module__": __name__})
            suite.addTests(loader.loadTestsFromTestCase(case))
    return suite


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        sys.exit(0)
    unittest.main()
