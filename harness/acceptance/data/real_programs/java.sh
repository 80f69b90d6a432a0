# SPDX-License-Identifier: MIT
# Two virtual machines: one with a collector of many threads, one that compiles.

java -Xmx128m -XX:+UseParallelGC -cp /opt/dunelab Primes 30000
java -Xmx128m "$DATA/Threads.java" one two
