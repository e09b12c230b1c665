"""The n-th request to a product fails, before it leaves or after it was answered."""

from harness import main
from test_nth_failure import Failing


class NthRequest(Failing):
    def test_requests(self):
        self.one_after_another(("request/before", "request/after"), dialect="native", profiles=("1.10", "0.27-python"),
                               tenancy="subscription")


if __name__ == "__main__":
    main()
