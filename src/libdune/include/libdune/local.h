/* SPDX-License-Identifier: MIT */
/* A name that programs written for Dune include: it has all that dune.h has. */
#ifndef LIBDUNE_COMPAT_LOCAL_H
#define LIBDUNE_COMPAT_LOCAL_H

#include "dune.h"

#endif /* LIBDUNE_COMPAT_LOCAL_H */
