"""Langflow and RAGFlow themselves, as their stand-ins play them: their APIs as tenants and administrators use them."""

import base64
import gzip
import http.client
import json
import os
import secrets
import urllib.parse

from .process import eventually, workdir
from .standin import MARKER, Standin

LANGFLOW_PROFILES = ("1.8", "1.10", "1.13")
RAGFLOW_PROFILES = ("0.27-python", "0.27-go")
MODELS = {"text-embedding-3-small": "text-embedding-3-small@OpenAI"}
PROVIDER_KEY = "sk-planted-provider"


def flow_data(text):
    """A flow whose runs leave messages."""
    return {"nodes": [{"id": "chat", "data": {"type": "ChatInput", "note": text}}], "edges": []}


class Langflow(Standin):
    """Its token is a superuser's key and password."""

    root = "/api/v1"

    def __init__(self, token, profile=None):
        super().__init__("langflow", token, profile)
        self.profile = profile or "1.10"

    def settings(self, **settings):
        return self.admin("POST", "/settings", settings)

    def call(self, method, path, body=None, key=None, token=None, form=None):
        """(status, parsed body) of a call below /api/v1. key None: the superuser's; "": none."""
        headers = {}
        if token:
            headers["Authorization"] = "Bearer " + token
        elif key != "":
            headers["x-api-key"] = key or self.token
        if form is not None:
            body = urllib.parse.urlencode(form).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif body is not None:
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            conn.request(method, self.root + path, body, headers)
            answer = conn.getresponse()
            text = answer.read()
        finally:
            conn.close()
        if answer.headers.get("Content-Encoding") == "gzip":
            text = gzip.decompress(text)
        try:
            return answer.status, json.loads(text) if text else None
        except ValueError:
            return answer.status, text

    def do(self, method, path, body=None, **more):
        """The same where nothing else than success will do."""
        status, answer = self.call(method, path, body, **more)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def upload(self, path, name, key):
        """As a browser sends a form."""
        body = (f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                "Content-Type: text/plain\r\n\r\nwords\r\n--b--\r\n").encode()
        status, answer, _ = self.request("POST", path, body, token="", headers={
            "x-api-key": key, "Content-Type": "multipart/form-data; boundary=b"})
        assert status < 300, f"POST {path}: {status} {answer}"

    def template(self, name, data):
        return self.do("POST", "/flows/", {"name": name, "data": data})["id"]

    def login(self, username, password):
        return self.do("POST", "/login", form={"username": username, "password": password}, key="")["access_token"]

    # ---- what is there ----

    def world(self):
        """{"objects": users with all that they have, "orphans": messages whose flow is gone, ...}"""
        return self.admin("GET", "/objects")

    def users_there(self):
        """Their names, of the erased ones too while that takes its time."""
        return [o["object"]["username"] for o in self.objects()]

    def account(self, uuid):
        """The one user with the subscription's marker, with all that it has."""
        found = [o for o in self.objects() if o["marker"] == MARKER + uuid]
        assert len(found) == 1, f"{len(found)} users of {uuid}"
        return found[0]

    def message(self, flow_id, text="a message"):
        self.plant({"kind": "message", "flow_id": flow_id, "text": text})

    def plant_foreign(self, n, names=()):
        """
        Users of others, with a flow, a variable and a key each; returns everything that must not change, the superuser
        with its templates too.
        """
        users = [{"username": name, "optins": {"owner": "somebody else"}, "keys": ["sk-" + secrets.token_hex(8)],
                  "flows": [{"name": "customer-support-agent-v1", "data": flow_data("theirs")}],
                  "variables": [{"name": "ragflow_url", "type": "Generic", "value": "http://theirs"}]}
                 for name in [*names, *(f"foreign-{i}" for i in range(n))]]
        if users:
            self.plant(users)
        return {o["object"]["id"]: o for o in self.objects() if o["planted"]}


class Ragflow(Standin):
    """Its token is a key of the platform's own tenant, which has the embedding model."""

    root = "/api/v1"

    def __init__(self, token, profile=None):
        super().__init__("ragflow", token, profile)
        self.profile = profile or "0.27-python"
        self.platform = self.tenants()[0]["id"]
        for model in MODELS.values():
            self.admin("POST", "/models", {"model": model, "api_key": PROVIDER_KEY, "default": True})

    def settings(self, **settings):
        return self.admin("PUT", "/settings", settings)

    def call(self, method, path, body=None, key=None):
        """(status, parsed body) of a call below /api/v1."""
        status, answer, _ = self.request(method, self.root + path, body, token=key)
        return status, answer

    def do(self, method, path, body=None, **more):
        """Its `data`, where nothing else than success will do."""
        status, answer = self.call(method, path, body, **more)
        assert status == 200 and answer["code"] == 0, f"{method} {path}: {status} {answer}"
        return answer.get("data")

    # ---- what is there ----

    def tenants(self):
        return self.admin("GET", "/tenants")["tenants"]

    def add_tenant(self, email, **more):
        """{"id", "key"}"""
        return self.admin("POST", "/tenants", {"email": email, **more})

    def administrate(self, method, tenant, below, body=None):
        """As the admin service's superuser does. Each login ends the session before it: others may be quicker."""
        email, = (t["email"] for t in self.tenants() if t["id"] == tenant)
        password = base64.b64encode(secrets.token_bytes(256)).decode()
        path = f"/api/v1/admin/users/{urllib.parse.quote(email)}{urllib.parse.quote(below)}"

        def done():
            _, _, headers = self.request("POST", "/api/v1/admin/login",
                                         {"email": "admin@ragflow.io", "password": password}, token="")
            status, answer, _ = self.request(method, path, body, token="",
                                             headers={"Authorization": headers["Authorization"]})
            assert status < 300, f"{method} {path}: {status} {answer}"
            return True

        eventually(done, 20, "the administrator is heard", every=0.01)

    def share_models(self, key):
        """A tenant, opened by the key, whose models all others may use; {the events' name: the model's id}."""
        tenant = self.add_tenant("models@example.com", key=key)["id"]
        return {name: self.admin("POST", "/models", {"model": model, "tenant": tenant,
                                                     "api_key": PROVIDER_KEY})["model_id"]
                for name, model in MODELS.items()}

    def storage(self):
        return self.admin("GET", "/storage")

    def documents(self, dataset, *names):
        self.admin("POST", "/documents", {"dataset": dataset, "names": list(names)})

    def plant_foreign(self, n, names=()):
        """
        Datasets of others in the platform's tenant, and in another tenant ones of the same names. Returns what must
        not change: {id: dataset}.
        """
        wanted = [{"name": name, "description": "somebody else's", "embedding_model": "theirs@Theirs",
                   "documents": ["theirs.pdf"]} for name in [*names, *(f"foreign-{i}" for i in range(n))]]
        if wanted:
            other = self.add_tenant(f"other-{secrets.token_hex(4)}@example.com")["id"]
            self.plant(wanted + [{**w, "tenant": other} for w in wanted])
        return {o["object"]["id"]: o["object"] for o in self.objects() if o["planted"]}

    @staticmethod
    def public_key_file():
        """The public half of an RSA key, as RAGFlow's conf/public.pem. The stand-in cannot decrypt: any will do."""
        def der(tag, body):
            size = len(body)
            length = bytes([size]) if size < 128 else bytes([0x80 | (size.bit_length() + 7) // 8]) \
                + size.to_bytes((size.bit_length() + 7) // 8, "big")
            return bytes([tag]) + length + body

        def integer(n):
            return der(2, n.to_bytes(n.bit_length() // 8 + 1, "big"))

        modulus = secrets.randbits(2048) | 1 << 2047 | 1
        numbers = der(0x30, integer(modulus) + integer(65537))
        algorithm = der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
        whole = base64.b64encode(der(0x30, algorithm + der(3, b"\0" + numbers))).decode()
        path = os.path.join(workdir(), f"public-{secrets.token_hex(4)}.pem")
        with open(path, "w") as f:
            f.write("-----BEGIN PUBLIC KEY-----\n")
            f.writelines(whole[i:i + 64] + "\n" for i in range(0, len(whole), 64))
            f.write("-----END PUBLIC KEY-----\n")
        return path
