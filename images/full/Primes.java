// SPDX-License-Identifier: MIT
// Java Primes N: how many primes there are below N, counted by all CPUs, with
// garbage for the collector.  Source and class are in /opt/dunelab of the guest.

import java.math.BigInteger;
import java.util.stream.IntStream;

public class Primes {
    public static void main(String[] arguments) {
        int limit = Integer.parseInt(arguments[0]);
        long found = IntStream.range(2, limit)
            .parallel()
            .mapToObj(BigInteger::valueOf)
            .filter(Primes::isPrime)
            .count();
        System.out.println(found + " primes below " + limit);
    }

    private static boolean isPrime(BigInteger number) {
        for (BigInteger d = BigInteger.TWO; d.multiply(d).compareTo(number) <= 0; d = d.add(BigInteger.ONE)) {
            if (number.mod(d).signum() == 0) {
                return false;
            }
        }
        return true;
    }
}
