/* SPDX-License-Identifier: MIT */
/*
 * What gnulib's configure would have found on a system where every function of
 * POSIX is there and right: no replacement of gnulib's takes part, so its tests
 * test the system.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/time.h>
#include <sys/types.h>

#define ENABLE_LOCKING 1
#define HAVE_SIGNED_SIGATOMIC_T 1
#define USE_POSIX_THREADS 1
#define STDC_HEADERS 1
#define EXEEXT ""
#define SRCDIR "."
#define BOURNE_SHELL "/bin/sh"
#define GETTIMEOFDAY_TIMEZONE void
#define PROMOTED_MODE_T mode_t
#define O_BINARY 0
#define O_TEXT 0

#define _GL_UNUSED __attribute__((__unused__))
#define _GL_UNUSED_LABEL _GL_UNUSED
#define _GL_ATTRIBUTE_MAYBE_UNUSED _GL_UNUSED
#define _GL_ATTRIBUTE_CONST
#define _GL_ATTRIBUTE_DEALLOC(f, i)
#define _GL_ATTRIBUTE_DEALLOC_FREE
#define _GL_ATTRIBUTE_DEPRECATED
#define _GL_ATTRIBUTE_FORMAT(spec)
#define _GL_ATTRIBUTE_MALLOC
#define _GL_ATTRIBUTE_NODISCARD
#define _GL_ATTRIBUTE_NONNULL(params)
#define _GL_ATTRIBUTE_NONNULL_IF_NONZERO(a, b)
#define _GL_ATTRIBUTE_NOTHROW
#define _GL_ATTRIBUTE_PURE
#define _GL_ATTRIBUTE_RETURNS_NONNULL
#define _GL_ASYNC_SAFE
#define _GL_INLINE static inline
#define _GL_EXTERN_INLINE static inline
#define _GL_INLINE_HEADER_BEGIN
#define _GL_INLINE_HEADER_END
#define _GL_CMP(a, b) (((a) > (b)) - ((a) < (b)))
#define posix_spawn_file_actions_addchdir posix_spawn_file_actions_addchdir_np
#define posix_spawn_file_actions_addfchdir posix_spawn_file_actions_addfchdir_np
