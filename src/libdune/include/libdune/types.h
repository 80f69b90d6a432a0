/* SPDX-License-Identifier: MIT */
/* Integer types under the names that programs written for Dune use. */
#ifndef LIBDUNE_TYPES_H
#define LIBDUNE_TYPES_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int bool_t;
typedef uint64_t physaddr_t;	/* a guest-physical address */
typedef uint64_t ppn_t;		/* the number of a guest-physical page */

#endif /* LIBDUNE_TYPES_H */
