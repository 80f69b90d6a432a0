/* SPDX-License-Identifier: MIT */
/* A name that programs written for Dune include: it has all that dune.h has. */
#ifndef LIBDUNE_COMPAT_LOCAL_H
#define LIBDUNE_COMPAT_LOCAL_H

#include "dune.h"

#ifdef __cplusplus
extern "C" {
#endif

/* glibc has it and declares it nowhere. */
int arch_prctl(int code, unsigned long *addr);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_COMPAT_LOCAL_H */
