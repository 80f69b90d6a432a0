# SPDX-License-Identifier: MIT
"""Threads with locks, conditions and queues; signals and timers beside them."""

import concurrent.futures
import queue
import signal
import threading
import time

seen: list[int] = []
lock = threading.Lock()


def note(number: int) -> None:
    with lock:
        seen.append(number)


threads = [threading.Thread(target=note, args=(i,)) for i in range(40)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(seen))

work: queue.Queue[int | None] = queue.Queue(3)
total = 0


def consume() -> None:
    global total
    while (item := work.get()) is not None:
        total += item


consumer = threading.Thread(target=consume)
consumer.start()
for i in range(500):
    work.put(i)
work.put(None)
consumer.join()
print(total)

with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(lambda n: sum(range(n)), range(0, 2000, 100))))

local = threading.local()
local.value = "main"
barrier = threading.Barrier(3)
timer = threading.Timer(0.05, lambda: print("timer", hasattr(local, "value")))
timer.start()
timer.join()

alarms = []
signal.signal(signal.SIGALRM, lambda number, _: alarms.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
while len(alarms) < 5:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
print(set(alarms) == {signal.SIGALRM})

event = threading.Event()
waiter = threading.Thread(target=lambda: print("event", event.wait(30)))
waiter.start()
time.sleep(0.05)
event.set()
waiter.join()
