"""Many clients of the published Python SDK want the same documents, with its own five attempts and nothing else.

This client comes back at once when it has lost, and tries again only what its commit was answered. By hand as suite.py.
"""

import os
import random
import statistics
import threading
import time
import unittest

from google.api_core.exceptions import Aborted
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from suite import Server, until

CLIENTS = int(os.environ.get("CONTENTION_CLIENTS", 64))
ROUNDS = int(os.environ.get("CONTENTION_ROUNDS", 3))
SLOWEST_TO_MEDIAN_MAX = 5


def once(work, client, *arguments):
    """One transaction with the client's own attempts. What the decorator makes keeps a transaction's name in itself."""
    return firestore.transactional(work)(client.transaction(), *arguments)


class Contention:
    """What holds in every mode; a class for each mode starts its server."""

    MODE = None

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--concurrency", cls.MODE)
        os.environ["FIRESTORE_EMULATOR_HOST"] = cls.server.host
        project = f"python-{cls.MODE}-{os.getpid()}"
        cls.db = firestore.Client(project=project)
        cls.clients = [firestore.Client(project=project) for _ in range(CLIENTS)]
        # Each with its connection, so that what is measured is the contention.
        for client in cls.clients:
            client.document("any/thing").get()

    @classmethod
    def tearDownClass(cls):
        for client in [cls.db, *cls.clients]:
            client.close()
        cls.server.stop()

    def together(self, count, work):
        """Runs `work(client, i)` for all clients at once; nobody may fail. Each client's time in seconds."""
        times, faults = [], []
        start = threading.Barrier(count)

        def run(i):
            start.wait()
            begin = time.monotonic()
            try:
                work(self.clients[i], i)
                times.append(time.monotonic() - begin)
            except Exception as error:
                faults.append(f"client {i}: {error!r}")

        threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(faults, [])
        return times

    def fairness(self, what, times):
        median, slowest = statistics.median(times), max(times)
        print(f"{self.MODE}: {what}: first {min(times):.2f} s, median {median:.2f} s, last {slowest:.2f} s, last to median {slowest / median:.2f}")
        if os.environ.get("CONTENTION_FAIRNESS"):
            self.assertLessEqual(slowest, SLOWEST_TO_MEDIAN_MAX * median)

    def test_one_counter(self):
        self.db.document("counters/one").set({"n": 0})
        attempts = []

        def add(transaction, counter):
            attempts.append(1)
            n = counter.get(transaction=transaction).get("n")
            transaction.update(counter, {"n": n + 1})

        def work(client, _):
            for _ in range(ROUNDS):
                once(add, client, client.document("counters/one"))

        times = self.together(CLIENTS, work)
        self.assertEqual(self.db.document("counters/one").get().get("n"), CLIENTS * ROUNDS)
        self.fairness(f"{len(attempts)} attempts for {CLIENTS * ROUNDS} transactions", times)

    def test_accounts_by_queries(self):
        tellers, moves, accounts = 12, 5, 8
        total = accounts * 100

        def room(db):
            return db.collection("accounts").where(filter=FieldFilter("balance", ">=", 0)).order_by("balance")

        batch = self.db.batch()
        for i in range(accounts):
            batch.set(self.db.document(f"accounts/first{i}"), {"balance": 100})
        batch.commit()
        faults, views, attempts, reads = [], [], [], []

        def check(what, found):
            seen = sum(d.get("balance") for d in found)
            if seen != total:
                faults.append(f"{what} saw {seen} in {len(found)} accounts")

        def heard(documents, _changes, _time):
            check("the listener", documents)
            views.append(sorted((d.id, d.get("balance")) for d in documents))

        watch = room(self.db).on_snapshot(heard)
        running = threading.Event()
        running.set()

        def watching():
            while running.is_set():
                check("a plain query", list(room(self.db).stream()))
                reads.append(1)

        watcher = threading.Thread(target=watching)
        watcher.start()

        def move(transaction, db, kind, name, draws):
            attempts.append(1)
            found = list(transaction.get(room(db)))
            check("a transaction", found)
            source = found[int(draws[0] * len(found))]
            rest = [d for d in found if d.id != source.id]
            target = rest[int(draws[1] * len(rest))]
            amount = int(draws[2] * (source.get("balance") + 1))
            if kind == "close" and len(found) > 2:
                transaction.delete(source.reference)
                transaction.update(target.reference, {"balance": target.get("balance") + source.get("balance")})
                return
            transaction.update(source.reference, {"balance": source.get("balance") - amount})
            if kind == "open":
                transaction.create(db.document(f"accounts/{name}"), {"balance": amount})
            else:
                transaction.update(target.reference, {"balance": target.get("balance") + amount})

        def work(client, i):
            draw = random.Random(i)
            for n in range(moves):
                kind = draw.choice(["move", "move", "open", "close"])
                once(move, client, client, kind, f"t{i}-{n}", [draw.random() for _ in range(3)])

        try:
            times = self.together(tellers, work)
            running.clear()
            watcher.join()
            last = list(room(self.db).stream())
            check("the last query", last)
            want = sorted((d.id, d.get("balance")) for d in last)
            until(lambda: views and views[-1] == want, "the listener has heard of everything")
        finally:
            running.clear()
            watch.unsubscribe()
        self.assertEqual(faults, [])
        self.fairness(f"{len(attempts)} attempts for {tellers * moves} transactions, {len(reads)} reads, {len(views)} snapshots", times)

    def test_one_function_for_all_threads(self):
        # What the decorator makes keeps the name of its transaction in itself. In a program that uses it from many
        # threads, one asks to try again what another is doing: that must not end the other's transaction.
        self.db.document("counters/shared").set({"n": 0})
        added = []

        @firestore.transactional
        def add(transaction, counter):
            n = counter.get(transaction=transaction).get("n")
            transaction.update(counter, {"n": n + 1})

        def work(client, _):
            for _ in range(5):
                try:
                    add(client.transaction(), client.document("counters/shared"))
                    added.append(1)
                except (ValueError, Aborted) as error:
                    # Its places in the line are mixed up, so that it may give up, or be told so by a read, which the
                    # SDK does not try again; with nothing else.
                    if isinstance(error, ValueError):
                        self.assertIn("Failed to commit transaction in 5 attempts", str(error))

        self.together(8, work)
        self.assertEqual(self.db.document("counters/shared").get().get("n"), len(added))

    def test_a_name_is_registered_once(self):
        names, asking = 5, 24
        registered = []

        def register(transaction, db, name):
            if list(transaction.get(db.collection("users").where(filter=FieldFilter("name", "==", name)))):
                return False
            transaction.create(db.collection("users").document(), {"name": name})
            return True

        def work(client, i):
            for k in range(names):
                name = f"name{(k + i) % names}"
                if once(register, client, client, name):
                    registered.append(name)

        times = self.together(asking, work)
        want = [f"name{k}" for k in range(names)]
        self.assertEqual(sorted(d.get("name") for d in self.db.collection("users").stream()), want)
        self.assertEqual(sorted(registered), want, "each was told of one success")
        self.fairness(f"{asking} clients, {names} names", times)


@unittest.skipIf(os.environ.get("WATCHFIRE_TARGET_HOST"), "needs servers of its own")
class Optimistic(Contention, unittest.TestCase):
    MODE = "optimistic"


@unittest.skipIf(os.environ.get("WATCHFIRE_TARGET_HOST"), "needs servers of its own")
class Pessimistic(Contention, unittest.TestCase):
    MODE = "pessimistic"


if __name__ == "__main__":
    unittest.main(verbosity=2)
