"""The published Python SDK against the built server: the questions about real data, and everything that reads.

`cargo xtask conformance` runs it in an environment of its own, outside the checkout. By hand:
WATCHFIRE_BIN=.../watchfire python suite.py [Suite.test_...]; WATCHFIRE_TARGET_HOST names a server that runs already.
"""

import csv
import datetime
import json
import math
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import grpc
from google.api_core import exceptions
from google.cloud import firestore, firestore_admin_v1
from google.cloud.firestore_admin_v1.services.firestore_admin.transports import FirestoreAdminGrpcTransport
from google.cloud.firestore_v1.base_query import And, FieldFilter, Or
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.query_profile import ExplainOptions
from google.cloud.firestore_v1.vector import Vector

DATA = pathlib.Path(__file__).resolve().parent.parent / "node_modules" / "vega-datasets" / "data"
START_S_MAX = 20
# The suite for Node stores all of them; half is enough to ask the same questions.
MOVIES_MAX = 1500


class Server:
    """A server of its own on a free port, or the one that WATCHFIRE_TARGET_HOST names."""

    def __init__(self, *arguments):
        self.process = None
        self.folder = None
        given = os.environ.get("WATCHFIRE_TARGET_HOST")
        if given:
            self.host = given
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.host = f"127.0.0.1:{port}"
        self.folder = tempfile.mkdtemp(prefix="watchfire-python-")
        self.process = subprocess.Popen(
            [os.environ["WATCHFIRE_BIN"], "serve", "--listen", self.host, "--data", self.folder, *arguments],
            stdout=subprocess.DEVNULL,
            env={"RUST_LOG": "error", **os.environ},
        )
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the server did not start") from None
                time.sleep(0.01)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(30)
            shutil.rmtree(self.folder, ignore_errors=True)
            if code != 0:
                raise RuntimeError(f"the server ended with {code}, expected 0")


def load():
    with open(DATA / "airports.csv", encoding="utf8", newline="") as file:
        airports = [
            (row["iata"], {**row, "latitude": float(row["latitude"]), "longitude": float(row["longitude"])})
            for row in csv.DictReader(file)
        ]
    with open(DATA / "movies.json", encoding="utf8") as file:
        rows = json.load(file)
    movies = []
    for i, row in enumerate(rows):
        data = {name.replace(" ", "_"): value for name, value in row.items()}
        data["words"] = sorted(set(filter(None, re.split(r"\W+", str(row["Title"]).lower(), flags=re.ASCII))))
        if data["Source"] is None:
            del data["Source"]
        movies.append((f"m{i:05}", data))
    return airports, movies


def rank(value):
    """Values of different types, and of one, in the database's order."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    return (3, value.encode())


def ordered(documents, *fields):
    """Ids in the order of the fields (a minus sign turns one round), then of the names in the last direction."""
    documents = [d for d in documents if all(f.lstrip("-") in d[1] for f in fields)]
    documents.sort(key=lambda d: d[0].encode(), reverse=bool(fields) and fields[-1].startswith("-"))
    for field in reversed(fields):
        documents.sort(key=lambda d: rank(d[1][field.lstrip("-")]), reverse=field.startswith("-"))
    return [d[0] for d in documents]


def where(field, op, value):
    return FieldFilter(field, op, value)


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"timed out: {what}")
        time.sleep(0.01)
    return result


class Suite(unittest.TestCase):
    """On one server, which enforces indexes; those that the questions need are made by the published admin client."""

    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.airports, movies = load()
        cls.movies = movies[:MOVIES_MAX]
        cls.server = Server("--index-mode", "enforce")
        os.environ["FIRESTORE_EMULATOR_HOST"] = cls.server.host
        cls.project = f"python-{os.getpid()}"
        cls.database = f"projects/{cls.project}/databases/(default)"
        cls.db = firestore.Client(project=cls.project)
        cls.channel = grpc.insecure_channel(cls.server.host)
        cls.admin = firestore_admin_v1.FirestoreAdminClient(transport=FirestoreAdminGrpcTransport(channel=cls.channel))
        writer = cls.db.bulk_writer()
        failed = []

        def refused(failure, _writer):
            failed.append(failure)
            return False

        writer.on_write_error(refused)
        for name, documents in [("airports", cls.airports), ("movies", cls.movies)]:
            batch = cls.db.batch()
            for i, (id, data) in enumerate(documents):
                batch.create(cls.db.collection(name).document(id), data)
                if i % 400 == 399 or i + 1 == len(documents):
                    batch.commit()
                    batch = cls.db.batch()
        for id, data in cls.airports:
            if data["state"] in ("TX", "CA", "AK", "NY", "HI"):
                writer.create(cls.db.document(f"states/{data['state']}/fields/{id}"), data)
        writer.close()
        if failed:
            raise RuntimeError(f"{len(failed)} writes failed: {failed[0].code} {failed[0].message}")

    @classmethod
    def tearDownClass(cls):
        cls.db.close()
        cls.channel.close()
        cls.server.stop()

    def real(self):
        if os.environ.get("WATCHFIRE_TARGET_HOST"):
            self.skipTest("needs the server that this suite starts")

    def group(self, id):
        return f"{self.database}/collectionGroups/{id}"

    def create_index(self, group, *fields, scope="COLLECTION"):
        """Fields as `("a", "ASC")`, `("b", "CONTAINS")` or `("v", 3)`; waits until the index is complete."""
        made = []
        for path, mode in fields:
            if isinstance(mode, int):
                made.append({"field_path": path, "vector_config": {"dimension": mode, "flat": {}}})
            elif mode == "CONTAINS":
                made.append({"field_path": path, "array_config": "CONTAINS"})
            else:
                made.append({"field_path": path, "order": {"ASC": "ASCENDING", "DESC": "DESCENDING"}[mode]})
        operation = self.admin.create_index(parent=self.group(group), index={"query_scope": scope, "fields": made})
        index = operation.result(timeout=60)
        self.assertEqual(index.state, firestore_admin_v1.Index.State.READY)
        return index

    def refused(self, query, pattern):
        with self.assertRaisesRegex(exceptions.FailedPrecondition, pattern):
            list(query.stream())

    def test_questions(self):
        A = self.db.collection("airports")
        M = self.db.collection("movies")
        airports, movies = self.airports, self.movies

        def of(documents, accepts, *fields):
            return ordered([d for d in documents if accepts(d[1])], *fields)

        def number(value):
            return isinstance(value, (int, float))

        questions = [
            ("everything by name", A, ordered(list(airports))),
            ("== string", A.where(filter=where("state", "==", "TX")), of(airports, lambda a: a["state"] == "TX")),
            ("== null", M.where(filter=where("Director", "==", None)), of(movies, lambda m: m["Director"] is None)),
            ("two equalities", A.where(filter=where("state", "==", "CA")).where(filter=where("city", "==", "Los Angeles")), of(airports, lambda a: a["state"] == "CA" and a["city"] == "Los Angeles")),
            ("!=", A.where(filter=where("country", "!=", "USA")), of(airports, lambda a: a["country"] != "USA", "country")),
            ("<", A.where(filter=where("latitude", "<", 20)), of(airports, lambda a: a["latitude"] < 20, "latitude")),
            (">= descending", M.where(filter=where("IMDB_Rating", ">=", 8)).order_by("IMDB_Rating", direction="DESCENDING"), of(movies, lambda m: number(m["IMDB_Rating"]) and m["IMDB_Rating"] >= 8, "-IMDB_Rating")),
            ("in", A.where(filter=where("state", "in", ["HI", "AK", "PR", "none"])), of(airports, lambda a: a["state"] in ("HI", "AK", "PR"))),
            ("not-in", M.where(filter=where("MPAA_Rating", "not-in", ["R", "PG-13", "PG", "Not Rated"])), of(movies, lambda m: m["MPAA_Rating"] is not None and m["MPAA_Rating"] not in ("R", "PG-13", "PG", "Not Rated"), "MPAA_Rating")),
            ("array_contains", M.where(filter=where("words", "array_contains", "star")), of(movies, lambda m: "star" in m["words"])),
            ("array_contains_any", M.where(filter=where("words", "array_contains_any", ["star", "moon", "sun"])), of(movies, lambda m: {"star", "moon", "sun"} & set(m["words"]))),
            ("array and equality", M.where(filter=where("words", "array_contains", "love")).where(filter=where("MPAA_Rating", "==", "R")), of(movies, lambda m: "love" in m["words"] and m["MPAA_Rating"] == "R")),
            ("and of ors", M.where(filter=And([Or([where("MPAA_Rating", "==", "G"), where("MPAA_Rating", "==", "PG")]), Or([where("Major_Genre", "==", "Comedy"), where("Major_Genre", "==", "Musical")])])), of(movies, lambda m: m["MPAA_Rating"] in ("G", "PG") and m["Major_Genre"] in ("Comedy", "Musical"))),
            ("mixed types", M.order_by("Title").limit(30), ordered(list(movies), "Title")[:30]),
            ("a field that some lack", M.order_by("Source").limit(50), ordered(list(movies), "Source")[:50]),
            ("limit and offset", A.order_by("latitude").offset(100).limit(25), ordered(list(airports), "latitude")[100:125]),
            ("limit_to_last", A.order_by("latitude").limit_to_last(15), ordered(list(airports), "latitude")[-15:]),
            ("start_at", A.order_by("latitude").start_at({"latitude": 48.5}).limit(40), of(airports, lambda a: a["latitude"] >= 48.5, "latitude")[:40]),
            ("between cursors", A.order_by("city").start_after({"city": "Boston"}).end_before({"city": "Chicago"}), of(airports, lambda a: "Boston" < a["city"] < "Chicago", "city")),
            ("by id", A.where(filter=where("__name__", ">=", A.document("SF"))).where(filter=where("__name__", "<", A.document("SG"))), [id for id in ordered(list(airports)) if "SF" <= id < "SG"]),
            ("a subcollection", self.db.collection("states/NY/fields").order_by("city", direction="DESCENDING").limit(10), of(airports, lambda a: a["state"] == "NY", "-city")[:10]),
        ]
        needing = [
            ("two ranges", A.where(filter=where("latitude", ">", 40)).where(filter=where("latitude", "<", 41)).where(filter=where("longitude", "<", -100)), of(airports, lambda a: 40 < a["latitude"] < 41 and a["longitude"] < -100, "latitude", "longitude"), ("airports", ("latitude", "ASC"), ("longitude", "ASC"))),
            ("or", A.where(filter=Or([where("state", "==", "HI"), where("latitude", ">", 70)])), of(airports, lambda a: a["state"] == "HI" or a["latitude"] > 70, "latitude"), ("airports", ("state", "ASC"), ("latitude", "ASC"))),
            ("two orders", A.where(filter=where("state", "==", "TX")).order_by("city").order_by("latitude", direction="DESCENDING"), of(airports, lambda a: a["state"] == "TX", "city", "-latitude"), ("airports", ("state", "ASC"), ("city", "ASC"), ("latitude", "DESC"))),
        ]
        for name, query, expected in questions:
            with self.subTest(name):
                self.assertEqual([d.id for d in query.get()], expected)
        for name, query, expected, (group, *fields) in needing:
            with self.subTest(name):
                if not os.environ.get("WATCHFIRE_TARGET_HOST"):
                    self.refused(query, r"The query requires an index\. You can create it here: https://console\.firebase\.google\.com/v1/r/project/")
                    self.create_index(group, *fields)
                self.assertEqual([d.id for d in query.stream()], expected)

    def test_documents_and_projections(self):
        got = {d.id: d.to_dict() for d in self.db.collection("movies").stream()}
        self.assertEqual(got, dict(self.movies))
        some = self.db.collection("airports").where(filter=where("state", "==", "HI")).select(["city"]).get()
        self.assertTrue(some and all(list(d.to_dict()) == ["city"] for d in some))

    def test_pages(self):
        seen, last = [], None
        while True:
            query = self.db.collection("airports").order_by("state").limit(500)
            page = (query.start_after(last) if last else query).get()
            if not page:
                break
            seen += [d.id for d in page]
            last = page[-1]
        self.assertEqual(seen, ordered(list(self.airports), "state"))

    def test_collection_group(self):
        self.real()
        query = self.db.collection_group("fields").where(filter=where("latitude", ">", 60))
        self.refused(query, "COLLECTION_GROUP_ASC index for collection fields and field latitude")
        name = f"{self.group('fields')}/fields/latitude"
        field = self.admin.get_field(name=name)
        self.assertTrue(field.index_config.uses_ancestor_config)
        modes = [{"query_scope": i.query_scope, "fields": i.fields} for i in field.index_config.indexes]
        modes.append({"query_scope": "COLLECTION_GROUP", "fields": [{"field_path": "latitude", "order": "ASCENDING"}]})
        request = {"field": {"name": name, "index_config": {"indexes": modes}}, "update_mask": {"paths": ["index_config"]}}
        self.admin.update_field(request=request).result(timeout=60)
        want = ordered([a for a in self.airports if a[1]["state"] == "AK" and a[1]["latitude"] > 60], "latitude")
        self.assertEqual([d.id for d in query.stream()], want)
        self.assertIn(name, [f.name for f in self.admin.list_fields(request={"parent": self.group("-"), "filter": "indexConfig.usesAncestorConfig:false"})])

    def test_admin(self):
        self.real()
        index = self.create_index("administered", ("a", "ASC"), ("tags", "CONTAINS"), ("b", "DESC"))
        self.assertEqual([f.field_path for f in index.fields], ["a", "tags", "b", "__name__"])
        self.assertEqual(index.fields[-1].order, firestore_admin_v1.Index.IndexField.Order.DESCENDING)
        self.assertEqual(self.admin.get_index(name=index.name).name, index.name)
        self.assertEqual([i.name for i in self.admin.list_indexes(parent=self.group("administered"))], [index.name])
        with self.assertRaises(exceptions.AlreadyExists):
            self.create_index("administered", ("a", "ASC"), ("tags", "CONTAINS"), ("b", "DESC"))
        with self.assertRaises(exceptions.InvalidArgument):
            self.create_index("administered", ("a", "ASC"), ("a", "DESC"))
        self.admin.delete_index(name=index.name)
        with self.assertRaises(exceptions.NotFound):
            self.admin.get_index(name=index.name)

    def test_transactions(self):
        counter = self.db.document("counters/one")
        counter.set({"n": 0})

        def add(_):
            @firestore.transactional
            def once(transaction):
                n = counter.get(transaction=transaction).get("n")
                transaction.update(counter, {"n": n + 1})

            client = firestore.Client(project=self.project)
            once(client.transaction(max_attempts=50))
            client.close()

        threads = [threading.Thread(target=add, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(counter.get().get("n"), 5)

        @firestore.transactional
        def both(transaction):
            found = [d.id for d in transaction.get(self.db.collection("airports").where(filter=where("state", "==", "HI")))]
            one = next(iter(transaction.get(self.db.document("airports/SFO"))))
            return found, one.get("city")

        found, city = both(self.db.transaction(read_only=True))
        self.assertEqual(found, ordered([a for a in self.airports if a[1]["state"] == "HI"]))
        self.assertEqual(city, "San Francisco")

    def test_listen(self):
        heard = []
        lock = threading.Lock()

        def on_snapshot(documents, changes, read_time):
            with lock:
                heard.append([(d.id, d.get("n")) for d in documents])

        room = self.db.collection("heard")
        room.document("a").set({"n": 1})
        watch = room.where(filter=where("n", "<", 10)).order_by("n").on_snapshot(on_snapshot)
        try:
            until(lambda: heard == [[("a", 1)]], "the first snapshot")
            room.document("b").set({"n": 0})
            until(lambda: len(heard) == 2, "the second snapshot")
            room.document("a").update({"n": 50})
            until(lambda: len(heard) == 3, "the third snapshot")
            room.document("b").delete()
            until(lambda: len(heard) == 4, "the fourth snapshot")
        finally:
            watch.unsubscribe()
        self.assertEqual(heard, [[("a", 1)], [("b", 0), ("a", 1)], [("b", 0)], []])

    def test_aggregations(self):
        query = self.db.collection("airports").where(filter=where("state", "==", "TX"))
        want = [a[1]["latitude"] for a in self.airports if a[1]["state"] == "TX"]
        self.assertEqual(query.count(alias="all").get()[0][0].value, len(want))
        self.assertEqual(query.limit(10).count().get()[0][0].value, 10)
        counted = {r.alias: r.value for r in self.db.collection("airports").count(alias="all").get()[0]}
        self.assertEqual(counted, {"all": len(self.airports)})
        whole = self.db.collection("airports").sum("latitude", alias="s").avg("latitude", alias="a")
        got = {r.alias: r.value for r in whole.get()[0]}
        total = math.fsum(a[1]["latitude"] for a in self.airports)
        self.assertAlmostEqual(got["s"], total, delta=1e-6)
        self.assertAlmostEqual(got["a"], total / len(self.airports), delta=1e-9)

    def test_find_nearest(self):
        points = self.db.collection("points")
        for i in range(20):
            points.document(f"p{i:02}").set({"at": Vector([float(i), 1.0, 0.0]), "color": "red" if i % 2 else "blue"})
        near = dict(vector_field="at", query_vector=Vector([6.2, 1.0, 0.0]), distance_measure=DistanceMeasure.EUCLIDEAN, limit=3)
        if not os.environ.get("WATCHFIRE_TARGET_HOST"):
            self.refused(points.find_nearest(**near), "Missing vector index configuration")
            self.create_index("points", ("at", 3))
            self.create_index("points", ("color", "ASC"), ("at", 3))
        got = [(d.id, round(d.get("d"), 6)) for d in points.find_nearest(**near, distance_result_field="d").stream()]
        self.assertEqual(got, [("p06", 0.2), ("p07", 0.8), ("p05", 1.2)])
        red = points.where(filter=where("color", "==", "red")).find_nearest(**near, distance_threshold=2.0).get()
        self.assertEqual([d.id for d in red], ["p07", "p05"])
        dots = points.find_nearest(**{**near, "distance_measure": DistanceMeasure.DOT_PRODUCT}).get()
        self.assertEqual([d.id for d in dots], ["p19", "p18", "p17"])

    def test_explain(self):
        self.real()
        query = self.db.collection("airports").where(filter=where("state", "==", "HI"))
        planned = query.get(explain_options=ExplainOptions(analyze=False))
        self.assertEqual(list(planned), [])
        self.assertEqual(
            [dict(i) for i in planned.get_explain_metrics().plan_summary.indexes_used],
            [{"query_scope": "Collection", "properties": "(state ASC, __name__ ASC)"}],
        )
        done = query.get(explain_options=ExplainOptions(analyze=True))
        metrics = done.get_explain_metrics()
        self.assertEqual([d.id for d in done], ordered([a for a in self.airports if a[1]["state"] == "HI"]))
        self.assertEqual(metrics.execution_stats.results_returned, len(done))
        self.assertIsInstance(metrics.execution_stats.execution_duration, datetime.timedelta)
        counted = query.count().get(explain_options=ExplainOptions(analyze=True))
        self.assertEqual(counted[0][0].value, len(done))
        self.assertEqual(int(counted.get_explain_metrics().execution_stats.debug_stats["documents_scanned"]), 0)

    def test_partitions(self):
        self.real()
        group = self.db.collection_group("airports")
        whole = [d.id for d in group.order_by("__name__").stream()]
        self.assertEqual(len(whole), len(self.airports))
        # This client counts the cuts, the one for Node the parts between them.
        partitions = list(group.get_partitions(4))
        self.assertEqual(len(partitions), 5)
        self.assertEqual([d.id for p in partitions for d in p.query().stream()], whole)

    def test_the_past(self):
        past = self.db.collection("past")
        past.document("a").set({"n": 1})
        at = past.document("b").set({"n": 2}).update_time
        past.document("a").set({"n": 10})
        past.document("b").delete()
        self.assertEqual([(d.id, d.get("n")) for d in past.order_by("n").stream(read_time=at)], [("a", 1), ("b", 2)])
        self.assertEqual(past.document("a").get(read_time=at).get("n"), 1)
        self.assertEqual(past.count().get(read_time=at)[0][0].value, 2)
        self.assertEqual([(d.id, d.get("n")) for d in past.order_by("n").stream()], [("a", 10)])


if __name__ == "__main__":
    unittest.main(verbosity=2)
