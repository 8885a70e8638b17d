"""What a flow would be, and why, by the catalogue version in force."""

import threading

from schemas.flow import FlowRecord
from services.engine.classify import Classifier
from services.engine.classify_explain import Explanation, explain
from services.rating.published import Published

NAME_CACHE_ENTRIES = 4_096


class Judge:
    """The classifier of one version, and the applications that it was made of. Safe to share among threads."""

    def __init__(self, published: Published) -> None:
        """Compile; takes milliseconds to a second, by the size of the version."""
        self.sequence = published.stored.sequence
        self._version = published.stored.version
        self._applications = published.applications
        self._classifier = Classifier(list(published.applications.values()), cache_entries=NAME_CACHE_ENTRIES)
        # The classifier's caches belong to one thread at a time.
        self._lock = threading.Lock()

    def explain(self, flow: FlowRecord) -> Explanation:
        """The verdict over `flow`, without any past of a subscriber, and its reasons."""
        with self._lock:
            return explain(
                flow,
                self._classifier.classify(flow),
                classifier=self._classifier,
                applications=self._applications,
                catalogue_version=self._version,
            )


class Judges:
    """Holds the judge of the newest version asked for: compiled once, swapped as a whole, never swapped back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: Judge | None = None

    def of(self, published: Published) -> Judge:
        """The judge of `published`, or of a newer version when another request has seen one meanwhile."""
        judge = self._newest
        if judge is not None and judge.sequence >= published.stored.sequence:
            return judge
        with self._lock:
            judge = self._newest
            if judge is None or judge.sequence < published.stored.sequence:
                judge = self._newest = Judge(published)
            return judge
