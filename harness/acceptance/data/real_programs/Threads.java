// SPDX-License-Identifier: MIT
// Threads, locks, null pointers and stack overflows (which are signals), a child.

import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;

public class Threads {
    private static int depth;

    private static void deeper() {
        depth++;
        deeper();
    }

    public static void main(String[] arguments) throws Exception {
        AtomicLong sum = new AtomicLong();
        Thread[] threads = new Thread[8];
        for (int i = 0; i < threads.length; i++) {
            int own = i;
            threads[i] = new Thread(() -> {
                for (int j = 0; j < 20000; j++) {
                    sum.addAndGet(j ^ own);
                }
            });
            threads[i].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println(sum);
        try (var pool = Executors.newVirtualThreadPerTaskExecutor()) {
            for (int i = 0; i < 100; i++) {
                pool.submit(() -> sum.incrementAndGet());
            }
        }
        System.out.println(sum);

        int caught = 0;
        for (int i = 0; i < 20000; i++) {
            Object nothing = i % 2 == 0 ? null : "";
            try {
                nothing.hashCode();
            } catch (NullPointerException e) {
                caught++;
            }
        }
        System.out.println(caught);
        try {
            deeper();
        } catch (StackOverflowError e) {
            System.out.println(depth > 1000);
        }
        Process child = new ProcessBuilder("sh", "-c", "echo $0; exit 3", arguments[0]).start();
        System.out.print(new String(child.getInputStream().readAllBytes()));
        System.out.println(child.waitFor());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        System.exit(4);
    }
}
