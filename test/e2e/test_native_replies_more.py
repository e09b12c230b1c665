"""Spoilt answers to what a second life needs, and to what other versions are asked. See test_native_replies."""

from harness import main
from test_lost_replies import SPOILT
from test_native_replies import NativeReplies


class RepliesMore(NativeReplies):
    def test_changes_of_a_second_life(self):
        self.run_all("30d", self.changes, SPOILT, restored=True)

    def test_changes_in_old_and_go(self):
        self.run_all("0", self.changes, SPOILT, profiles=("1.8", "0.27-go"))

    def test_changes_in_new(self):
        self.run_all("0", lambda c: self.changes(c) and c.product == "langflow", SPOILT, profiles=("1.13", None))


if __name__ == "__main__":
    main()
