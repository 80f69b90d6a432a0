# SPDX-License-Identifier: MIT
# The same from its source: the Java compiler is a large Java program.
# slow
# says: 25 primes below 100
java /opt/dunelab/Primes.java 100
