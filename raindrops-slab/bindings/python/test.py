"""RAINDROPS_SLAB_LIB=target/release/libraindrops_slab.so python3 raindrops-slab/bindings/python/test.py"""

import contextlib
import gc
import io
import os
import pickle
import signal
import tempfile
import threading
import unittest

import raindrops_slab

FIELDS = {
    "requests": "counter",
    "bytes": ("counter", "bytes"),
    "calling": "gauge",
    "longest": ("max", "us"),
    "answer": ("histogram", "us", 1_000_000),
}


def create(slots=4, path=None):
    return raindrops_slab.create("shop", slots, FIELDS, path)


def values(slab, *names):
    totals = slab.totals()
    return [totals[name] for name in names]


def in_child(body):
    """What it returns there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, pickle.dumps(body()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = pickle.load(pipe)
    os.waitpid(pid, 0)
    return result


class Counting(unittest.TestCase):
    def test_all_kinds_are_counted(self):
        for single in False, True:
            with self.subTest(single=single):
                slab = create()
                slot = slab.claim(single)
                slot.incr("requests")
                slot.incr("bytes", 1 << 40)
                slot.incr("calling", 3)
                slot.decr("calling")
                slot.decr("calling", 5)
                slot.raise_max("longest", 70)
                slot.raise_max("longest", 50)
                slot.record("answer", 5)
                slot.record("answer", 2_000_000)
                answer = raindrops_slab.Histogram(2_000_005, [(5, 5, 1), (1_048_576, None, 1)])
                expected = dict(requests=1, bytes=1 << 40, calling=-3, longest=70, answer=answer)
                self.assertEqual(slab.totals(), expected)
                self.assertEqual(answer.count, 2)
                self.assertEqual([answer.quantile(rank) for rank in (0.5, 1)], [(5, 5), (1_048_576, None)])
                slot.set("calling", -7)
                self.assertEqual(values(slab, "calling"), [-7])
                slot.release()
                self.assertEqual(values(slab, "requests", "calling", "longest"), [1, 0, 70])

    def test_both_find_the_same_buckets(self):
        numbers = {0, (1 << 64) - 1}
        numbers |= {(1 << power) + more for power in range(64) for more in (-1, 0, 1)}
        numbers |= {3 << power for power in range(60)}
        for highest in 1, 1000, 1 << 63:
            fields = {"answer": ("histogram", "us", highest)}
            answers = []
            for single in False, True:
                slab = raindrops_slab.create("shop", 1, fields)
                slot = slab.claim(single)
                for number in numbers:
                    slot.record("answer", number)
                answers.append(slab.totals())
            self.assertEqual(*answers)

    def test_threads_lose_nothing(self):
        slab = create()

        def count():
            for _ in range(20_000):
                slab.slot.incr("requests")
                slab.slot.record("answer", 3)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        requests, answer = values(slab, "requests", "answer")
        self.assertEqual((requests, answer.count, answer.sum), (80_000, 80_000, 240_000))
        self.assertEqual(slab.slot.index, 0)

    def test_a_child_claims_a_slot_of_its_own(self):
        for single in False, True:
            with self.subTest(single=single):
                slab = create()
                slot = slab.single if single else slab.slot
                slot.incr("requests")
                slot.set("calling", 1)

                def count():
                    before = slot.index
                    slot.incr("requests")
                    slot.incr("calling")
                    return before, slot.index, values(slab, "requests", "calling")

                self.assertEqual(in_child(count), (None, 1, [2, 2]))
                # The child's gauge ended with it, and this process's did not.
                self.assertEqual(values(slab, "requests", "calling"), [2, 1])
                self.assertEqual(slot.index, 0)

    def test_what_a_killed_child_was_doing_is_gone(self):
        slab = create()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            slab.single.incr("requests", 10)
            slab.single.incr("calling")
            os.write(writer, b"x")
            signal.pause()
        os.read(reader, 1)
        self.assertEqual(values(slab, "requests", "calling"), [10, 1])
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.assertEqual(values(slab, "requests", "calling"), [10, 0])

    def test_what_a_parent_holds_its_child_does_not_give_back(self):
        slab = create()
        held = slab.slot.hold("calling")

        def give_back():
            slab.slot.give_back("calling", held)
            return values(slab, "calling")

        self.assertEqual(in_child(give_back), [1])
        self.assertEqual(give_back(), [0])

    def test_a_server_does_not_end_for_want_of_a_slot(self):
        slab = create(slots=1)
        slab.claim().incr("requests")
        gc.collect()
        kept = slab.claim()
        kept.incr("requests")
        complaint = io.StringIO()
        with contextlib.redirect_stderr(complaint):
            for slot in slab.slot, slab.single:
                slot.incr("requests")
                slot.record("answer", 1)
        text = "does not count: all 1 slots of slab shop are taken: create it with more\n"
        self.assertEqual(complaint.getvalue().count(text), 2)
        self.assertEqual(values(slab, "requests"), [2])
        with self.assertRaisesRegex(raindrops_slab.Error, "^all 1 slots of slab shop are taken"):
            slab.claim()

    def test_a_file_is_opened_by_others(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "shop.slab")
            made = create(path=path)
            made.slot.incr("requests")
            opened = raindrops_slab.open(path)
            self.assertEqual(made.fields, opened.fields)
            opened.slot.incr("requests")
            self.assertEqual(values(made, "requests"), [2])
            self.assertEqual(values(raindrops_slab.from_fd(made.fileno()), "requests"), [2])
            opened.close()
            with self.assertRaises(raindrops_slab.Error):
                made.claim()

    def test_mistakes_are_told(self):
        slot = create().slot
        for message, mistake in {
            "there is no field 'nothing'": lambda: slot.incr("nothing"),
            "cannot add -1 to requests": lambda: slot.incr("requests", -1),
            "cannot add 1 to answer": lambda: slot.incr("answer"),
            "requests is no gauge": lambda: slot.decr("requests"),
            "longest is no gauge": lambda: slot.set("longest", 1),
            "cannot raise longest to -1": lambda: slot.raise_max("longest", -1),
            "cannot record 1 in requests": lambda: slot.record("requests", 1),
            "no kind of field: 'counts'": lambda: raindrops_slab.create("a", 1, {"a": "counts"}),
            "slots: 0": lambda: raindrops_slab.create("a", 0, {"a": "counter"}),
            "embedded null byte": lambda: raindrops_slab.open("a\0b"),
        }.items():
            with self.assertRaises(ValueError) as told:
                mistake()
            self.assertEqual(str(told.exception), message)
        with self.assertRaisesRegex(raindrops_slab.Error, "^cannot open /nonexistent: No such file"):
            raindrops_slab.open("/nonexistent")
        slot.release()
        with self.assertRaisesRegex(raindrops_slab.Error, "^the slot has been released$"):
            slot.incr("requests")


if __name__ == "__main__":
    unittest.main()
