"""Hooks for gunicorn that count requests, those that are being answered, and how long that took.

    PYTHONPATH=raindrops-slab/bindings/python RAINDROPS_SLAB_LIB=target/release/libraindrops_slab.so \
        gunicorn -c raindrops-slab/examples/gunicorn_slab.py -w 4 module:app

Copy it into your own configuration file. RAINDROPS_SLAB_FILE is the path of the slab; without it the
counters are memory of the master and its workers.
"""

import os
import time

import raindrops_slab

FIELDS = {
    "requests": "counter",
    "calling": "gauge",
    "longest": ("max", "us"),
    "answer": ("histogram", "us", 60_000_000),
}


def on_starting(server):
    # Old and new workers are there at the same time while gunicorn reloads.
    slots = 4 * max(server.cfg.workers, 16)
    # Not a global of this file, which is read again when gunicorn reloads.
    path = os.environ.get("RAINDROPS_SLAB_FILE")
    server.slab = raindrops_slab.create("gunicorn", slots, FIELDS, path)


def post_fork(server, worker):
    one_thread = server.cfg.worker_class_str == "sync"
    worker.slot = server.slab.single if one_thread else server.slab.slot
    # Claims, so that a worker without requests is seen too; says it where none is free.
    worker.slot.incr("requests", 0)


def pre_request(worker, req):
    req.counted = (time.monotonic_ns(), worker.slot.hold("calling"))


def post_request(worker, req, environ, resp):
    began, held = req.counted
    took = (time.monotonic_ns() - began) // 1000
    worker.slot.incr("requests")
    worker.slot.record("answer", took)
    worker.slot.raise_max("longest", took)
    worker.slot.give_back("calling", held)
