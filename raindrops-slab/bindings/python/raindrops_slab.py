"""Counters in shared memory that raindrops, or anybody, reads from outside; see docs/slabs.md.

    slab = raindrops_slab.create("shop", 8, {
        "requests": "counter", "calling": "gauge", "longest": ("max", "us"),
        "answer": ("histogram", "us", 60_000_000),
    })                              # before the server forks
    slot = slab.slot                # this process's, in each process another
    slot.incr("requests")
    slot.record("answer", 1200)
    slab.totals()                   # {"requests": 1, "calling": 0, "longest": 0, "answer": ...}

One file, for CPython 3.8 and later on 64-bit Linux, without dependencies. It needs
libraindrops_slab.so: at the path in RAINDROPS_SLAB_LIB, else where the system's loader finds it.

Threads: `slab.slot` may be used by all threads of a process; each count is one atomic instruction,
by a call of the library. A process with one thread, such as gunicorn's sync workers, may claim
`slab.single` instead, which counts in Python: only the thread that counts there first may.

Forks: a child claims a slot of its own when it first counts. Nothing is asked for this at each
count: a hook of os.register_at_fork empties the child's table of addresses.
"""

import collections
import ctypes
import os
import sys
import threading
import weakref

__all__ = ["Error", "Field", "Histogram", "Slab", "create", "from_fd", "open"]

_KINDS = {"counter": 1, "gauge": 2, "max": 3, "histogram": 4}
_SINGLE, _SHARED = 0, 1
_WRAP = 1 << 64
_MOST = (1 << 63) - 1


class Error(Exception):
    """What the library refuses."""


Field = collections.namedtuple("Field", "name kind unit words")


class Histogram(collections.namedtuple("Histogram", "sum buckets")):
    """How values are spread: `buckets` has (least, greatest, count) of the ranges that any value fell
    into. The greatest of the last range is None: it is of everything above."""

    __slots__ = ()

    @property
    def count(self):
        return sum(count for _, _, count in self.buckets)

    def quantile(self, rank):
        """The range (least, greatest) that a value of this rank, from 0 to 1, falls into."""
        wanted = max(1, -int(-self.count * rank // 1))
        for least, greatest, count in self.buckets:
            wanted -= count
            if wanted <= 0:
                return least, greatest
        return None


class _Declared(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_uint32),
        ("unit", ctypes.c_char_p),
        ("highest", ctypes.c_uint64),
    ]


class _Words(ctypes.Structure):
    _fields_ = [("words", ctypes.c_void_p), ("buckets", ctypes.c_uint32)]


def _load():
    path = os.environ.get("RAINDROPS_SLAB_LIB", "libraindrops_slab.so")
    try:
        # None of its functions waits, so that they keep the lock of the interpreter.
        library = ctypes.PyDLL(path)
    except OSError as error:
        raise ImportError(
            f"{error}: set RAINDROPS_SLAB_LIB to the path of libraindrops_slab.so "
            "(`cargo build --release -p raindrops-slab-c` makes it)"
        ) from error
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    signatures = {
        "slab_error": (text,),
        "slab_create": (pointer, text, text, ctypes.c_uint32, pointer, ctypes.c_size_t),
        "slab_open": (pointer, text),
        "slab_from_fd": (pointer, ctypes.c_int),
        "slab_fd": (ctypes.c_int, pointer),
        "slab_close": (ctypes.c_int, pointer),
        "slab_free": (None, pointer),
        "slab_claim": (pointer, pointer, ctypes.c_uint32),
        "slab_fields": (ctypes.c_int64, pointer),
        "slab_field": (ctypes.c_int, pointer, ctypes.c_size_t, pointer, pointer),
        "slab_totals": (ctypes.c_int64, pointer, pointer, ctypes.c_size_t),
        "slot_word": (pointer, pointer, text, ctypes.c_uint32),
        "slot_histogram": (ctypes.c_int, pointer, text, pointer),
        "slot_index": (ctypes.c_int64, pointer),
        "slot_release": (None, pointer),
        "word_add": (None, pointer, ctypes.c_uint64),
        "word_set": (None, pointer, ctypes.c_uint64),
        "word_raise": (None, pointer, ctypes.c_uint64),
        "words_record": (None, pointer, ctypes.c_uint32, ctypes.c_uint64),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, f"raindrops_{name}")
        function.restype, function.argtypes = result, arguments
    return library


_library = _load()


def _check(result):
    if result is None or result == -1:
        raise Error(_library.raindrops_slab_error().decode())
    return result


def _bytes(text):
    raw = os.fsencode(text)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    return raw


def create(name, slots, fields, path=None):
    """Creates a slab with room for `slots` processes at one time. `fields` says of each name whether
    it is a "counter", a "gauge", a "max" or a "histogram", or, with its unit, ("counter", "bytes"); a
    histogram has the highest value that it tells apart too: ("histogram", "us", 60_000_000).

    Without a path it is memory of this process and those that it forks."""
    declared = (_Declared * len(fields))()
    for entry, (field, how) in zip(declared, fields.items()):
        kind, unit, highest = (*((how,) if isinstance(how, str) else how), None, None)[:3]
        if kind not in _KINDS:
            raise ValueError(f"no kind of field: {kind!r}")
        if (highest is None) == (kind == "histogram"):
            raise ValueError(f"{field}: a histogram, and nothing else, has a highest value")
        entry.name, entry.kind, entry.highest = _bytes(field), _KINDS[kind], highest or 0
        entry.unit = None if unit is None else _bytes(unit)
    if not 1 <= slots < 1 << 32:
        raise ValueError(f"slots: {slots}")
    path = None if path is None else _bytes(path)
    made = _library.raindrops_slab_create(path, _bytes(name), slots, declared, len(declared))
    return Slab(_check(made))


def open(path):
    """Opens a slab's file that another process has created."""
    return Slab(_check(_library.raindrops_slab_open(_bytes(path))))


def from_fd(fd):
    """The slab of a descriptor that another process has handed over."""
    return Slab(_check(_library.raindrops_slab_from_fd(fd)))


class Slab:
    """Made by `create`, `open` and `from_fd`."""

    def __init__(self, pointer):
        self._pointer = pointer
        self._free = weakref.finalize(self, _library.raindrops_slab_free, pointer)
        self._free.atexit = False
        self.fields = tuple(map(self._field, range(_check(_library.raindrops_slab_fields(pointer)))))
        # The slot of this process, whichever it is: claimed when it first counts, in each child
        # again. Where none is free, that is said once on standard error, and what it counts is lost:
        # a server does not end for want of counters.
        self.slot = Slot(self)
        # The same of a process in which one thread counts.
        self.single = SingleSlot(self)

    def _field(self, index):
        declared, words = _Declared(), ctypes.c_uint32()
        found = _library.raindrops_slab_field(
            self._pointer, index, ctypes.byref(declared), ctypes.byref(words)
        )
        _check(found)
        kind = next(kind for kind, number in _KINDS.items() if number == declared.kind)
        return Field(declared.name.decode(), kind, declared.unit.decode(), words.value)

    def claim(self, single=False):
        """Claims a slot now, and raises where none is free."""
        slot = SingleSlot(self) if single else Slot(self)
        slot.claim()
        return slot

    def totals(self):
        """What all processes have counted, and the gauges of those that live."""
        count = sum(field.words for field in self.fields)
        words = (ctypes.c_uint64 * count)()
        _check(_library.raindrops_slab_totals(self._pointer, words, count))
        totals, at = {}, 0
        for field in self.fields:
            totals[field.name] = _value(field, words[at : at + field.words])
            at += field.words
        return totals

    def close(self):
        """Lets nobody claim a slot any more. Counts can still be read."""
        _check(_library.raindrops_slab_close(self._pointer))

    def fileno(self):
        """Its descriptor, to hand over to another process."""
        return _check(_library.raindrops_slab_fd(self._pointer))


def _value(field, words):
    if field.kind == "gauge":
        return words[0] - _WRAP if words[0] > _MOST else words[0]
    if field.kind != "histogram":
        return words[0]
    last = field.words - 2
    buckets = ((*_range(bucket, last), count) for bucket, count in enumerate(words[1:]) if count)
    return Histogram(words[0], list(buckets))


def _range(bucket, last):
    shift = max(bucket // 4 - 1, 0)
    least = bucket if bucket < 4 else (4 + bucket % 4) << shift
    return least, None if bucket == last else least + (1 << shift) - 1


class Slot:
    """Where one process counts, in all its threads."""

    _writing = _SHARED

    def __init__(self, slab):
        self._slab = slab
        self._lock = threading.Lock()
        self._released = False
        self._forget()
        _slots.add(self)

    def incr(self, name, by=1):
        """Adds to a counter or gauge."""
        kind, word = self._fields.get(name) or self._find(name)
        if kind > 2 or (by < 0 and kind == 1):
            raise ValueError(f"cannot add {by} to {name}")
        self._add(word, by)

    add = incr

    def decr(self, name, by=1):
        """Takes from a gauge."""
        kind, word = self._fields.get(name) or self._find(name)
        if kind != 2:
            raise ValueError(f"{name} is no gauge")
        self._add(word, -by)

    def set(self, name, level):
        """Sets a gauge."""
        kind, word = self._fields.get(name) or self._find(name)
        if kind != 2:
            raise ValueError(f"{name} is no gauge")
        self._set(word, level)

    def raise_max(self, name, value):
        """Raises a max to `value`, unless it is there or above."""
        kind, word = self._fields.get(name) or self._find(name)
        if kind != 3 or value < 0:
            raise ValueError(f"cannot raise {name} to {value}")
        self._raise(word, value)

    def record(self, name, value):
        """Records a value, which is not negative, in a histogram."""
        kind, words = self._fields.get(name) or self._find(name)
        if kind != 4 or value < 0:
            raise ValueError(f"cannot record {value} in {name}")
        self._record(words, value)

    def hold(self, name):
        """Adds one to a gauge until `give_back`. What it returns is for that, which does nothing in a
        child that has been forked in between: what is held is its parent's."""
        self.incr(name)
        return self._fields[name]

    def give_back(self, name, held):
        if self._fields.get(name) is held:
            self.decr(name)

    def claim(self):
        """Claims it in this process, where it has not been."""
        with self._lock:
            if self._pointer is None and not self._released:
                self._fill()
        return self

    @property
    def index(self):
        """Its number in the slab, when it is claimed."""
        if self._pointer is None:
            return None
        return _check(_library.raindrops_slot_index(self._pointer))

    def release(self):
        """Gives it back: its counts stay, its gauges end. Also done when Python ends. Counting raises
        afterwards."""
        with self._lock:
            self._released = True
            give_back = self._give_back
            self._forget()
            if give_back is not None:
                give_back()

    def _forget(self):
        """In a child, where it is the parent's."""
        self._pointer = self._give_back = None
        self._fields = {}

    def _find(self, name):
        if self._released:
            raise Error("the slot has been released")
        if not self._fields:
            try:
                self.claim()
            except Error as error:
                print(f"raindrops_slab: process {os.getpid()} does not count: {error}", file=sys.stderr)
                self._lose()
        try:
            return self._fields[name]
        except KeyError:
            raise ValueError(f"there is no field {name!r}") from None

    def _fill(self):
        pointer = _check(_library.raindrops_slab_claim(self._slab._pointer, self._writing))
        self._give_back = weakref.finalize(self, _library.raindrops_slot_release, pointer)
        # At exit other threads may still count; of who has ended nothing needs to be given back.
        self._give_back.atexit = False
        fields = {}
        for field in self._slab.fields:
            name, kind = field.name.encode(), _KINDS[field.kind]
            if field.kind == "histogram":
                words = _Words()
                found = _library.raindrops_slot_histogram(pointer, name, ctypes.byref(words))
                _check(found)
                where = self._histogram(words.words, words.buckets)
            else:
                where = self._word(_check(_library.raindrops_slot_word(pointer, name, kind)))
            fields[field.name] = (kind, where)
        self._pointer, self._fields = pointer, fields

    def _lose(self):
        """Counts into memory that nobody reads."""
        self._lost = (ctypes.c_uint64 * max(field.words for field in self._slab.fields))()
        address = ctypes.addressof(self._lost)
        self._fields = {
            field.name: (
                _KINDS[field.kind],
                self._histogram(address, field.words - 1)
                if field.kind == "histogram"
                else self._word(address),
            )
            for field in self._slab.fields
        }

    # How a word is kept, and counted in.

    @staticmethod
    def _word(address):
        return address

    @staticmethod
    def _histogram(address, buckets):
        return address, buckets

    _add = staticmethod(_library.raindrops_word_add)
    _set = staticmethod(_library.raindrops_word_set)
    _raise = staticmethod(_library.raindrops_word_raise)

    @staticmethod
    def _record(words, value):
        _library.raindrops_words_record(*words, value)


class SingleSlot(Slot):
    """Where one process counts, in one thread: by an addition in Python, which no other may
    interrupt."""

    _writing = _SINGLE

    @staticmethod
    def _word(address):
        return memoryview((ctypes.c_uint64 * 1).from_address(address)).cast("B").cast("Q")

    @staticmethod
    def _histogram(address, buckets):
        words = (ctypes.c_uint64 * (1 + buckets)).from_address(address)
        return memoryview(words).cast("B").cast("Q")

    @staticmethod
    def _add(word, by):
        word[0] = (word[0] + by) % _WRAP

    @staticmethod
    def _set(word, level):
        word[0] = level % _WRAP

    @staticmethod
    def _raise(word, value):
        if value > word[0]:
            word[0] = value

    @staticmethod
    def _record(words, value):
        power = value.bit_length() - 1
        bucket = value if value < 4 else 4 * (power - 1) + (value >> (power - 2) & 3)
        words[1 + min(bucket, len(words) - 2)] += 1
        words[0] = (words[0] + value) % _WRAP


_slots = weakref.WeakSet()


def _forked():
    for slot in list(_slots):
        # Another thread may have had it.
        slot._lock = threading.Lock()
        slot._forget()


os.register_at_fork(after_in_child=_forked)
