/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=300 icount */
/* Reads of random pages (walk.h).  In guest mode each walk goes through two stages. */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"
#include "walk.h"

int main(void)
{
	struct bench native[2], dune[2];
	struct area small, large;
	bool huge;

	ktap_plan(DUNE_TEST_ENTER + 2 + DUNE_TEST_LEAVE);
	bench_pin();
	want_huge_page();
	map_area(&small, PAGES_4K, BIT4K, MFD_CLOEXEC);
	huge = map_area(&large, PAGES_2M, BIT2M, MFD_CLOEXEC | MFD_HUGETLB);
	bench_run(&native[0], walk, &small, OPERATIONS);
	if (huge)
		bench_run(&native[1], walk, &large, OPERATIONS);
	dune_test_enter();
	bench_run(&dune[0], walk, &small, OPERATIONS);
	bench_report("page_walk_4k_128_native", &native[0]);
	bench_report("page_walk_4k_128_dune", &dune[0]);
	ktap_eq(dune[0].exits, 0, "4 KB: no exit, once each page was touched");
	if (huge) {
		bench_run(&dune[1], walk, &large, OPERATIONS);
		bench_report("page_walk_2m_128_native", &native[1]);
		bench_report("page_walk_2m_128_dune", &dune[1]);
		ktap_eq(dune[1].exits, 0, "2 MB: no exit, once each page was touched");
	} else {
		ktap_skip("2 MB: no exit", "no huge page of 2 MB to be had");
	}
	return dune_test_done();
}
