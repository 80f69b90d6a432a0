# SPDX-License-Identifier: MIT
# All CPUs, and work for the garbage collector.
# says: 303 primes below 2000
java -cp /opt/dunelab Primes 2000
