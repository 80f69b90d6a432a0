/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/* The names of the public headers, in C. */
#include "../names.h"

int main(void)
{
	return names_main();
}
