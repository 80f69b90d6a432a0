/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=600 slow=400 runs=1 spread=10 */
/* gc_xml.c with ten documents, one after the other, each of them garbage when the next comes. */
#define NAME		"xml_ten"
#define DOCUMENTS	10
#define RECORDS		1500UL
#include "gc_xml.c"
