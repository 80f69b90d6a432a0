/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * A C++ program in Dune mode: constructors before main, exceptions that are
 * thrown and caught after entry, containers, streams, threads of its own
 * outside.
 */
#include "../dune_test.h"

#include <atomic>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Early {
	std::string word = "constructed";
};

Early early;

struct Guard {
	explicit Guard(unsigned int &c) : count(c) {}
	~Guard() { count++; }
	Guard(const Guard &) = delete;
	Guard &operator=(const Guard &) = delete;
	unsigned int &count;
};

__attribute__((noinline)) unsigned int thrower(unsigned int depth, unsigned int &unwound)
{
	Guard guard(unwound);

	if (depth == 0)
		throw std::runtime_error("from the bottom");
	return thrower(depth - 1, unwound) + 1;
}

bool exceptions_unwind()
{
	unsigned int unwound = 0;

	try {
		thrower(100, unwound);
	} catch (const std::exception &e) {
		return unwound == 101 && std::string(e.what()) == "from the bottom";
	}
	return false;
}

bool containers_work()
{
	std::map<std::string, std::vector<int>> map;
	long sum = 0;

	for (int i = 0; i < 10000; i++)
		map[std::to_string(i % 100)].push_back(i);
	for (const auto &entry : map)
		for (int value : entry.second)
			sum += value;
	return map.size() == 100 && sum == 49995000;
}

bool streams_work()
{
	std::ostringstream out;

	out << 3.5 << ' ' << std::hex << 255;
	return out.str() == "3.5 ff";
}

volatile unsigned int skipped;

void skip_ud2(struct dune_tf *tf)
{
	skipped = skipped + 1;
	tf->rip += 2;
}

} // namespace

int main()
{
	std::atomic<bool> stop{false};
	std::atomic<unsigned long> beats{0};
	std::thread outside([&] {
		while (!stop) {
			beats++;
			std::this_thread::yield();
		}
	});

	ktap_plan(DUNE_TEST_ENTER + 7 + DUNE_TEST_LEAVE);
	outside.detach();	/* so that giving up needs no join */
	dune_test_enter();
	ktap_ok(early.word == "constructed", "static objects were constructed");
	ktap_ok(exceptions_unwind(), "a C++ exception unwinds a hundred frames");
	ktap_ok(containers_work(), "containers");
	ktap_ok(streams_work(), "streams");

	ktap_eq(dune_register_intr_handler(6, skip_ud2), 0, "a handler written in C++");
	asm volatile("ud2" : : : "memory");
	ktap_eq(skipped, 1, "and its call");

	unsigned long first = beats;

	for (int i = 0; i < 1000 && beats == first; i++)
		std::this_thread::sleep_for(std::chrono::milliseconds(1));
	ktap_ok(beats != first, "a thread outside Dune mode goes on");
	stop = true;
	return dune_test_done();
}
