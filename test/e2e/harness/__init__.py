"""What the end-to-end tests share. Only python3-psycopg2 and python3-confluent-kafka beside the standard library."""

from .events import Event, Producer, Reader, Subscription
from .faults import FaultyWorker, points as fault_points
from .market import Market, MarketCase
from .native import LANGFLOW_PROFILES, MODELS, RAGFLOW_PROFILES, Langflow, Ragflow, flow_data
from .native_promise import Native, Setup, flow_uuid, seal, unseal
from .process import environment, eventually, free_port, source_dir, workdir
from .promise import Expected, breaches, check_promise
from .release import use_release
from .servers import Database, MockKafka, PrivateKafka, PrivatePostgres
from .stage import Case, Stage, main, say
from .standin import MARKER, Standin
from .waldur import WALDUR_PROFILES, Waldur, dashed, undashed
from .worker import Installation, RevealKey, Worker

__all__ = ["Case", "Database", "Event", "Expected", "FaultyWorker", "Installation", "LANGFLOW_PROFILES", "Langflow",
           "MARKER", "MODELS", "Market", "MarketCase", "MockKafka", "Native", "PrivateKafka", "PrivatePostgres", "Producer", "RAGFLOW_PROFILES",
           "Ragflow", "Reader", "RevealKey", "Setup", "Stage", "Standin", "Subscription", "WALDUR_PROFILES",
           "Waldur", "Worker", "breaches", "check_promise", "dashed", "environment", "eventually", "fault_points",
           "flow_data", "flow_uuid", "free_port", "main", "say", "seal", "source_dir", "undashed", "unseal",
           "use_release", "workdir"]
