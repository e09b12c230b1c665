"""What the end-to-end tests share. Only python3-psycopg2 and python3-confluent-kafka beside the standard library."""

from .events import Event, Producer, Reader, Subscription
from .process import environment, eventually, free_port, source_dir, workdir
from .promise import Expected, check_promise
from .servers import Database, PrivateKafka, PrivatePostgres
from .stage import Case, Stage, main, say
from .standin import MARKER, Standin
from .worker import Installation, RevealKey, Worker

__all__ = ["Case", "Database", "Event", "Expected", "Installation", "MARKER", "PrivateKafka", "PrivatePostgres",
           "Producer", "Reader", "RevealKey", "Stage", "Standin", "Subscription", "Worker", "check_promise",
           "environment", "eventually", "free_port", "main", "say", "source_dir", "workdir"]
